//! T-19: authorities and pinned keys, twelve servers against what a client was given.

use std::fs;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::super::config::pin_of;
use super::super::{
    ClientTls, HandshakeError, RecordsChoice, accept, client_config, connect, server_name,
};
use super::support::{Certificate, Identity, identity};

/// Which keys a client was told.
#[derive(Clone, Copy, Debug)]
enum Told {
    Servers,
    AnotherAndTheServers,
    Another,
    Authoritys,
}

fn pins((certificate, _, authority): &Identity, told: Told) -> String {
    let pin = |certificate| pin_of(certificate).unwrap().to_string();
    let another = format!("sha256//{}", STANDARD.encode([7; 32]));
    match told {
        Told::Servers => pin(certificate),
        Told::AnotherAndTheServers => format!("{another};{}", pin(certificate)),
        Told::Another => another,
        Told::Authoritys => pin(authority),
    }
}

/// Its chain has the authority, whose key must not count. Whether its key is that of the certificate is not looked at.
fn server(
    (certificate, key, authority): &Identity,
    version: &'static SupportedProtocolVersion,
) -> Arc<ServerConfig> {
    let provider = Arc::new(default_provider());
    let chain = vec![certificate.clone(), authority.clone()];
    let key = provider.key_provider.load_private_key(key.clone_key());
    let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key.unwrap()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    config.enable_secret_extraction = true;
    Arc::new(config)
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let base64 = STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
}

/// What a client that trusts the authority and was told these keys thinks of the server.
async fn verdict(
    identity: &Identity,
    (name, told, no_verify): (&str, Told, bool),
    choice: RecordsChoice,
    version: &'static SupportedProtocolVersion,
) -> Result<(), HandshakeError> {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    fs::write(&ca, pem(&identity.2)).unwrap();
    let client = client_config(&ClientTls {
        ca_path: Some(ca),
        no_verify,
        pins: Some(pins(identity, told).parse().unwrap()),
    });
    let (client, server) = (client.unwrap(), server(identity, version));
    let (mut near, mut far) = tokio::io::duplex(64 * 1024);
    let name = server_name(name).unwrap();
    let (near, far) = tokio::join!(
        connect(&mut near, &client, name, choice),
        accept(&mut far, &server, choice)
    );
    assert_eq!(near.is_ok(), far.is_ok(), "both hear of it");
    near.map(drop)
}

#[tokio::test]
async fn twelve_servers_are_judged_by_authority_name_time_and_key() {
    use Certificate::*;
    let good = "localhost";
    let cases = [
        (Good, (good, Told::Servers, false), None),
        (Good, (good, Told::AnotherAndTheServers, false), None),
        (
            Good,
            (good, Told::Another, false),
            Some("not one of those pinned"),
        ),
        (
            Good,
            (good, Told::Authoritys, false),
            Some("not one of those pinned"),
        ),
        (
            Good,
            ("elsewhere.test", Told::Servers, false),
            Some("another host"),
        ),
        (Expired, (good, Told::Servers, false), Some("has expired")),
        (NotYet, (good, Told::Servers, false), Some("not valid yet")),
        (
            Stranger,
            (good, Told::Servers, false),
            Some("unknown authority"),
        ),
        (SameName, (good, Told::Servers, false), Some("another key")),
        (
            SelfSigned,
            (good, Told::Servers, false),
            Some("unknown authority"),
        ),
        (SelfSigned, (good, Told::Servers, true), None),
        (
            SelfSigned,
            (good, Told::Another, true),
            Some("not one of those pinned"),
        ),
    ];
    for (certificate, trust, problem) in cases {
        let identity = identity(certificate);
        for choice in [RecordsChoice::Library, RecordsChoice::InPlace] {
            for version in [&TLS13, &TLS12] {
                let error = verdict(&identity, trust, choice, version).await.err();
                let text = error.as_ref().map(ToString::to_string);
                let is_so = match (&text, problem) {
                    (Some(text), Some(problem)) => text.contains(problem),
                    (text, problem) => text.is_none() && problem.is_none(),
                };
                assert!(is_so, "{certificate:?}, {trust:?}: {text:?}");
                let hint = error.as_ref().and_then(HandshakeError::hint);
                assert_eq!(hint.is_some(), problem.is_some(), "{text:?}");
            }
        }
    }
}

/// Whoever shows another's certificate cannot sign for its key, and `-k` does not help.
#[tokio::test]
async fn a_key_is_not_proved_by_a_copied_certificate() {
    let (certificate, _, authority) = identity(Certificate::Good);
    let (_, another_key, _) = identity(Certificate::Good);
    let copied = (certificate, another_key, authority);
    for version in [&TLS13, &TLS12] {
        let trust = ("localhost", Told::Servers, true);
        let verdict = verdict(&copied, trust, RecordsChoice::InPlace, version).await;
        assert!(verdict.is_err());
    }
}
