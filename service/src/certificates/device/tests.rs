use rcgen::{CertificateParams, DnType, IsCa, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType};
use time::Duration;
use x509_parser::extensions::ParsedExtension;

use super::super::Certificates;
use super::*;

const NOW: OffsetDateTime = time::macros::datetime!(2026-11-23 12:00:00 UTC);

fn issuer() -> DeviceIssuer {
    let names = ["localhost".try_into().unwrap()];
    Certificates::in_memory(&names, NOW)
        .unwrap()
        .device_issuer()
}

/// A request for everything that a device should not get.
fn greedy_request(key: &KeyPair) -> String {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "the service itself");
    params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// As a TLS server with that authority would see it.
fn assert_chain(issuer: &DeviceIssuer, der: &CertificateDer<'static>) {
    let mut roots = rustls::RootCertStore::empty();
    let ca = self::der(issuer.authority.certificate_pem());
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
    let seconds = std::time::Duration::from_secs(NOW.unix_timestamp() as u64);
    let now = rustls_pki_types::UnixTime::since_unix_epoch(seconds);
    let verifier = verifier.build().unwrap();
    verifier.verify_client_cert(der, &[], now).unwrap();
}

fn assert_is_a_device(issuer: &DeviceIssuer, certificate: &DeviceCertificate, key: &[u8]) {
    let der = der(&certificate.pem);
    assert_eq!(certificate.id, CertificateId::of(&der));
    let (_, parsed) = X509Certificate::from_der(&der).unwrap();
    assert_chain(issuer, &der);
    assert_eq!(parsed.subject().to_string(), "CN=adit device");
    assert_eq!(parsed.public_key().raw, key);
    assert!(!parsed.is_ca());
    assert!(parsed.subject_alternative_name().unwrap().is_none());
    let usages = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usages.client_auth && !usages.server_auth && !usages.any);
    let usages = parsed.key_usage().unwrap().unwrap().value;
    assert!(usages.digital_signature() && !usages.key_cert_sign());
    for extension in parsed.extensions() {
        let known = !matches!(
            extension.parsed_extension(),
            ParsedExtension::UnsupportedExtension { .. }
        );
        assert!(known, "{}", extension.oid);
    }
    let begins = certificate.not_before.to_date_time();
    assert_eq!(begins, NOW - Duration::hours(1));
    let ends = certificate.not_after.to_date_time();
    assert_eq!(ends, begins + Duration::days(3650));
}

#[test]
fn a_key_made_here_fits_its_certificate() {
    let issuer = issuer();
    let (certificate, keys) = issuer.issue_keys(NOW).unwrap();
    let key = KeyPair::from_pem(&keys.private_pem).unwrap();
    assert_eq!(keys.public_pem, key.public_key_pem());
    assert_eq!(key.algorithm(), &PKCS_ECDSA_P256_SHA256);
    assert_is_a_device(&issuer, &certificate, &key.subject_public_key_info());
    let (other, _) = issuer.issue_keys(NOW).unwrap();
    assert_ne!(certificate.id, other.id);
    assert!(!format!("{keys:?}").contains("PRIVATE"));
}

#[test]
fn a_request_gets_its_key_signed_and_nothing_else_it_asks_for() {
    let issuer = issuer();
    for algorithm in [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ED25519,
        &rcgen::PKCS_ECDSA_P521_SHA512,
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let request = greedy_request(&key);
        let first = issuer.sign_request(&request, NOW).unwrap();
        assert_is_a_device(&issuer, &first, &key.subject_public_key_info());
        let second = issuer.sign_request(&request, NOW).unwrap();
        assert_ne!(first.id, second.id, "a distinct certificate every time");
        let renamed = request.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST");
        issuer.sign_request(&renamed, NOW).unwrap();
    }
}

#[test]
fn a_device_certificate_ends_with_the_authority() {
    let issuer = issuer();
    let later = NOW + Duration::days(3000);
    let (certificate, _) = issuer.issue_keys(later).unwrap();
    let ends = certificate.not_after.to_date_time();
    assert_eq!(ends, NOW - Duration::hours(1) + Duration::days(3650));
}

