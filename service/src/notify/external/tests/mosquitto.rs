//! A `mosquitto` of a test's own, in a temporary directory, and its `mosquitto_sub`.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use adit_engine::tls::client_config_from;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::notify::{BrokerAddress, ExternalSettings};

/// The service's own identity at the broker.
pub(super) const SERVICE: Option<&str> = Some("adit");

/// How the broker knows who is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// By the common name of the client's certificate.
    Certificates,
    /// By name and password: `adit` and `right:one`.
    Passwords,
}

/// Configuration and certificates, for any number of starts on one port.
pub(super) struct Mosquitto {
    program: PathBuf,
    files: TempDir,
    port: u16,
}

impl Mosquitto {
    /// `None`, with the reason printed, when it is not installed.
    pub(super) fn new(door: Door, things: &[&str]) -> Option<Self> {
        let Some(program) = installed() else {
            let must = std::env::var("ADIT_REQUIRE_PROGRAMS").is_ok_and(|value| value == "1");
            assert!(
                !must,
                "ADIT_REQUIRE_PROGRAMS=1 is set and mosquitto is not installed"
            );
            let _ = writeln!(std::io::stderr(), "skipped: mosquitto is not installed");
            return None;
        };
        let files = tempfile::tempdir().unwrap();
        // Free now; and nobody else is given it soon.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        write_certificates(files.path(), things);
        write_configuration(files.path(), door, port);
        Some(Self {
            program,
            files,
            port,
        })
    }

    /// Starts it, and waits until it takes connections.
    pub(super) async fn start(&self) -> Running<'_> {
        let log = std::fs::File::create(self.file("log")).unwrap();
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(self.file("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return Running {
                    site: self,
                    child: Mutex::new(child),
                };
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("mosquitto did not start: {}", self.log());
    }

    /// For a client with this certificate, or with none.
    pub(super) fn settings(&self, identity: Option<&str>) -> ExternalSettings {
        self.settings_for(&format!("mqtts://localhost:{}", self.port), "ca", identity)
    }

    /// For one that trusts somebody else.
    pub(super) fn distrusting(&self) -> ExternalSettings {
        let url = format!("mqtts://localhost:{}", self.port);
        self.settings_for(&url, "other", SERVICE)
    }

    /// For one that uses a name that is not in the broker's certificate.
    pub(super) fn by_address(&self) -> ExternalSettings {
        self.settings_for(&format!("mqtts://127.0.0.1:{}", self.port), "ca", SERVICE)
    }

    /// For one without TLS, on the port for TLS.
    pub(super) fn in_clear(&self) -> ExternalSettings {
        self.settings_for(&format!("mqtt://localhost:{}", self.port), "ca", None)
    }

    fn settings_for(&self, url: &str, authority: &str, identity: Option<&str>) -> ExternalSettings {
        let certificate = |name: &str| CertificateDer::from_pem_file(self.file(name)).unwrap();
        let trusted = certificate(&format!("{authority}.pem"));
        let mut config = (*client_config_from([trusted]).unwrap()).clone();
        if let Some(name) = identity {
            let key = PrivateKeyDer::from_pem_file(self.file(&format!("{name}.key"))).unwrap();
            let chain = vec![certificate(&format!("{name}.pem"))];
            let pair = CertifiedKey::from_der(chain, key, config.crypto_provider()).unwrap();
            config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(pair));
        }
        ExternalSettings {
            address: url.parse::<BrokerAddress>().unwrap(),
            tls: Arc::new(config),
            login: None,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.file("log")).unwrap_or_default()
    }
}

/// A running broker; killed when dropped.
pub(super) struct Running<'a> {
    site: &'a Mosquitto,
    child: Mutex<Child>,
}

