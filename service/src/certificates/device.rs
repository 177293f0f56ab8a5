//! Certificates of devices: issued by the built-in authority, or brought along.
//!
//! What a certificate says is ours to decide. Of a signing request only the key is taken: subject,
//! usages, serial number and validity that it asks for are not looked at.

mod proof;

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, SubjectPublicKeyInfo};
use rustls::server::ParsedCertificate;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateSigningRequestDer, pem};
use time::OffsetDateTime;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_SIG_ED25519};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use zeroize::Zeroizing;

use super::authority::Authority;
use crate::clock::Timestamp;
use crate::registry::{CERTIFICATE_PEM_SIZE_MAX, CertificateId};

/// Issues certificates to devices: valid for ten years or as long as the authority itself, whichever is
/// shorter, and good for TLS clients only.
#[derive(Clone)]
pub struct DeviceIssuer {
    authority: Arc<Authority>,
}

/// A device's certificate as the registry takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCertificate {
    /// SHA-256 of its DER.
    pub id: CertificateId,
    /// This certificate and nothing else, in PEM.
    pub pem: String,
    /// Not valid before.
    pub not_before: Timestamp,
    /// Not valid after.
    pub not_after: Timestamp,
}

/// A key made for a device. It is handed out once, and kept nowhere.
pub struct DeviceKeys {
    /// `SubjectPublicKeyInfo` in PEM.
    pub public_pem: String,
    /// PKCS#8 in PEM.
    pub private_pem: Zeroizing<String>,
}

impl fmt::Debug for DeviceKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKeys")
    }
}

/// Why there is no certificate for a device. All but [`Make`](Self::Make) are the caller's to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceCertificateError {
    /// The text is not one signing request in PEM.
    #[error(
        "not a certificate signing request in PEM ({0}); send what `openssl req -new` wrote, as it is"
    )]
    NotARequest(String),
    /// The request was not signed by the key in it.
    #[error(
        "the signature of the certificate signing request does not fit the public key in it; make the \
         request again with the device's own private key"
    )]
    WrongSignature,
    /// The request is signed in a way that proves little, or that nobody uses.
    #[error(
        "the certificate signing request is signed by an algorithm that is not accepted ({0}); sign it \
         with SHA-256"
    )]
    SignatureAlgorithm(String),
    /// The text is not one certificate in PEM.
    #[error(
        "not one certificate in PEM ({0}); send the device's certificate alone, without its chain"
    )]
    NotACertificate(String),
    /// It would never let a device in.
    #[error("the certificate ended at {0}; register one that is valid")]
    Ended(OffsetDateTime),
    /// The key cannot be used, or should not be.
    #[error(
        "{0} is not accepted as a device's key; use RSA of {RSA_BITS_MIN} to {RSA_BITS_MAX} bits, ECDSA \
         on P-256, P-384 or P-521, or Ed25519"
    )]
    Key(String),
    /// Our side failed.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

impl DeviceIssuer {
    pub(super) fn new(authority: Arc<Authority>) -> Self {
        Self { authority }
    }

    /// A certificate for a key made here, on P-256.
    ///
    /// AWS makes RSA keys of 2048 bits; P-256 takes a hundredth of the time to make, which is what
    /// keeps this operation from being a way to keep the service busy.
    pub fn issue_keys(
        &self,
        now: OffsetDateTime,
    ) -> Result<(DeviceCertificate, DeviceKeys), DeviceCertificateError> {
        let key = KeyPair::generate()?;
        let der = self.authority.issue_device(&key, now)?;
        let keys = DeviceKeys {
            public_pem: key.public_key_pem(),
            private_pem: Zeroizing::new(key.serialize_pem()),
        };
        Ok((read_der(&der)?, keys))
    }

    /// A certificate for the key of a signing request (PKCS#10 in PEM), which has to be signed by it.
    ///
    /// The same request gets another certificate every time.
    pub fn sign_request(
        &self,
        request_pem: &str,
        now: OffsetDateTime,
    ) -> Result<DeviceCertificate, DeviceCertificateError> {
        let der = request_der(request_pem)?;
        let request = parse_request(&der)?;
        let key = &request.certification_request_info.subject_pki;
        check_key(key)?;
        proof::check(&request)?;
        let key = SubjectPublicKeyInfo::from_der(key.raw)
            .map_err(|_| DeviceCertificateError::Key("this kind of key".to_owned()))?;
        read_der(&self.authority.issue_device(&key, now)?)
    }
}