fn request_refused(text: &str) -> String {
    match issuer().sign_request(text, NOW) {
        Ok(certificate) => panic!("signed: {certificate:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_no_request_is_refused_without_repeating_it() {
    let key = KeyPair::generate().unwrap();
    let request = greedy_request(&key);
    let body = request.lines().nth(1).unwrap();
    let (certificate, _) = issuer().issue_keys(NOW).unwrap();
    for text in [
        "",
        "secret",
        &key.serialize_pem(),
        &certificate.pem,
        &request.replace("-----END", "-----FIN"),
        &request.replace(body, "!!!!"),
        &request.replacen(body, &body[4..], 1),
    ] {
        let refused = request_refused(text);
        assert!(
            refused.starts_with("not a certificate signing request"),
            "{text}: {refused}"
        );
        assert!(!refused.contains("secret") && !refused.contains("PRIVATE"));
    }
}

/// The last byte of the request is in its signature.
fn with_another_signature(request: &str) -> String {
    let der = CertificateSigningRequestDer::from_pem_slice(request.as_bytes()).unwrap();
    let mut der = der.to_vec();
    *der.last_mut().unwrap() ^= 1;
    to_pem(&der).replace("CERTIFICATE-", "CERTIFICATE REQUEST-")
}

#[test]
fn a_request_signed_by_another_key_is_refused() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let request = with_another_signature(&greedy_request(&key));
        let refused = request_refused(&request);
        assert!(refused.contains("does not fit the public key"), "{refused}");
    }
}

#[test]
fn weak_and_unusual_keys_are_refused() {
    for (request, part) in [
        (RSA_1024_REQUEST, "an RSA key of 1024 bits"),
        (SECP256K1_REQUEST, "an ECDSA key on this curve"),
    ] {
        let refused = request_refused(request);
        assert!(refused.starts_with(part), "{refused}");
        assert!(refused.contains("RSA of 2048 to 8192 bits"), "{refused}");
    }
    let refused = request_refused(SHA_1_REQUEST);
    assert!(refused.contains("sign it with SHA-256"), "{refused}");
    issuer().sign_request(RSA_2048_REQUEST, NOW).unwrap();
}

fn self_signed(ends: OffsetDateTime) -> (String, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::NoCa;
    params.not_before = NOW - Duration::days(1);
    params.not_after = ends;
    (params.self_signed(&key).unwrap().pem(), key)
}

#[test]
fn a_certificate_of_anybody_is_read_and_nothing_beside_it_kept() {
    let ends = NOW + Duration::days(1);
    let (pem, key) = self_signed(ends);
    let beside = format!("a note\n{}{pem}", key.serialize_pem());
    for text in [&pem, &pem.replace('\n', "\r\n"), &beside] {
        let certificate = DeviceCertificate::read(text, NOW).unwrap();
        assert_eq!(certificate.id, CertificateId::of(&der(&pem)));
        assert_eq!(certificate.pem, pem.replace("\r\n", "\n"));
        assert_eq!(certificate.not_after.to_date_time(), ends);
    }
}

#[test]
fn certificates_that_no_device_could_use_are_refused() {
    let (good, key) = self_signed(NOW + Duration::days(1));
    let (ended, _) = self_signed(NOW);
    for (text, part) in [
        ("", "there is none"),
        (key.serialize_pem().as_str(), "there is none"),
        (greedy_request(&key).as_str(), "there is none"),
        (&format!("{good}{good}"), "more than one"),
        (&good.replace("-----END", "-----FIN"), "last line"),
        (&ended, "ended at 2026-11-23"),
        (RSA_1024_CERTIFICATE, "an RSA key of 1024 bits"),
    ] {
        let refused = DeviceCertificate::read(text, NOW).unwrap_err().to_string();
        assert!(refused.contains(part), "{refused}");
        assert!(!refused.contains("PRIVATE"));
    }
}

