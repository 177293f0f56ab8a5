//! A PostgreSQL of the tests' own: Debian's, in a temporary directory, for as long as this process lives.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
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
    /// Databases whose tests have ended. With a new one for each test, a run took more than a gigabyte.
    left: Mutex<Vec<String>>,
    /// It has answered once.
    is_up: AtomicBool,
}

/// `None`, with the reason printed, when PostgreSQL is not installed.
pub(super) fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(start).as_ref()
}

impl Server {
    /// An empty database that nobody else uses.
    pub(super) async fn database(&self) -> String {
        let left = self.left.lock().unwrap().pop();
        if let Some(name) = left {
            self.run(&name, &EMPTY.replace("NAME", &name)).await;
            return name;
        }
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{number}");
        self.run("postgres", &format!("CREATE DATABASE {name}"))
            .await;
        name
    }

    /// Nobody uses a database any more.
    pub(super) fn leave(&self, database: String) {
        self.left.lock().unwrap().push(database);
    }

    /// The URL of a database on the server's Unix socket.
    pub(super) fn url(&self, database: &str) -> String {
        let host = self.directory.display().to_string().replace('/', "%2F");
        format!("postgres://tester@{host}:{}/{database}", self.port)
    }

    /// Runs statements in a database, as soon as the server is up.
    pub(super) async fn run(&self, database: &str, sql: &str) {
        let config: tokio_postgres::Config = self.url(database).parse().unwrap();
        let client = self.connect(&config).await;
        let done = client.batch_execute(sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error:?}\n{}", self.last_words()));
    }

    /// A connection; only a server that has not yet answered is waited for.
    pub(super) async fn connect(&self, config: &tokio_postgres::Config) -> tokio_postgres::Client {
        let mut tries = 600;
        loop {
            match config.connect(tokio_postgres::NoTls).await {
                Ok((client, connection)) => {
                    self.is_up.store(true, Ordering::Relaxed);
                    tokio::spawn(connection);
                    return client;
                }
                Err(_) if tries > 0 && !self.is_up.load(Ordering::Relaxed) => tries -= 1,
                Err(error) => panic!("PostgreSQL: {error:?}\n{}", self.last_words()),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The end of the server's log: the machine that it ran on may be out of reach.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
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
        left: Mutex::default(),
        is_up: AtomicBool::new(false),
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

/// Connections of the last test may be about to end, and its sessions may have had settings.
const EMPTY: &str = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
    WHERE datname = 'NAME' AND pid <> pg_backend_pid(); \
    ALTER DATABASE NAME RESET ALL; DROP SCHEMA public CASCADE; CREATE SCHEMA public";

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