impl DeviceCertificate {
    /// Reads a certificate that was issued by somebody else. Who that was does not matter: what counts
    /// is that a device proves to hold its key.
    pub fn read(text: &str, now: OffsetDateTime) -> Result<Self, DeviceCertificateError> {
        let refused = |reason: &str| DeviceCertificateError::NotACertificate(reason.to_owned());
        let mut found = CertificateDer::pem_slice_iter(text.as_bytes());
        let der = found.next().ok_or_else(|| refused("there is none"))?;
        let der = der.map_err(|error| refused(&pem_reason(&error)))?;
        if found.next().is_some() {
            return Err(refused("more than one"));
        }
        let certificate = read_der(&der)?;
        // What TLS cannot read would be registered for nothing.
        ParsedCertificate::try_from(&der).map_err(|error| refused(&error.to_string()))?;
        if certificate.pem.len() > CERTIFICATE_PEM_SIZE_MAX {
            let reason = format!("larger than {CERTIFICATE_PEM_SIZE_MAX} bytes");
            return Err(refused(&reason));
        }
        let ends = certificate.not_after.to_date_time();
        if ends <= now {
            return Err(DeviceCertificateError::Ended(ends));
        }
        Ok(certificate)
    }
}

/// Whether a certificate, in DER, is for the key of a signing request, in PEM.
///
/// The bits of the keys are compared, and not what an authority may have written anew around them.
pub fn has_key_of_request(
    certificate: &[u8],
    request_pem: &str,
) -> Result<bool, DeviceCertificateError> {
    let der = request_der(request_pem)?;
    let request = parse_request(&der)?;
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| DeviceCertificateError::NotACertificate(error.to_string()))?;
    let wanted = &request.certification_request_info.subject_pki;
    Ok(wanted.subject_public_key == certificate.public_key().subject_public_key)
}

fn request_der(pem: &str) -> Result<CertificateSigningRequestDer<'static>, DeviceCertificateError> {
    // What Windows tools write.
    let text = pem.replace("NEW CERTIFICATE REQUEST", "CERTIFICATE REQUEST");
    CertificateSigningRequestDer::from_pem_slice(text.as_bytes())
        .map_err(|error| DeviceCertificateError::NotARequest(pem_reason(&error)))
}

fn parse_request(der: &[u8]) -> Result<X509CertificationRequest<'_>, DeviceCertificateError> {
    let not_a_request = |reason: String| DeviceCertificateError::NotARequest(reason);
    let (rest, request) = X509CertificationRequest::from_der(der)
        .map_err(|error| not_a_request(error.to_string()))?;
    if !rest.is_empty() {
        return Err(not_a_request("something follows it".to_owned()));
    }
    Ok(request)
}

fn read_der(der: &[u8]) -> Result<DeviceCertificate, DeviceCertificateError> {
    let refused = |reason: String| DeviceCertificateError::NotACertificate(reason);
    let (rest, parsed) =
        X509Certificate::from_der(der).map_err(|error| refused(error.to_string()))?;
    if !rest.is_empty() {
        return Err(refused("something follows it".to_owned()));
    }
    check_key(parsed.public_key())?;
    let validity = parsed.validity();
    Ok(DeviceCertificate {
        id: CertificateId::of(der),
        pem: to_pem(der),
        not_before: timestamp(validity.not_before.to_datetime()),
        not_after: timestamp(validity.not_after.to_datetime()),
    })
}

/// Keys that TLS can verify and that nobody can guess.
fn check_key(
    key: &x509_parser::x509::SubjectPublicKeyInfo<'_>,
) -> Result<(), DeviceCertificateError> {
    let refused = |what: String| Err(DeviceCertificateError::Key(what));
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => match rsa.key_size() {
            RSA_BITS_MIN..=RSA_BITS_MAX => Ok(()),
            bits => refused(format!("an RSA key of {bits} bits")),
        },
        Ok(PublicKey::EC(_)) => {
            let parameters = key.algorithm.parameters.as_ref();
            let curve = parameters.and_then(|any| any.as_oid().ok());
            let curves = [OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521];
            if curve.is_some_and(|curve| curves.contains(&curve)) {
                return Ok(());
            }
            refused("an ECDSA key on this curve".to_owned())
        }
        _ if key.algorithm.algorithm == OID_SIG_ED25519 => Ok(()),
        _ => refused("this kind of key".to_owned()),
    }
}

/// Written anew from the DER, so that nothing that stood beside it (a private key, say) is kept.
fn to_pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = String::with_capacity(body.len() + body.len() / LINE + 64);
    text.push_str("-----BEGIN CERTIFICATE-----\n");
    for start in (0..body.len()).step_by(LINE) {
        text.push_str(&body[start..body.len().min(start + LINE)]);
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// Never the text itself: it may be a private key that was sent by mistake.
fn pem_reason(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "there is none".to_owned(),
        pem::Error::MissingSectionEnd { .. } => "its last line is missing".to_owned(),
        pem::Error::Base64Decode(_) => "it is not base64".to_owned(),
        _ => "it is damaged".to_owned(),
    }
}

fn timestamp(at: OffsetDateTime) -> Timestamp {
    let seconds = u64::try_from(at.unix_timestamp()).unwrap_or(0);
    Timestamp::from_millis(seconds.saturating_mul(1000))
}

/// RFC 7468 §2.
const LINE: usize = 64;

const RSA_BITS_MIN: usize = 2048;
/// TLS libraries verify no larger ones.
const RSA_BITS_MAX: usize = 8192;

#[cfg(test)]
mod tests;
