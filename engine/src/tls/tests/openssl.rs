//! Against an implementation that shares nothing with ours: the `openssl` command, whose
//! `s_client` and `s_server` update their keys when told `k` or `K`.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "these tests talk to another process"
)]

use std::process::Stdio;
use std::time::Duration;

use rustls::SupportedCipherSuite;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::{Opened, Records, RecordsChoice, Session, accept, connect, server_name};
use super::support::{
    Bytes, Certificate, configs_from, identity, seal_one, tls12_suites, tls13_suites,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A running `openssl`.
struct Openssl {
    _child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    /// What it has printed so far, from where the last search ended.
    printed: Vec<u8>,
}

impl Openssl {
    fn start(arguments: &[&str], files: &tempfile::TempDir) -> Self {
        let mut child = Command::new("openssl")
            .args(arguments)
            .current_dir(files.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: child.stdout.take().unwrap(),
            _child: child,
            printed: Vec::new(),
        }
    }

    async fn type_in(&mut self, text: &str) {
        self.stdin.write_all(text.as_bytes()).await.unwrap();
        self.stdin.flush().await.unwrap();
        // A command is one only at the start of what a single read returns.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    /// The server says in the middle of the data when a record held none.
    fn forget_chatter(&mut self, from: usize) {
        const CHATTER: &[u8] = b"Read BLOCK\n";
        while let Some(at) = self.printed[from..]
            .windows(CHATTER.len())
            .position(|it| it == CHATTER)
        {
            self.printed.drain(from + at..from + at + CHATTER.len());
        }
    }

    /// Reads what it prints until `text` is there; returns what came before.
    async fn prints(&mut self, text: &[u8]) -> Vec<u8> {
        let mut new = 0;
        loop {
            self.forget_chatter(new);
            new = self.printed.len().saturating_sub(20);
            let found = self.printed.windows(text.len()).position(|it| it == text);
            if let Some(at) = found {
                let behind = self.printed.split_off(at + text.len());
                return std::mem::replace(&mut self.printed, behind);
            }
            let read = timeout(PATIENCE, self.stdout.read_buf(&mut self.printed)).await;
            let size = read.unwrap_or_else(|_| {
                panic!(
                    "not printed: {}; printed: {}",
                    String::from_utf8_lossy(&text[..text.len().min(80)]),
                    String::from_utf8_lossy(&self.printed[..self.printed.len().min(2000)])
                )
            });
            assert_ne!(size.unwrap(), 0, "openssl ended");
        }
    }
}

/// Our end.
struct Ours {
    socket: TcpStream,
    records: Records,
    received: Vec<u8>,
}

impl Ours {
    fn new(socket: TcpStream, session: Session) -> Self {
        Self {
            socket,
            records: session.records,
            received: session.unread,
        }
    }

    async fn send(&mut self, plaintext: &[u8]) {
        let mut wire = Vec::new();
        seal_one(&mut self.records, plaintext, &mut wire).unwrap();
        self.socket.write_all(&wire).await.unwrap();
    }

    /// Opens records until one has data or ends the connection.
    async fn next_data(&mut self) -> Option<Vec<u8>> {
        loop {
            let (data, consumed) = match self.records.open(&mut self.received).unwrap() {
                Opened::Data {
                    plaintext,
                    consumed,
                } => (Some(self.received[plaintext].to_vec()), consumed),
                Opened::Handled { consumed } => (None, consumed),
                Opened::Closed { .. } => return None,
                Opened::Incomplete => {
                    let read = timeout(PATIENCE, self.socket.read_buf(&mut self.received)).await;
                    assert_ne!(
                        read.expect("data in time").unwrap(),
                        0,
                        "closed without a word"
                    );
                    continue;
                }
            };
            self.received.drain(..consumed);
            if data.is_some() {
                return data;
            }
        }
    }

    async fn hears(&mut self, text: &[u8]) {
        let mut heard = Vec::new();
        while heard.len() < text.len() {
            heard.extend(self.next_data().await.expect("more data"));
        }
        assert_eq!(heard, text);
    }
}

/// Who closes first. (The server command says no close_notify of its own accord.)
enum End {
    Ours,
    Theirs,
}

fn is_missing() -> bool {
    let missing = std::process::Command::new("openssl")
        .arg("version")
        .output()
        .is_err();
    if missing {
        eprintln!("SKIPPED: the `openssl` command is not installed");
    }
    missing
}

/// Data both ways, key updates from both sides, a large transfer, and an orderly end.
async fn converse(openssl: &mut Openssl, ours: &mut Ours, updates: bool, end: End) {
    ours.send(b"hello from ours\n").await;
    openssl.prints(b"hello from ours\n").await;
    openssl.type_in("hello from openssl\n").await;
    ours.hears(b"hello from openssl\n").await;
    if updates {
        for command in ["k\n", "K\n", "K\n"] {
            openssl.type_in(command).await;
            openssl.type_in("after an update of openssl's\n").await;
            ours.hears(b"after an update of openssl's\n").await;
            ours.send(b"our answer and more\n").await;
            openssl.prints(b"our answer and more\n").await;
        }
        if let Records::InPlace(records) = &mut ours.records {
            records.renew_after(1);
        }
        for count in 0..20 {
            let line = format!("with new keys each time {count}\n");
            ours.send(line.as_bytes()).await;
            openssl.prints(line.as_bytes()).await;
        }
    }
    let mut bytes = Bytes::new(5);
    let mut all = String::from("<");
    while all.len() < 1 << 20 {
        all.push_str(&format!("{:x}", bytes.next()));
    }
    all.push_str(">\n");
    let mut rest = all.as_bytes();
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.len().min(1 + bytes.below(16_384)));
        ours.send(piece).await;
        rest = behind;
    }
    openssl.prints(all.as_bytes()).await;
    match end {
        End::Theirs => openssl.type_in("Q\n").await,
        End::Ours => {
            let mut wire = Vec::new();
            ours.records.close_notify(&mut wire);
            ours.socket.write_all(&wire).await.unwrap();
            openssl.prints(b"DONE").await;
        }
    }
    assert_eq!(ours.next_data().await, None, "close_notify");
}

