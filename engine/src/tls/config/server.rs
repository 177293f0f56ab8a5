//! The server's settings.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WantsServerCert};
use rustls::{ConfigBuilder, ServerConfig};

use super::{ConfigError, pem, suites};

/// Who a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate and, behind it, those that lead to the authority; PEM.
    pub certificate: PathBuf,
    /// Its private key; PEM, readable by its owner alone.
    pub key: PathBuf,
    /// Accept a key file that others can read, as mounted secrets often are.
    pub allow_open_key: bool,
}

/// Builds the library's server configuration from files: TLS 1.2 and 1.3.
///
/// # Errors
///
/// [`ConfigError`] when a file cannot be read or used.
pub fn server_config(settings: &ServerTls) -> Result<Arc<ServerConfig>, ConfigError> {
    let chain = pem::certificates(&settings.certificate)?;
    if chain.is_empty() {
        return Err(ConfigError::Missing {
            path: settings.certificate.clone(),
            what: "certificate",
            label: "CERTIFICATE",
        });
    }
    if !settings.allow_open_key {
        refuse_open_key(&settings.key)?;
    }
    let key = private_key(&settings.key)?;
    server_config_from(chain, key).map_err(|source| ConfigError::Mismatch {
        certificate: settings.certificate.clone(),
        key: settings.key.clone(),
        source,
    })
}

/// Builds the library's server configuration from a chain and its key.
///
/// # Errors
///
/// The library's, when they do not belong together.
pub fn server_config_from(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    Ok(complete(builder()?.with_single_cert(chain, key)?))
}

/// Builds the library's server configuration around whatever shows the certificates, which may show
/// others later.
///
/// # Errors
///
/// The library's, when it supports neither version of TLS.
pub fn server_config_with(
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    Ok(complete(builder()?.with_cert_resolver(resolver)))
}

fn builder() -> Result<ConfigBuilder<ServerConfig, WantsServerCert>, rustls::Error> {
    Ok(
        ServerConfig::builder_with_provider(Arc::new(suites::provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth(),
    )
}

fn complete(mut config: ServerConfig) -> Arc<ServerConfig> {
    // For the in-place record layer, which needs the keys.
    config.enable_secret_extraction = true;
    // Our clients do not resume, and neither does the reference: no tickets, nothing to keep.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Arc::new(config)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    use rustls::pki_types::pem::Error;
    PrivateKeyDer::from_pem_slice(&pem::read(path)?).map_err(|error| match error {
        Error::NoItemsFound => ConfigError::Missing {
            path: path.to_owned(),
            what: "private key",
            label: "PRIVATE KEY",
        },
        other => ConfigError::Pem {
            path: path.to_owned(),
            line: 1,
            what: pem::explain(&other),
        },
    })
}

fn refuse_open_key(path: &Path) -> Result<(), ConfigError> {
    let metadata = fs::metadata(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(ConfigError::OpenKey {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}
