//! The server's certificate and the authority behind it: made at the first start, taken up again at
//! every later one, renewed before they end. And the certificates that the authority issues to devices.
//!
//! | file | mode | |
//! |---|---|---|
//! | `ca.key`, `server.key` | 0600 | PKCS#8 keys; written first, kept for ever |
//! | `ca.pem`, `server.pem` | 0644 | their certificates; `ca.pem` is what clients have to trust |
//!
//! A key is on the disk before the certificate that names it, and a renewal keeps the key. So whatever
//! moment a start is interrupted at, what it left behind is a key whose certificate can be made again.

mod authority;
mod current;
mod device;
mod inspect;

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use time::OffsetDateTime;
use tracing::info;

use crate::data_dir::{DataDir, DataDirError};
use authority::Authority;
use current::Current;
use inspect::{Fault, parse_chain, provider, renewal_reason, validity, verify};

pub use device::{
    DeviceCertificate, DeviceCertificateError, DeviceIssuer, DeviceKeys, has_key_of_request,
};

/// A server certificate that clients accept once they trust `ca_pem`, and the authority that issues
/// others.
pub struct Certificates {
    authority: Arc<Authority>,
    server: Arc<Current>,
    key: PrivateKeyDer<'static>,
}

/// What a TLS server shows and proves. `Debug` does not print the key.
#[derive(Debug)]
pub struct Identity {
    /// Shows the certificate in use, also once it was renewed: for listeners that stay.
    pub resolver: Arc<dyn ResolvesServerCert>,
    /// The server's certificate and what leads to the authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl Certificates {
    /// Makes everything anew, for this process only, and for 365 days: who lives longer keeps it in a directory.
    pub fn in_memory(
        names: &[ServerName<'static>],
        now: OffsetDateTime,
    ) -> Result<Self, CertificateError> {
        let authority = Arc::new(Authority::create(KeyPair::generate()?, now)?);
        let key = KeyPair::generate()?;
        let pem = authority.issue_server(&key, names, now)?;
        Self::assemble(&authority, &pem, &key.serialize_pem(), now)
            .map_err(|fault| CertificateError::Unusable(fault.to_string()))
    }

    /// Takes up what the directory holds, makes what is missing, and renews the server's certificate
    /// when it ends within 30 days, is not valid yet, or lacks one of these names.
    ///
    /// # Errors
    /// A key that others may read, a damaged file, a certificate that does not fit its key or authority.
    pub fn in_dir(
        dir: &DataDir,
        names: &[ServerName<'static>],
        now: OffsetDateTime,
    ) -> Result<Self, CertificateError> {
        let authority = Arc::new(stored_authority(dir, now)?);
        let key = stored_key(dir, SERVER_KEY)?;
        if let Some(pem) = dir.read(SERVER_PEM)? {
            let damaged = |fault: Fault| fault.of(dir.file(fault.file(SERVER_PEM, SERVER_KEY)));
            let reason = renewal_reason(&pem, names, now).map_err(damaged)?;
            // Checked also when it is about to be replaced: a file that is not ours is not overwritten.
            let at = reason.map_or(now, |reason| reason.valid_at(now));
            let certificates =
                Self::assemble(&authority, &pem, &key.serialize_pem(), at).map_err(damaged)?;
            match reason {
                None => return Ok(certificates),
                Some(reason) => info!(?reason, "issuing the server certificate again"),
            }
        }
        let pem = authority.issue_server(&key, names, now)?;
        dir.write(SERVER_PEM, pem.as_bytes(), 0o644)?;
        Self::assemble(&authority, &pem, &key.serialize_pem(), now)
            .map_err(|fault| fault.of(dir.file(fault.file(SERVER_PEM, SERVER_KEY))))
    }

    /// Looks again as a start does, and shows from now on what it finds or makes: called now and then,
    /// it keeps a service that is never restarted from showing a certificate that has ended.
    ///
    /// # Errors
    /// As [`in_dir`](Self::in_dir); what was shown so far is shown on.
    pub fn renew(
        &self,
        dir: &DataDir,
        names: &[ServerName<'static>],
        now: OffsetDateTime,
    ) -> Result<(), CertificateError> {
        let found = Self::in_dir(dir, names, now)?;
        self.server.exchange(found.server.get());
        Ok(())
    }

    /// The authority's certificate, in PEM.
    pub fn ca_pem(&self) -> &str {
        self.authority.certificate_pem()
    }

    /// What issues certificates to devices.
    pub fn device_issuer(&self) -> DeviceIssuer {
        DeviceIssuer::new(Arc::clone(&self.authority))
    }

    /// The certificate and key, for a listener that has TLS settings of its own.
    pub fn identity(&self) -> Identity {
        Identity {
            resolver: Arc::clone(&self.server) as _,
            chain: self.server.get().cert.clone(),
            key: self.key.clone_key(),
        }
    }

    /// TLS settings of a listener with this certificate that speaks `http/1.1`.
    ///
    /// A client that offers other protocols only is refused; one that offers none is taken for HTTP.
    pub fn server_config(&self) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider supports TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.server) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }

    fn assemble(
        authority: &Arc<Authority>,
        server_pem: &str,
        server_key: &str,
        now: OffsetDateTime,
    ) -> Result<Self, Fault> {
        let chain = parse_chain(server_pem)?;
        let key = PrivateKeyDer::from_pem_slice(server_key.as_bytes())
            .map_err(|error| Fault::Key(error.to_string()))?;
        let server = CertifiedKey::from_der(chain, key.clone_key(), &provider())
            .map_err(|error| Fault::Pair(error.to_string()))?;
        verify(authority.certificate_pem(), &server, now)?;
        Ok(Self {
            authority: Arc::clone(authority),
            server: Arc::new(Current::new(Arc::new(server))),
            key,
        })
    }
}

/// Why there is no usable certificate. Messages name the file and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file could not be read, written or trusted.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A key or certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The authority's certificate has ended.
    #[error(
        "the authority's certificate {} ended at {at}; move ca.pem, ca.key, server.pem and server.key \
         away to have new ones made, and give the new ca.pem to every client", path.display()
    )]
    AuthorityExpired {
        /// The certificate's file.
        path: PathBuf,
        /// When it ended.
        at: OffsetDateTime,
    },
    /// What was just made is refused by the TLS library.
    #[error("the certificate just made is not usable: {0}")]
    Unusable(String),
}

