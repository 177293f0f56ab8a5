use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustls::RootCertStore;
use time::Duration;

use super::inspect::{alternative_names, parse};
use super::*;

const NOW: OffsetDateTime = time::macros::datetime!(2026-11-23 12:00:00 UTC);

fn names(extra: &[&'static str]) -> Vec<ServerName<'static>> {
    ["localhost", "127.0.0.1", "::1"]
        .iter()
        .chain(extra)
        .map(|name| ServerName::try_from(*name).unwrap())
        .collect()
}

struct Fixture {
    _parent: tempfile::TempDir,
    dir: DataDir,
}

impl Fixture {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(&parent.path().join("data")).unwrap();
        let fixture = Self {
            _parent: parent,
            dir,
        };
        fixture.start(NOW, &[]).unwrap();
        fixture
    }

    fn start(
        &self,
        now: OffsetDateTime,
        extra: &[&'static str],
    ) -> Result<Certificates, CertificateError> {
        Certificates::in_dir(&self.dir, &names(extra), now)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.dir.file(name)).unwrap()
    }

    fn all(&self) -> [String; 4] {
        [CA_PEM, CA_KEY, SERVER_PEM, SERVER_KEY].map(|name| self.text(name))
    }

    fn refusal(&self) -> String {
        match self.start(NOW, &[]) {
            Ok(_) => panic!("the start should have been refused"),
            Err(error) => error.to_string(),
        }
    }
}

fn leaf(pem: &str) -> CertificateDer<'static> {
    parse_chain(pem).unwrap().remove(0)
}

#[test]
fn first_start_writes_four_files_with_their_modes() {
    let fixture = Fixture::new();
    for (name, mode) in [
        (CA_PEM, 0o644),
        (CA_KEY, 0o600),
        (SERVER_PEM, 0o644),
        (SERVER_KEY, 0o600),
    ] {
        let found = fs::metadata(fixture.dir.file(name)).unwrap().mode() & 0o7777;
        assert_eq!(found, mode, "{name}");
    }
}

#[test]
fn validity_and_names_are_as_promised() {
    let fixture = Fixture::new();
    let days = |pem: &str| {
        let (begins, ends) = validity(&leaf(pem)).unwrap();
        assert!(begins < NOW && NOW < ends);
        (ends - begins).whole_days()
    };
    assert_eq!(days(&fixture.text(CA_PEM)), 3650);
    assert_eq!(days(&fixture.text(SERVER_PEM)), 365);
    let found = alternative_names(&leaf(&fixture.text(SERVER_PEM))).unwrap();
    assert_eq!(found, names(&[]));
}

#[test]
fn second_start_changes_nothing() {
    let fixture = Fixture::new();
    let before = fixture.all();
    let certificates = fixture.start(NOW + Duration::days(300), &[]).unwrap();
    assert_eq!(fixture.all(), before);
    assert_eq!(certificates.ca_pem(), before[0]);
}

#[test]
fn renewed_with_the_same_key_when_under_30_days_are_left() {
    let fixture = Fixture::new();
    let before = fixture.all();
    let ends = validity(&leaf(&before[2])).unwrap().1;
    fixture.start(ends - Duration::days(30), &[]).unwrap();
    assert_eq!(fixture.all(), before, "30 days are enough");
    let almost = ends - Duration::days(30) + Duration::seconds(1);
    fixture.start(almost, &[]).unwrap();
    let after = fixture.all();
    assert_eq!(
        [&after[0], &after[1], &after[3]],
        [&before[0], &before[1], &before[3]]
    );
    assert_ne!(after[2], before[2]);
    let serial = |pem: &str| parse(&leaf(pem)).unwrap().raw_serial().to_vec();
    assert_ne!(serial(&after[2]), serial(&before[2]));
    // And long after it ended.
    fixture.start(ends + Duration::days(900), &[]).unwrap();
}

#[test]
fn renewed_when_the_clock_was_set_back_or_a_name_is_new() {
    let fixture = Fixture::new();
    let first = fixture.text(SERVER_PEM);
    fixture.start(NOW, &["relay.example", "192.0.2.7"]).unwrap();
    let second = fixture.text(SERVER_PEM);
    assert_ne!(first, second);
    let found = alternative_names(&leaf(&second)).unwrap();
    assert_eq!(found, names(&["relay.example", "192.0.2.7"]));
    fixture.start(NOW, &[]).unwrap();
    assert_eq!(
        fixture.text(SERVER_PEM),
        second,
        "one name more does no harm"
    );
}

#[test]
fn a_server_certificate_never_outlives_its_authority() {
    let fixture = Fixture::new();
    let ca_ends = validity(&leaf(&fixture.text(CA_PEM))).unwrap().1;
    fixture.start(ca_ends - Duration::days(40), &[]).unwrap();
    let server_ends = validity(&leaf(&fixture.text(SERVER_PEM))).unwrap().1;
    assert_eq!(server_ends, ca_ends);
    let error = fixture.start(ca_ends, &[]).err().unwrap().to_string();
    assert!(error.contains("ca.pem ended at"), "{error}");
}

