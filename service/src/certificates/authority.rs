//! The built-in certificate authority: makes itself, issues certificates to servers and devices.

use std::net::IpAddr;

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::ServerName;
use time::{Duration, OffsetDateTime};

/// A certificate authority whose key is in memory.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    expires: OffsetDateTime,
}

impl Authority {
    /// Makes the self-signed certificate of this key, valid for ten years.
    ///
    /// The name is derived from the key, so that the certificates of two installations can lie in one
    /// trust store, and so that a certificate made again for the same key still fits what it issued.
    pub(super) fn create(key: KeyPair, now: OffsetDateTime) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("adit CA {}", short_name(&key)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(random_serial()?);
        params.not_before = now - BACKDATED;
        params.not_after = params.not_before + AUTHORITY_VALIDITY;
        let certificate = params.self_signed(&key)?;
        let expires = params.not_after;
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate_pem: certificate.pem(),
            expires,
        })
    }

    /// Takes up an authority that was stored; `expires` is what its certificate says.
    pub(super) fn load(
        certificate_pem: String,
        expires: OffsetDateTime,
        key: KeyPair,
    ) -> Result<Self, rcgen::Error> {
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(&certificate_pem, key)?,
            certificate_pem,
            expires,
        })
    }

    /// The certificate that clients have to trust.
    pub(super) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Issues a certificate for a TLS server under these names, valid for 365 days or as long as the
    /// authority itself, whichever is shorter. Mozilla's recommendations want less than 366.
    pub(super) fn issue_server(
        &self,
        key: &KeyPair,
        names: &[ServerName<'static>],
        now: OffsetDateTime,
    ) -> Result<String, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("adit server");
        params.subject_alt_names = names.iter().map(alt_name).collect::<Result<_, _>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        // The default is made from the key, which a renewal keeps; two certificates of one issuer must differ.
        params.serial_number = Some(random_serial()?);
        params.not_before = now - BACKDATED;
        params.not_after = self.expires.min(params.not_before + SERVER_VALIDITY);
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }

    /// Issues a certificate for a TLS client, in DER, valid for ten years or as long as the authority
    /// itself, whichever is shorter. Its name says nothing: a device is known by the whole certificate.
    pub(super) fn issue_device(
        &self,
        key: &impl PublicKeyData,
        now: OffsetDateTime,
    ) -> Result<Vec<u8>, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("adit device");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        // Two requests with one key get two certificates.
        params.serial_number = Some(random_serial()?);
        params.not_before = now - BACKDATED;
        params.not_after = self.expires.min(params.not_before + DEVICE_VALIDITY);
        Ok(params.signed_by(key, &self.issuer)?.der().to_vec())
    }
}

fn alt_name(name: &ServerName<'static>) -> Result<SanType, rcgen::Error> {
    Ok(match name {
        ServerName::DnsName(name) => SanType::DnsName(name.as_ref().try_into()?),
        ServerName::IpAddress(address) => SanType::IpAddress(IpAddr::from(*address)),
        _ => return Err(rcgen::Error::InvalidNameType),
    })
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

fn short_name(key: &KeyPair) -> String {
    let hash = digest::digest(&digest::SHA256, &key.subject_public_key_info());
    hash.as_ref()[..4]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

fn random_serial() -> Result<SerialNumber, rcgen::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    // RFC 5280 §4.1.2.2: a positive integer; and never with a leading zero, so that its size is fixed.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

const AUTHORITY_VALIDITY: Duration = Duration::days(3650);
const SERVER_VALIDITY: Duration = Duration::days(365);
const DEVICE_VALIDITY: Duration = Duration::days(3650);

/// Devices' clocks are not ours: a certificate that begins now would be refused by one that is late.
const BACKDATED: Duration = Duration::hours(1);
