//! Files and directories of certificates as people have them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustls::pki_types::PrivateKeyDer;

use super::super::{RecordsChoice, accept, connect, server_name};
use super::{ClientTls, ConfigError, ServerTls, client_config, server_config, server_config_from};

/// A self-signed certificate and its key, both PEM.
fn certificate(name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn count(path: &Path) -> Result<usize, ConfigError> {
    super::authorities::read_given(path).map(|given| given.len())
}

#[test]
fn a_bundle_holds_many_and_text_between_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bundle.pem");
    let (one, other) = (certificate("one").0, certificate("other").0);
    fs::write(
        &file,
        format!("# One\n{one}\n# The other\nSubject: x\n{other}"),
    )
    .unwrap();
    assert_eq!(count(&file).unwrap(), 2);
}

#[test]
fn a_directory_gives_every_certificate_once() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("one.pem"), certificate("one").0).unwrap();
    fs::write(at("other.crt"), certificate("other").0).unwrap();
    // As `openssl rehash` leaves it, and with what else lies about.
    symlink("one.pem", at("0123abcd.0")).unwrap();
    symlink("gone.pem", at("deadbeef.0")).unwrap();
    fs::write(at("README"), "not a certificate").unwrap();
    fs::write(at("key.pem"), certificate("key").1).unwrap();
    fs::write(at("binary"), [0xff, 0, 13, 10, 0x2d, 0x2d]).unwrap();
    fs::create_dir(at("directory")).unwrap();
    assert_eq!(count(directory.path()).unwrap(), 2);
}

#[test]
fn the_systems_authorities_stay_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("one.pem");
    fs::write(&file, certificate("one").0).unwrap();
    let system = super::authorities::load(None).map_or(0, |(store, _)| store.len());
    let both = super::authorities::load(Some(&file)).unwrap().0.len();
    assert_eq!(both, system + 1);
}

#[test]
fn authorities_from_memory_are_checked() {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let good = CertificateDer::from_pem_slice(certificate("one").0.as_bytes()).unwrap();
    super::client_config_from([good.clone()]).unwrap();
    let cut = CertificateDer::from(good[..good.len() - 1].to_vec());
    super::client_config_from([good, cut]).unwrap_err();
}

#[test]
fn what_is_wrong_is_said_with_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bundle.pem");
    let name = file.display().to_string();
    let good = certificate("good").0;
    let lines = good.lines().count();

    let error = count(&file).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }));
    assert!(error.to_string().contains(&name), "{error}");

    fs::write(&file, "hello").unwrap();
    let error = count(&file).unwrap_err().to_string();
    assert!(
        error.contains(&name) && error.contains("holds no certificate"),
        "{error}"
    );

    let cut = good
        .trim_end()
        .strip_suffix("-----END CERTIFICATE-----")
        .unwrap();
    fs::write(&file, format!("{good}\n{cut}")).unwrap();
    let error = count(&file).unwrap_err().to_string();
    let line = format!("line {}: the section has no `-----END` line", lines + 2);
    assert!(error.contains(&line), "{error}");

    let broken = good.replacen('M', "!", 1);
    fs::write(&file, format!("{broken}\n{good}")).unwrap();
    let error = count(&file).unwrap_err().to_string();
    assert!(
        error.contains("line 1: the section is not valid base64"),
        "{error}"
    );

    fs::write(&file, vec![b'x'; 17 << 20]).unwrap();
    assert!(matches!(count(&file), Err(ConfigError::TooLarge { .. })));
}

#[test]
fn a_directory_without_certificates_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(
        count(directory.path()),
        Err(ConfigError::Missing { .. })
    ));
}

#[test]
fn a_client_can_trust_anyone_if_told_so() {
    let settings = ClientTls {
        no_verify: true,
        ..ClientTls::default()
    };
    assert!(client_config(&settings).is_ok());
}

#[test]
fn a_server_has_a_certificate_and_the_key_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let settings = ServerTls {
        certificate: directory.path().join("certificate.pem"),
        key: directory.path().join("key.pem"),
        allow_open_key: false,
    };
    let (pem, key) = certificate("localhost");
    let write = |certificate: &str, key: &str, mode: u32| {
        fs::write(&settings.certificate, certificate).unwrap();
        fs::write(&settings.key, key).unwrap();
        fs::set_permissions(&settings.key, fs::Permissions::from_mode(mode)).unwrap();
    };
    write(&pem, &key, 0o600);
    assert!(server_config(&settings).is_ok());
    write(&key, &key, 0o600);
    let error = server_config(&settings).unwrap_err().to_string();
    assert!(
        error.contains("certificate.pem holds no certificate"),
        "{error}"
    );
    write(&pem, &pem, 0o600);
    let error = server_config(&settings).unwrap_err().to_string();
    assert!(error.contains("key.pem holds no private key"), "{error}");
    write(&pem, &certificate("localhost").1, 0o600);
    let error = server_config(&settings).unwrap_err();
    assert!(matches!(error, ConfigError::Mismatch { .. }), "{error}");
    for mode in [0o640, 0o604, 0o660, 0o644] {
        write(&pem, &key, mode);
        let error = server_config(&settings).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
    let settings = ServerTls {
        allow_open_key: true,
        ..settings
    };
    assert!(server_config(&settings).is_ok());
}

/// What a client that trusts `trusted` makes of a server that shows `shown`.
async fn verdict(trusted: &rcgen::Certificate, shown: &Shown, name: &str) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("given.pem");
    fs::write(&file, trusted.pem()).unwrap();
    let client = client_config(&ClientTls {
        ca_path: Some(file),
        no_verify: false,
        ..ClientTls::default()
    })
    .unwrap();
    let key = PrivateKeyDer::try_from(shown.key.serialize_der()).unwrap();
    let server = server_config_from(vec![shown.certificate.der().clone()], key).unwrap();
    let (mut near, mut far) = tokio::io::duplex(64 * 1024);
    let name = server_name(name).unwrap();
    let choice = RecordsChoice::Library;
    let (near, _far) = tokio::join!(
        connect(&mut near, &client, name, choice),
        accept(&mut far, &server, choice)
    );
    near.map(drop).map_err(|error| error.to_string())
}

struct Shown {
    certificate: rcgen::Certificate,
    key: rcgen::KeyPair,
}

/// As `openssl req -x509` makes them, unless told otherwise.
fn self_signed(is_authority: bool, not_after: i32) -> Shown {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    if is_authority {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }
    params.not_after = rcgen::date_time_ymd(not_after, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    Shown { certificate, key }
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_if_exactly_it_was_given() {
    for is_authority in [false, true] {
        let good = self_signed(is_authority, 4000);
        let trusted = &good.certificate;
        assert_eq!(verdict(trusted, &good, "localhost").await, Ok(()));
        let wrong_name = verdict(trusted, &good, "elsewhere.test").await.unwrap_err();
        assert!(wrong_name.contains("another host"), "{wrong_name}");
        // Another of the same name, with another key.
        let other = self_signed(is_authority, 4000);
        let refused = verdict(trusted, &other, "localhost").await.unwrap_err();
        assert!(refused.contains("certificate"), "{refused}");
        let expired = self_signed(is_authority, 2001);
        let refused = verdict(&expired.certificate, &expired, "localhost")
            .await
            .unwrap_err();
        assert!(refused.contains("has expired"), "{refused}");
    }
}
