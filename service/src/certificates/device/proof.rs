//! Whether a signing request was signed by the key in it.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    UnparsedPublicKey, VerificationAlgorithm,
};
use x509_parser::asn1_rs::{Any, Oid};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, OID_SIG_ED25519,
};

use super::DeviceCertificateError;

/// Proof that whoever made the request holds the key in it.
pub(super) fn check(request: &X509CertificationRequest<'_>) -> Result<(), DeviceCertificateError> {
    let key = &request.certification_request_info.subject_pki;
    let oid = &request.signature_algorithm.algorithm;
    let algorithm = verification(oid, key.algorithm.parameters.as_ref());
    let algorithm =
        algorithm.ok_or_else(|| DeviceCertificateError::SignatureAlgorithm(oid.to_string()))?;
    UnparsedPublicKey::new(algorithm, &key.subject_public_key.data)
        .verify(
            request.certification_request_info.raw,
            &request.signature_value.data,
        )
        .map_err(|_| DeviceCertificateError::WrongSignature)
}

/// How a signature of this kind is verified; the parameters of an ECDSA key are its curve.
fn verification(
    signature: &Oid<'_>,
    parameters: Option<&Any<'_>>,
) -> Option<&'static dyn VerificationAlgorithm> {
    let rsa: [(_, &'static dyn VerificationAlgorithm); 3] = [
        (OID_PKCS1_SHA256WITHRSA, &RSA_PKCS1_2048_8192_SHA256),
        (OID_PKCS1_SHA384WITHRSA, &RSA_PKCS1_2048_8192_SHA384),
        (OID_PKCS1_SHA512WITHRSA, &RSA_PKCS1_2048_8192_SHA512),
    ];
    if let Some((_, algorithm)) = rsa.into_iter().find(|(oid, _)| oid == signature) {
        return Some(algorithm);
    }
    if *signature == OID_SIG_ED25519 {
        return Some(&ED25519);
    }
    let ecdsa: [(_, _, &'static dyn VerificationAlgorithm); 7] = [
        (
            OID_EC_P256,
            OID_SIG_ECDSA_WITH_SHA256,
            &ECDSA_P256_SHA256_ASN1,
        ),
        (
            OID_EC_P256,
            OID_SIG_ECDSA_WITH_SHA384,
            &ECDSA_P256_SHA384_ASN1,
        ),
        (
            OID_NIST_EC_P384,
            OID_SIG_ECDSA_WITH_SHA256,
            &ECDSA_P384_SHA256_ASN1,
        ),
        (
            OID_NIST_EC_P384,
            OID_SIG_ECDSA_WITH_SHA384,
            &ECDSA_P384_SHA384_ASN1,
        ),
        (
            OID_NIST_EC_P521,
            OID_SIG_ECDSA_WITH_SHA256,
            &ECDSA_P521_SHA256_ASN1,
        ),
        (
            OID_NIST_EC_P521,
            OID_SIG_ECDSA_WITH_SHA384,
            &ECDSA_P521_SHA384_ASN1,
        ),
        (
            OID_NIST_EC_P521,
            OID_SIG_ECDSA_WITH_SHA512,
            &ECDSA_P521_SHA512_ASN1,
        ),
    ];
    let curve = parameters?.as_oid().ok()?;
    let mut ecdsa = ecdsa.into_iter();
    let found = ecdsa.find(|(of_key, oid, _)| *of_key == curve && oid == signature);
    found.map(|(_, _, algorithm)| algorithm)
}