fn stored_authority(dir: &DataDir, now: OffsetDateTime) -> Result<Authority, CertificateError> {
    let path = dir.file(CA_PEM);
    let Some(pem) = dir.read(CA_PEM)? else {
        let authority = Authority::create(stored_key(dir, CA_KEY)?, now)?;
        dir.write(CA_PEM, authority.certificate_pem().as_bytes(), 0o644)?;
        return Ok(authority);
    };
    if dir.read_secret(CA_KEY)?.is_none() {
        let reason = "its key ca.key is missing; restore ca.key, or move ca.pem, server.pem and \
                      server.key away to have new ones made";
        return Err(DataDirError::damaged(&path, reason.to_owned()).into());
    }
    let key = stored_key(dir, CA_KEY)?;
    let chain = parse_chain(&pem).map_err(|fault| fault.of(path.clone()))?;
    let der = PrivateKeyDer::try_from(key.serialize_der()).expect("serialised as PKCS#8 just now");
    CertifiedKey::from_der(chain.clone(), der, &provider())
        .map_err(|error| Fault::Pair(error.to_string()).of(path.clone()))?;
    let (_, expires) = validity(&chain[0]).map_err(|fault| fault.of(path.clone()))?;
    if expires <= now {
        return Err(CertificateError::AuthorityExpired { path, at: expires });
    }
    Ok(Authority::load(pem, expires, key)?)
}

/// The stored key of this name, or a new one that is now stored.
fn stored_key(dir: &DataDir, name: &str) -> Result<KeyPair, CertificateError> {
    if let Some(pem) = dir.read_secret(name)? {
        return KeyPair::from_pem(&pem)
            .map_err(|error| Fault::Key(error.to_string()).of(dir.file(name)));
    }
    let key = KeyPair::generate()?;
    let pem = zeroize::Zeroizing::new(key.serialize_pem());
    dir.write(name, pem.as_bytes(), 0o600)?;
    Ok(key)
}

const CA_PEM: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const SERVER_PEM: &str = "server.pem";
const SERVER_KEY: &str = "server.key";

#[cfg(test)]
mod tests;