impl Running<'_> {
    /// Subscribes as this thing, by its certificate; ends after so many messages.
    pub(super) async fn subscriber(
        &self,
        thing: &str,
        topics: &[&str],
        count: usize,
    ) -> Subscriber {
        self.subscribe(thing, topics, count, &[]).await
    }

    /// The same with a session that outlives the connection, named like the thing.
    pub(super) async fn persistent_subscriber(
        &self,
        thing: &str,
        topic: &str,
        count: usize,
    ) -> Subscriber {
        self.subscribe(thing, &[topic], count, &["-c", "-i", thing])
            .await
    }

    /// Ends it in order: it writes down the sessions.
    pub(super) async fn stop(self) {
        self.signal("TERM").await;
        self.child.lock().await.wait().await.unwrap();
    }

    pub(super) async fn signal(&self, name: &str) {
        let id = self.child.lock().await.id().unwrap();
        let mut kill = Command::new("kill");
        let status = kill.args(["-s", name, &id.to_string()]).status().await;
        assert!(status.unwrap().success());
    }

    /// Publishes this text so often as this thing, which nobody may; returns when the broker has
    /// answered each.
    pub(super) async fn forge(&self, thing: &str, topic: &str, text: &str, count: usize) {
        let mut command = self.client("mosquitto_pub", thing);
        command
            .args(["-q", "1", "-l", "-t", topic])
            .stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let lines = format!("{text}\n").repeat(count);
        input.write_all(lines.as_bytes()).await.unwrap();
        drop(input);
        let ended = timeout(PATIENCE, child.wait()).await;
        assert!(ended.expect("it ends").unwrap().success());
    }

    fn client(&self, program: &str, thing: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-h", "localhost", "-p", &self.site.port.to_string()]);
        let file = |name: String| self.site.file(&name);
        command.arg("--cafile").arg(file("ca.pem".to_owned()));
        command.arg("--cert").arg(file(format!("{thing}.pem")));
        command.arg("--key").arg(file(format!("{thing}.key")));
        command.kill_on_drop(true).stdin(Stdio::null());
        command
    }

    async fn subscribe(
        &self,
        thing: &str,
        topics: &[&str],
        count: usize,
        more: &[&str],
    ) -> Subscriber {
        let granted = self.granted();
        let mut command = self.client("mosquitto_sub", thing);
        command.args(["-q", "1", "-v", "-W", "60", "-C", &count.to_string()]);
        command.args(topics.iter().flat_map(|topic| ["-t", topic]));
        command.args(more).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // It says so as soon as it has granted everything.
        for _ in 0..600 {
            if self.granted() > granted {
                return Subscriber {
                    lines: Mutex::new(lines),
                    _child: child,
                };
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("not subscribed: {}", self.site.log());
    }

    fn granted(&self) -> usize {
        self.site.log().matches("Sending SUBACK").count()
    }
}

/// A `mosquitto_sub` whose subscription was granted.
pub(super) struct Subscriber {
    lines: Mutex<Lines<BufReader<ChildStdout>>>,
    _child: Child,
}

impl Subscriber {
    /// The first message, as soon as it is there.
    pub(super) async fn first_line(&self) -> String {
        let mut lines = self.lines.lock().await;
        let line = timeout(PATIENCE, lines.next_line()).await;
        line.expect("a message comes").unwrap().expect("a message")
    }

    /// Whether nothing comes.
    pub(super) async fn is_silent(&self) -> bool {
        timeout(SILENCE, self.lines.lock().await.next_line())
            .await
            .is_err()
    }

    /// What else it hears until it ends.
    pub(super) async fn lines(self) -> Vec<String> {
        let mut lines = self.lines.lock().await;
        let mut heard = Vec::new();
        while let Ok(Ok(Some(line))) = timeout(PATIENCE, lines.next_line()).await {
            heard.push(line);
        }
        heard
    }
}

fn installed() -> Option<PathBuf> {
    let places = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
    let program = places.iter().map(PathBuf::from).find(|path| path.is_file());
    let subscriber = std::process::Command::new("mosquitto_sub")
        .arg("--help")
        .output();
    program.filter(|_| subscriber.is_ok())
}

fn write_configuration(directory: &Path, door: Door, port: u16) {
    let path = directory.display().to_string();
    // What operators are given, with other places in it.
    let mut text = CONFIGURATION.replace("listener 8883", &format!("listener {port} 127.0.0.1"));
    for place in [
        "/etc/mosquitto/certs",
        "/etc/mosquitto",
        "/var/lib/mosquitto",
    ] {
        text = text.replace(place, &path);
    }
    if door == Door::Passwords {
        let passwords = format!("password_file {path}/passwords\n");
        text = text.replace("require_certificate true\n", &passwords);
        text = text.replace("use_identity_as_username true\n", "");
    }
    // As root it would become a user that cannot read the files here.
    text += "user root\nlog_dest stderr\nlog_type all\n";
    write(directory, "mosquitto.conf", &text);
    write(directory, "adit.acl", ACCESS_LIST);
    if door == Door::Passwords {
        write(directory, "passwords", "adit:right:one\n");
        let status = std::process::Command::new("mosquitto_passwd")
            .args(["-b", "-c"])
            .arg(directory.join("passwords"))
            .args(["adit", "right:one"])
            .status();
        assert!(status.unwrap().success());
    }
}

/// `ca.pem` has certified the broker (as `localhost`), the service, and each thing; `other.pem` the stranger.
fn write_certificates(directory: &Path, things: &[&str]) {
    // Each with a name of its own: who has that of the authority is taken for it.
    let params = |name: &str| {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let authority = |name| {
        let mut authority = params(name);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap()
    };
    let (ca, other) = (authority("one authority"), authority("another authority"));
    write(directory, "ca.pem", &ca.pem());
    write(directory, "other.pem", &other.pem());
    let mut broker = params("broker");
    let localhost = "localhost".to_owned().try_into().unwrap();
    broker.subject_alt_names.push(SanType::DnsName(localhost));
    let mut all = vec![("broker", broker, &ca)];
    for name in things.iter().chain(&["adit", "stranger"]) {
        let issuer = if *name == "stranger" { &other } else { &ca };
        all.push((name, params(name), issuer));
    }
    for (name, params, issuer) in all {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        write(directory, &format!("{name}.pem"), &certificate.pem());
        write(directory, &format!("{name}.key"), &key.serialize_pem());
    }
}

fn write(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

const CONFIGURATION: &str = include_str!("../../../../../deploy/mosquitto/adit.conf");
const ACCESS_LIST: &str = include_str!("../../../../../deploy/mosquitto/adit.acl");

/// Long enough for a message that was sent before another one that has arrived.
const SILENCE: Duration = Duration::from_millis(300);

/// Longer than a broker that was down is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
