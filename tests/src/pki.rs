//! A certificate authority for scripted services, and certificates that it signs.

use std::sync::{Arc, OnceLock};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Every TLS version there is: 1.2 and 1.3.
pub use rustls::ALL_VERSIONS;

/// The names that [`Pki::server`] certifies.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A certificate and its private key, as PEM texts.
pub struct PemPair {
    /// The certificate alone.
    pub certificate: String,
    /// PKCS #8.
    pub key: String,
}

/// An authority made for these tests, trusted by nobody else.
pub struct Pki {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Pki {
    /// The one authority that the tests of this process share.
    ///
    /// # Panics
    /// The system gives no randomness.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<Pki>> = OnceLock::new();
        let make = || Arc::new(Self::new().expect("a certificate authority can be made"));
        Arc::clone(SHARED.get_or_init(make))
    }

    /// An authority of its own, for tests in which trust must fail.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new() -> Result<Self> {
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, "adit test authority");
        let key = KeyPair::generate()?;
        let certificate = parameters.self_signed(&key)?;
        Ok(Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(parameters, key),
        })
    }

    /// The authority's own certificate.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// A certificate with this common name, for a program that takes its identity from files.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn named(&self, common_name: &str, names: &[&str]) -> Result<PemPair> {
        let names = names.iter().map(|name| (*name).to_owned());
        let mut parameters = CertificateParams::new(names.collect::<Vec<_>>())?;
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, common_name);
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(PemPair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// TLS of a server that is `localhost`, `127.0.0.1` and `::1`.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn server(&self) -> Result<Arc<ServerConfig>> {
        self.server_named(&LOOPBACK_NAMES, ALL_VERSIONS)
    }

    /// TLS of a server with these names and these versions.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn server_named(
        &self,
        names: &[&str],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Result<Arc<ServerConfig>> {
        let names = names.iter().map(|name| (*name).to_owned());
        let parameters = CertificateParams::new(names.collect::<Vec<_>>())?;
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(Arc::new(config))
    }
}

/// TLS of a client that trusts the authority in this PEM text and no other.
///
/// # Errors
/// The text holds no certificate.
pub fn client_trusting(ca_pem: &str) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
