//! TLS where the client shows a certificate. It has to hold the certificate's key, and the certificate has
//! to be valid today; who signed it does not matter, because the registry knows each one.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::certificates::Identity;
use crate::registry::CertificateId;

/// TLS settings for devices: a client certificate is required that `is_known` has leave for, and nothing
/// is resumed, so that each connection proves the key again.
///
/// A stranger is turned away by an alert of the handshake, which clients report as what it is; a closed
/// connection they would take for a bad network, and come back for ever.
///
/// A client that names `x-amzn-mqtt-ca` gets exactly that name back; one that names nothing is welcome;
/// one that names other protocols only is refused.
pub(crate) fn device_config(
    identity: Identity,
    is_known: impl Fn(CertificateId) -> bool + Send + Sync + 'static,
) -> Result<ServerConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Possession {
        algorithms: provider.signature_verification_algorithms,
        is_known: Box::new(is_known),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(identity.resolver);
    config.alpn_protocols = vec![MQTT_ALPN.to_vec(), b"mqtt".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The name under which MQTT with client certificates shares a port with HTTPS (section 14.2).
pub(crate) const MQTT_ALPN: &[u8] = b"x-amzn-mqtt-ca";

/// Checks that the client holds the key, that the certificate's time has come and not gone, and that the
/// registry knows it.
struct Possession {
    algorithms: WebPkiSupportedAlgorithms,
    is_known: Box<dyn Fn(CertificateId) -> bool + Send + Sync>,
}

impl ClientCertVerifier for Possession {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let bad = |error: CertificateError| Err(Error::InvalidCertificate(error));
        let Ok((rest, certificate)) = X509Certificate::from_der(end_entity) else {
            return bad(CertificateError::BadEncoding);
        };
        if !rest.is_empty() {
            return bad(CertificateError::BadEncoding);
        }
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let validity = certificate.validity();
        if now < validity.not_before.timestamp() {
            return bad(CertificateError::NotValidYet);
        }
        if now > validity.not_after.timestamp() {
            return bad(CertificateError::Expired);
        }
        if !(self.is_known)(CertificateId::of(end_entity)) {
            return bad(CertificateError::ApplicationVerificationFailure);
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for Possession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Possession")
    }
}