const RSA_1024_REQUEST: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIIBTjCBuAIBADAPMQ0wCwYDVQQDDAR3ZWFrMIGfMA0GCSqGSIb3DQEBAQUAA4GN
ADCBiQKBgQDHWPnmwGxgafgulgfz/hE+2rzHN6je0j1OU+Kw3aGvQA/WWmSY7eLe
NeM6RcvtgFGM/hV3EhB9o8SOXReOuxVa2J7v63PHBuiMZ6l5ftLDAIi3m0PGuVG8
L+nSMMeAVc2LSyqWaDp37NWT43q1y5jfAaZfRkWa6RUXit+DkJA/BQIDAQABoAAw
DQYJKoZIhvcNAQELBQADgYEAqcvPGzYopDrwGrnqbM9ZdCB61FBkjIp7X4Y1NJYP
7QMkl7Orftavtdnpg3wL+vjlOg+xocA8DHxDcPTyvmP428xp4IDH8ILTvyIsfgIO
JtdN7FdeFgSDU10QhVy8UL7Qx6QJubC4EbuuuvPAIgfcaJXbHE6TztiSPY5u05o6
utw=
-----END CERTIFICATE REQUEST-----
";

/// As `openssl req` writes it, with extensions that nobody knows.
const RSA_2048_REQUEST: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIICfDCCAWQCAQAwDTELMAkGA1UEAwwCb2swggEiMA0GCSqGSIb3DQEBAQUAA4IB
DwAwggEKAoIBAQCskStkNggzIE0sLmPU1aGsajfaDZudYWx7hcZpkU40EuNMFf4x
60eZvEVbyRR0YTrv8a5kLCxXTElQPaNGQIdOBJoGfXjDA3snh+5QEDhnk3VlkdDa
eu+Leyj071mQJmSoG/aw9W+pP74c6B7FxF6SWOT3om+DLmT3o3JOX/Eu+Q3m1Nbu
JNCQN7h9v2HETk3TrLIrpS6mYiretqP5ShKY61VNcq2qkjfoCGFhcSrKdfLm2trR
VoOGse0/ubElni1+YY0nv6DYJr2+KhyIZY5P6Q5nof0aeClB8mfaw16niil5I0bV
YtpZL2Y9O3jwlG/YiKQ7qds+1eIVtn5R9jOjAgMBAAGgKjAoBgkqhkiG9w0BCQ4x
GzAZMAwGA1UdEwQFMAMBAf8wCQYDKgMEBAIFADANBgkqhkiG9w0BAQsFAAOCAQEA
n6sd97w1il+61U1ByEeiilOBXQujWkPYUYpd8fHyKPLPRUrUNFpnR+pU+K6HrYPa
kpyUOL5fv1DMQ/Y2aeiSyP+/2oppMc7SOwVu8EXUHq1pEfojvSqF4CV8TyJtpPyS
G+6Y49nK0ub96UbCIJ+SH8ufIRapNcIeWRlHSmc+KQkhavbdfQPx+NbKhp+fWU/G
sRLa7icKAdjBT0OA1E+eBDe7kvqHA7M+wvOcqizv6k956z26J4RwWjSgUkX5LcQS
azgd6O/s2lBIOqjt14QRyqEeNgKXyHU5SxrOYmkgzfMACw3NyaVtJovPbv4Jugwz
yht19hTzcO2n+A20hSe8QQ==
-----END CERTIFICATE REQUEST-----
";

const SECP256K1_REQUEST: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIHDMGsCAQAwDDEKMAgGA1UEAwwBazBWMBAGByqGSM49AgEGBSuBBAAKA0IABPBE
J7IojwyIkFaiRNHOtuo0eSaSnxYFeXa/fNELKQYBUzELJO3/OtTZGoq6Vk0DI1Sy
0tQECbZC5fRpMp0RUzigADAKBggqhkjOPQQDAgNIADBFAiA2l8+Qjq7OEOEJyDps
Ig2/vU9GL4CycHRYastQ84r8DwIhAJ0Pbf+5OsF5vfnBjgY7n86S0fH10ZzgCs19
8lE874VF
-----END CERTIFICATE REQUEST-----
";

