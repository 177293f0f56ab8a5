//! The mock service's certificate, made at its start and trusted by nobody else.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// All PEM.
pub(super) struct Identity {
    /// The authority that clients trust.
    pub(super) authority: String,
    /// The service's own certificate, for loopback names.
    pub(super) certificate: String,
    /// Its private key.
    pub(super) key: String,
}

impl Identity {
    /// Makes an authority and a certificate that it signs; the authority's key is dropped.
    pub(super) fn new() -> Result<Self, rcgen::Error> {
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let name = &mut parameters.distinguished_name;
        name.push(DnType::CommonName, "adit-loadgen, for one run");
        let key = KeyPair::generate()?;
        let authority = parameters.self_signed(&key)?.pem();
        let issuer = Issuer::new(parameters, key);

        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
        Ok(Self {
            authority,
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}
