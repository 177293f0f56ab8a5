//! The client's settings.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::pins::{Pinned, Pins};
use super::verifier::{Unverified, Verifier};
use super::{ConfigError, authorities, suites};

/// Whom a client trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Authorities trusted in addition to the system's: a PEM file, or a directory of them.
    pub ca_path: Option<PathBuf>,
    /// Accept any certificate of anyone. Whoever is in the way then reads and writes everything.
    pub no_verify: bool,
    /// Keys one of which the server must have, whatever else is checked.
    pub pins: Option<Pins>,
}

/// Builds the library's client configuration: TLS 1.2 and 1.3, AES-128-GCM first.
///
/// # Errors
///
/// [`ConfigError`] when authorities cannot be read, or there are none.
pub fn client_config(settings: &ClientTls) -> Result<Arc<ClientConfig>, ConfigError> {
    let provider = Arc::new(suites::provider());
    let mut verifier = verifier(settings, &provider)?;
    if let Some(pins) = settings.pins.clone() {
        verifier = Arc::new(Pinned {
            inner: verifier,
            provider: Arc::clone(&provider),
            pins,
        });
    }
    Ok(config(provider, verifier)?)
}

/// Builds the same for a client that trusts these authorities and nobody else.
///
/// # Errors
///
/// The library's, when it cannot use one of them.
pub fn client_config_from(
    authorities: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut store = RootCertStore::empty();
    for authority in authorities {
        store.add(authority)?;
    }
    let provider = Arc::new(suites::provider());
    let verifier = library_verifier(store, &provider)?;
    config(provider, verifier)
}

fn config(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    // For the in-place record layer, which needs the keys. Tickets are ignored there, and a
    // proxy connects so seldom that a resumed handshake would save nothing.
    config.enable_secret_extraction = true;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn verifier(
    settings: &ClientTls,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, ConfigError> {
    if settings.no_verify {
        return Ok(Arc::new(Unverified(Arc::clone(provider))));
    }
    let (store, given) = authorities::load(settings.ca_path.as_deref())?;
    let library = library_verifier(store, provider)?;
    Ok(Arc::new(Verifier { library, given }))
}

fn library_verifier(
    store: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
    WebPkiServerVerifier::builder_with_provider(store.into(), Arc::clone(provider))
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))
}