fn suite_arguments(suite: SupportedCipherSuite) -> Vec<&'static str> {
    use rustls::CipherSuite as Suite;
    match suite.suite() {
        Suite::TLS13_AES_128_GCM_SHA256 => vec!["-ciphersuites", "TLS_AES_128_GCM_SHA256"],
        Suite::TLS13_AES_256_GCM_SHA384 => vec!["-ciphersuites", "TLS_AES_256_GCM_SHA384"],
        Suite::TLS13_CHACHA20_POLY1305_SHA256 => {
            vec!["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"]
        }
        _ => vec!["-tls1_2"],
    }
}

/// Runs every combination, all at once: they mostly wait.
async fn everywhere<T>(case: fn(SupportedCipherSuite, RecordsChoice) -> T)
where
    T: Future<Output = ()> + Send + 'static,
{
    if is_missing() {
        return;
    }
    let mut tasks = JoinSet::new();
    for suite in tls13_suites().into_iter().chain([tls12_suites()[0]]) {
        for choice in [RecordsChoice::InPlace, RecordsChoice::Library] {
            tasks.spawn(async move {
                case(suite, choice).await;
                eprintln!("{:?} {choice:?}: done", suite.suite());
            });
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn our_client_and_openssls_server_converse() {
    everywhere(converse_with_server).await;
}

#[tokio::test]
async fn our_server_and_openssls_client_converse() {
    everywhere(converse_with_client).await;
}

async fn converse_with_server(suite: SupportedCipherSuite, choice: RecordsChoice) {
    let (certificate, key, authority) = identity(Certificate::Good);
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("certificate"), &certificate).unwrap();
    std::fs::write(files.path().join("key"), key.secret_der()).unwrap();
    let mut arguments = vec!["s_server", "-accept", "127.0.0.1:0", "-naccept", "1"];
    arguments.extend(["-certform", "DER", "-cert", "certificate"]);
    arguments.extend(["-keyform", "DER", "-key", "key"]);
    arguments.extend(suite_arguments(suite));
    let mut openssl = Openssl::start(&arguments, &files);
    openssl.prints(b"ACCEPT 127.0.0.1:").await;
    let port = openssl.prints(b"\n").await;
    let port: u16 = String::from_utf8(port).unwrap().trim().parse().unwrap();

    let (config, _) = configs_from(suite, (certificate, key, authority));
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = server_name("localhost").unwrap();
    let session = connect(&mut socket, &config, name, choice).await.unwrap();
    let updates = session.version == "TLSv1_3";
    let mut ours = Ours::new(socket, session);
    converse(&mut openssl, &mut ours, updates, End::Ours).await;
}

async fn converse_with_client(suite: SupportedCipherSuite, choice: RecordsChoice) {
    let files = tempfile::tempdir().unwrap();
    let (_, config) = configs_from(suite, identity(Certificate::Good));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut arguments = vec!["s_client", "-connect", &address];
    arguments.extend(suite_arguments(suite));
    let mut openssl = Openssl::start(&arguments, &files);
    let (mut socket, _) = listener.accept().await.unwrap();
    let session = accept(&mut socket, &config, choice).await.unwrap();
    let updates = session.version == "TLSv1_3";
    let mut ours = Ours::new(socket, session);
    openssl.prints(b"\n---\n").await;
    converse(&mut openssl, &mut ours, updates, End::Theirs).await;
}
