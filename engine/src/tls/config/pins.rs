//! Public keys that a server may have.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

/// Public keys, one of which a server must have beside a certificate that holds: an authority that is
/// trusted can then not speak for it.
///
/// Written as curl's `--pinnedpubkey` takes them, `sha256//<base64>`, several with `;` between them: the
/// SHA-256 of the key as certificates have it (the DER of the SubjectPublicKeyInfo, RFC 7469 §2.4).
/// Several, so that the next key can be known before it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins(Vec<Pin>);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pin([u8; 32]);

/// Why a text is no pins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// It begins otherwise.
    #[error("the pin of key {number} does not begin with `{PREFIX}`")]
    Prefix {
        /// Which one, from 1.
        number: usize,
    },
    /// What follows is no SHA-256.
    #[error("the pin of key {number} is no base64 of 32 bytes")]
    Digest {
        /// Which one, from 1.
        number: usize,
    },
    /// There are too many.
    #[error("there are more than {PINS_MAX} pins")]
    TooMany,
}

impl FromStr for Pins {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let mut pins = Vec::new();
        for (text, number) in text.split(';').zip(1..) {
            let text = text.trim().strip_prefix(PREFIX);
            let text = text.ok_or(PinError::Prefix { number })?;
            let digest = STANDARD.decode(text).ok();
            let digest = digest.and_then(|bytes| bytes.try_into().ok());
            pins.push(Pin(digest.ok_or(PinError::Digest { number })?));
        }
        match pins.len() > PINS_MAX {
            true => Err(PinError::TooMany),
            false => Ok(Self(pins)),
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The server's key is none of those that were given.
#[derive(Debug)]
pub(crate) struct NotPinned {
    key: Pin,
}

impl fmt::Display for NotPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key } = self;
        write!(f, "the server's key is not one of those pinned, but {key}")
    }
}

impl std::error::Error for NotPinned {}

/// Whoever `inner` accepts, if it has one of these keys.
///
/// Only the key of the certificate that the server proves to have counts: any other certificate that
/// it shows may have been copied from elsewhere. That proof is asked for whatever `inner` thinks of it.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) inner: Arc<dyn ServerCertVerifier>,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) pins: Pins,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        let key = pin_of(end_entity)?;
        match self.pins.0.contains(&key) {
            true => Ok(verified),
            false => Err(refusal(NotPinned { key })),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// The pin of a certificate's key.
pub(crate) fn pin_of(certificate: &CertificateDer<'_>) -> Result<Pin, Error> {
    let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    let digest = digest(&SHA256, key.as_ref());
    let digest = digest.as_ref().try_into();
    Ok(Pin(digest.expect("a SHA-256 has 32 bytes")))
}

fn refusal(reason: NotPinned) -> Error {
    let reason = OtherError(Arc::new(reason));
    Error::InvalidCertificate(CertificateError::Other(reason))
}

const PREFIX: &str = "sha256//";
const PINS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    #[test]
    fn pins_are_read_as_curl_reads_them() {
        let pins: Pins = ONE.parse().unwrap();
        assert_eq!(pins.0[0].to_string(), ONE);
        let pins: Pins = format!("{ONE}; {ONE}").parse().unwrap();
        assert_eq!(pins.0.len(), 2);
    }

    /// `openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64`
    #[test]
    fn a_key_has_the_pin_that_others_calculate() {
        let certificate = STANDARD.decode(
            "MIIBfjCCASWgAwIBAgIUbFxlgi8WSBtgKrly+icuQqwGkNUwCgYIKoZIzj0EAwIwFDESMBAGA1UEAwwJbG9j\
             YWxob3N0MCAXDTI2MTEzMDE4MzQwNFoYDzIxMjYxMTA2MTgzNDA0WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3Qw\
             WTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ4R0KzgiALoa04mxPB1gXLV5LaOaGW9fwzx0ngNS/erjS7AgpA\
             23REdzguABG56oDMRP+J+uw1t6ctuzdYy3i+o1MwUTAdBgNVHQ4EFgQUv2FxgNs2wmNOfgnkIRtaNXyFoFMw\
             HwYDVR0jBBgwFoAUv2FxgNs2wmNOfgnkIRtaNXyFoFMwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNH\
             ADBEAiAQ/jOpP6aUfV+izCIT7wJRYavFIRYsaqaLpnktHWMj7wIgGl1YVlBU2hG7iRGpdn/dTh5D69vmskN0\
             hMbIYpXDPHE=",
        );
        let pin = pin_of(&CertificateDer::from(certificate.unwrap())).unwrap();
        let expected = "sha256//a36RQ01zTPyKa9UwVPs+BkdEU4oMMq4RGIkva06QAUU=";
        assert_eq!(pin.to_string(), expected);
    }

    #[test]
    fn what_is_no_pin_is_named_by_its_place() {
        let many = vec![ONE; PINS_MAX + 1].join(";");
        for (text, problem) in [
            ("", PinError::Prefix { number: 1 }),
            ("sha1//AAAA", PinError::Prefix { number: 1 }),
            ("sha256//AAAA", PinError::Digest { number: 1 }),
            ("sha256//!", PinError::Digest { number: 1 }),
            (&format!("{ONE};"), PinError::Prefix { number: 2 }),
            (&format!("{ONE};sha256//x"), PinError::Digest { number: 2 }),
            (&many, PinError::TooMany),
        ] {
            assert_eq!(text.parse::<Pins>(), Err(problem), "{text}");
        }
    }
}
