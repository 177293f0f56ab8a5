//! The client's settings.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use super::{ConfigError, authorities, suites};

/// Whom a client trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Authorities trusted in addition to the system's: a PEM file, or a directory of them.
    pub ca_path: Option<PathBuf>,
    /// Accept any certificate of anyone. Whoever is in the way then reads and writes everything.
    pub no_verify: bool,
}

/// Builds the library's client configuration: TLS 1.2 and 1.3, AES-128-GCM first.
///
/// # Errors
///
/// [`ConfigError`] when authorities cannot be read, or there are none.
pub fn client_config(settings: &ClientTls) -> Result<Arc<ClientConfig>, ConfigError> {
    let provider = Arc::new(suites::provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let mut config = if settings.no_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
            .with_no_client_auth()
    } else {
        builder
            .with_root_certificates(authorities::load(settings.ca_path.as_deref())?)
            .with_no_client_auth()
    };
    // For the in-place record layer, which needs the keys. Tickets are ignored there, and a
    // proxy connects so seldom that a resumed handshake would save nothing.
    config.enable_secret_extraction = true;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Accepts every certificate and every signature.
///
/// Not even the signature is checked: without a verified certificate it proves nothing, and the
/// library cannot read some certificates that people use this for.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