const RSA_1024_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIB/DCCAWWgAwIBAgIUS4RwL7Yr+BNDfqaiwls28WpKZ7EwDQYJKoZIhvcNAQEL
BQAwDzENMAsGA1UEAwwEd2VhazAgFw0yNjExMjQwMTMzMjBaGA8yMTI2MTAzMTAx
MzMyMFowDzENMAsGA1UEAwwEd2VhazCBnzANBgkqhkiG9w0BAQEFAAOBjQAwgYkC
gYEAx1j55sBsYGn4LpYH8/4RPtq8xzeo3tI9TlPisN2hr0AP1lpkmO3i3jXjOkXL
7YBRjP4VdxIQfaPEjl0XjrsVWtie7+tzxwbojGepeX7SwwCIt5tDxrlRvC/p0jDH
gFXNi0sqlmg6d+zVk+N6tcuY3wGmX0ZFmukVF4rfg5CQPwUCAwEAAaNTMFEwHQYD
VR0OBBYEFJg9dR8xQ5a1KdPyrkby0/mzCPdxMB8GA1UdIwQYMBaAFJg9dR8xQ5a1
KdPyrkby0/mzCPdxMA8GA1UdEwEB/wQFMAMBAf8wDQYJKoZIhvcNAQELBQADgYEA
pBkgZna864Aj/pazFR3qR2x4fi38Ldn6xvM9cJuIyOIRpFshzHJyupLjSSCScWP3
CEgp9i70F4Uky52Q14yG4xwMOyCpdrxVFJrTTnKZBANOTnMTIJvUlc9uydEh4P8Q
meaYMx8PMJljFAUqNDk5h1rNAyxVhCOrx6hMURRjLAU=
-----END CERTIFICATE-----
";

const SHA_1_REQUEST: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIICUzCCATsCAQAwDjEMMAoGA1UEAwwDb2xkMIIBIjANBgkqhkiG9w0BAQEFAAOC
AQ8AMIIBCgKCAQEArJErZDYIMyBNLC5j1NWhrGo32g2bnWFse4XGaZFONBLjTBX+
MetHmbxFW8kUdGE67/GuZCwsV0xJUD2jRkCHTgSaBn14wwN7J4fuUBA4Z5N1ZZHQ
2nrvi3so9O9ZkCZkqBv2sPVvqT++HOgexcRekljk96Jvgy5k96NyTl/xLvkN5tTW
7iTQkDe4fb9hxE5N06yyK6UupmIq3raj+UoSmOtVTXKtqpI36AhhYXEqynXy5tra
0VaDhrHtP7mxJZ4tfmGNJ7+g2Ca9viociGWOT+kOZ6H9GngpQfJn2sNep4opeSNG
1WLaWS9mPTt48JRv2IikO6nbPtXiFbZ+UfYzowIDAQABoAAwDQYJKoZIhvcNAQEF
BQADggEBAJ/xT7ZBMd5fp1yAsMIri2IllWQdGN9qdKtdGjFUOhtP0dMNI3H3vTbd
rhLluhp0Ke1woPNAf7B8N0WoM/YGh9Tr0s8/BcQhjygFyW//AOIz/Lt3OuxDJn/w
qsumJS6aM69XqLPh0wiuGQs3ImoxqYK8t66w0b6vJ+hgUn9QEvxtmoctCctYXOLa
AnxCGE8r3LA30heBe5CLD9AXYv8ahEgNTXuQMOkYDy80btfCgDM3vWM8HxcLurMT
DJpID4srwo4BQs9M1X+6G3k1kbN+5L/a5NcEsy3LjcSm+w+k268q23R0nh0MKgGO
PIySrEqJf7Y/8yP/AC9UAMQ+/f9xlZY=
-----END CERTIFICATE REQUEST-----
";
