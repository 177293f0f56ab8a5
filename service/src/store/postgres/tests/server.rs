//! A PostgreSQL of the tests' own: Debian's, in a temporary directory, for as long as this process lives.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// One for all tests of this process; each has a database of its own.
pub(super) struct Server {
    /// Holds its socket and certificates.
    pub(super) directory: PathBuf,
    pub(super) port: u16,
    /// Its standard input keeps the server up: when this process ends, however it does, so does that.
    _shell: Child,
    databases: AtomicUsize,
}

/// `None`, with the reason printed, when PostgreSQL is not installed.
pub(super) fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(start).as_ref()
}

impl Server {
    /// A new, empty database.
    pub(super) async fn database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{number}");
        self.run("postgres", &format!("CREATE DATABASE {name}"))
            .await;
        name
    }

    /// The URL of a database on the server's Unix socket.
    pub(super) fn url(&self, database: &str) -> String {
        let host = self.directory.display().to_string().replace('/', "%2F");
        format!("postgres://tester@{host}:{}/{database}", self.port)
    }

    /// Runs statements in a database, as soon as the server is up.
    pub(super) async fn run(&self, database: &str, sql: &str) {
        let config: tokio_postgres::Config = self.url(database).parse().unwrap();
        for _ in 0..600 {
            let Ok((client, connection)) = config.connect(tokio_postgres::NoTls).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let connection = tokio::spawn(connection);
            client.batch_execute(sql).await.unwrap();
            drop(client);
            connection.await.unwrap().unwrap();
            return;
        }
        panic!("PostgreSQL did not start; see {}", self.directory.display());
    }
}

fn start() -> Option<Server> {
    let Some(programs) = programs() else {
        let required = std::env::var("ADIT_REQUIRE_PROGRAMS").is_ok_and(|value| value == "1");
        assert!(
            !required,
            "ADIT_REQUIRE_PROGRAMS=1 is set and PostgreSQL is not installed"
        );
        let _ = writeln!(std::io::stderr(), "skipped: PostgreSQL is not installed");
        return None;
    };
    let directory = tempfile::Builder::new()
        .prefix("adit-pg-")
        .tempdir()
        .unwrap()
        .keep();
    write_certificates(&directory);
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", SCRIPT, "sh"])
        .arg(&directory)
        .arg(&programs)
        .arg(port.to_string());
    if std::fs::metadata(&directory).unwrap().uid() == 0 {
        // It refuses to run as root.
        for path in ["", "server.pem", "server.key"] {
            chown(directory.join(path), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let id = NOBODY.to_string();
        command.args([
            "setpriv",
            "--reuid",
            &id,
            "--regid",
            &id,
            "--clear-groups",
            "--",
        ]);
    }
    let shell = command
        .current_dir("/")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    Some(Server {
        directory,
        port,
        _shell: shell,
        databases: AtomicUsize::new(0),
    })
}

/// The newest version that there is.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let places = versions.map(|version| version.path().join("bin"));
    places.filter(|place| place.join("initdb").is_file()).max()
}

/// `ca.pem`, and a certificate for 127.0.0.1 that it has signed.
fn write_certificates(directory: &Path) {
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let server = server.signed_by(&key, &authority).unwrap();
    let write = |name: &str, text: &str, mode| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write("ca.pem", &authority.pem(), 0o644);
    write("server.pem", &server.pem(), 0o644);
    write("server.key", &key.serialize_pem(), 0o600);
}

/// Debian's `nobody`.
const NOBODY: u32 = 65_534;

const SCRIPT: &str = r#"
directory=$1 programs=$2 port=$3
shift 3
"$@" "$programs/initdb" -U tester -A trust --no-sync -D "$directory/data" >"$directory/log" 2>&1 || exit
"$@" "$programs/postgres" -D "$directory/data" -p "$port" -c fsync=off -c max_connections=300 \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories="$directory" -c ssl=on \
    -c ssl_cert_file="$directory/server.pem" -c ssl_key_file="$directory/server.key" >>"$directory/log" 2>&1 &
cat >/dev/null
kill -INT $!
wait
rm -rf "$directory"
"#;