#[test]
fn an_interrupted_first_start_is_finished_by_the_next() {
    for lost in [
        &[SERVER_PEM][..],
        &[SERVER_PEM, SERVER_KEY],
        &[SERVER_PEM, SERVER_KEY, CA_PEM],
        &[SERVER_PEM, SERVER_KEY, CA_PEM, CA_KEY],
        // Not a crash, but someone tidied up: the key can still make its certificate again.
        &[CA_PEM],
    ] {
        let fixture = Fixture::new();
        for name in lost {
            fs::remove_file(fixture.dir.file(name)).unwrap();
        }
        fixture
            .start(NOW, &[])
            .unwrap_or_else(|error| panic!("{lost:?}: {error}"));
        fixture.start(NOW, &[]).unwrap();
    }
}

#[test]
fn a_lost_authority_key_is_not_replaced_silently() {
    let fixture = Fixture::new();
    fs::remove_file(fixture.dir.file(CA_KEY)).unwrap();
    let text = fixture.refusal();
    assert!(
        text.contains("/ca.pem is damaged: its key ca.key is missing"),
        "{text}"
    );
}

#[test]
fn open_key_files_are_refused_with_the_command_to_run() {
    for name in [CA_KEY, SERVER_KEY] {
        let fixture = Fixture::new();
        let path = fixture.dir.file(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let text = fixture.refusal();
        assert!(
            text.contains(&format!("run: chmod 600 {}", path.display())),
            "{text}"
        );
    }
}

#[test]
fn damaged_files_are_named() {
    for name in [CA_PEM, CA_KEY, SERVER_PEM, SERVER_KEY] {
        let whole = Fixture::new().text(name);
        let middle = whole.len() / 2;
        let flipped = format!("{}A{}", &whole[..middle], &whole[middle + 2..]);
        for damage in ["", "rubbish\n", &whole[..middle], &flipped, &whole] {
            // The last one is sound in itself, but belongs to another installation.
            let fixture = Fixture::new();
            fs::write(fixture.dir.file(name), damage).unwrap();
            let text = fixture.refusal();
            let stem = name.split('.').next().unwrap();
            assert!(text.contains(&format!("/{stem}.")), "{name}: {text}");
            assert!(text.contains("is damaged"), "{name}: {text}");
            assert_eq!(
                fixture.text(name),
                damage,
                "a damaged file is not overwritten"
            );
        }
    }
}

#[test]
fn in_memory_certificates_are_verified_by_a_client() {
    let certificates = Certificates::in_memory(
        &names(&[]),
        crate::clock::Clock::system().now().wall.to_date_time(),
    )
    .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(leaf(certificates.ca_pem())).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    for name in names(&[]) {
        let mut client = rustls::ClientConnection::new(Arc::new(client.clone()), name).unwrap();
        let config = Arc::new(certificates.server_config());
        let mut server = rustls::ServerConnection::new(config).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets().unwrap();
        }
    }
}

/// The certificate that a listener with this configuration shows to a client that trusts `ca_pem` and
/// whose clock stands at `now`.
fn shown(config: &Arc<ServerConfig>, ca_pem: &str, now: OffsetDateTime) -> CertificateDer<'static> {
    #[derive(Debug)]
    struct At(OffsetDateTime);
    impl rustls::time_provider::TimeProvider for At {
        fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
            let seconds = u64::try_from(self.0.unix_timestamp()).ok()?;
            Some(rustls_pki_types::UnixTime::since_unix_epoch(
                std::time::Duration::from_secs(seconds),
            ))
        }
    }
    let mut roots = RootCertStore::empty();
    roots.add(leaf(ca_pem)).unwrap();
    let client =
        rustls::ClientConfig::builder_with_details(Arc::new(provider()), Arc::new(At(now)))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
    while client.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets().unwrap();
    }
    client.peer_certificates().unwrap()[0].clone().into_owned()
}

/// A service that runs for years shows no certificate that has ended, and clients need nothing new.
#[test]
fn a_renewal_reaches_listeners_that_are_there() {
    let fixture = Fixture::new();
    let certificates = fixture.start(NOW, &[]).unwrap();
    let api = Arc::new(certificates.server_config());
    let relay = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(certificates.identity().resolver);
    let relay = Arc::new(relay);
    let first = shown(&api, certificates.ca_pem(), NOW);
    let mut before = first.clone();
    for days in [1, 800, 1_600] {
        let now = NOW + Duration::days(days);
        certificates.renew(&fixture.dir, &names(&[]), now).unwrap();
        let after = shown(&api, certificates.ca_pem(), now);
        assert_eq!(shown(&relay, certificates.ca_pem(), now), after);
        assert_eq!(after == before, days == 1, "after {days} days");
        before = after;
    }
}
