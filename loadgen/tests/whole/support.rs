//! What several tests need.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use adit_engine::ring::{self, IoChoice};

/// The program under test.
pub(crate) const EXECUTABLE: &str = env!("CARGO_BIN_EXE_adit-loadgen");

/// More than anything takes, even on a machine that does other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// On both backends, or on the one that there is.
pub(crate) fn both(test: impl Fn(IoChoice)) {
    test(IoChoice::Epoll);
    match ring::open(IoChoice::Uring, &ring::Settings::default()) {
        Ok(_) => test(IoChoice::Uring),
        Err(reason) => eprintln!("tested on epoll only: {reason}"),
    }
}

/// Sends back what it gets, on a port of its own.
pub(crate) fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = vec![0; 65_536];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends bytes while they come back, and compares.
pub(crate) fn round_trip(stream: &mut TcpStream, bytes: &[u8]) {
    let mut writer = stream.try_clone().unwrap();
    let sent = bytes.to_vec();
    let writer = thread::spawn(move || writer.write_all(&sent));
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    writer.join().unwrap().unwrap();
    assert!(back == bytes, "{} bytes came back damaged", bytes.len());
}

/// Whether a process is there and not only waits to be waited for.
pub(crate) fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|it| it != 'Z')
}

/// `SIGKILL`.
pub(crate) fn kill(pid: u32) {
    signal(pid, "-KILL");
}

/// `SIGINT`.
pub(crate) fn interrupt(pid: u32) {
    signal(pid, "-INT");
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(sent.unwrap().success());
}

/// A system that another process of the generator keeps up.
pub(crate) struct KeptUp {
    pub(crate) child: Child,
    /// What it says of itself.
    pub(crate) document: serde_json::Value,
    directory: tempfile::TempDir,
}

impl KeptUp {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(EXECUTABLE)
            .args(["system", "--json", "--ca-out"])
            .arg(directory.path().join("ca.pem"))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.as_mut().unwrap());
        output.read_line(&mut line).unwrap();
        Self {
            child,
            document: serde_json::from_str(&line).unwrap(),
            directory,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.document["endpoint"].as_str().unwrap().to_owned()
    }

    /// The file of its authority.
    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Of the part of that name.
    pub(crate) fn pid_of(&self, name: &str) -> u32 {
        let parts = self.document["parts"].as_array().unwrap();
        let part = parts.iter().find(|it| it["name"] == name).unwrap();
        part["pid"].as_u64().unwrap() as u32
    }

    pub(crate) fn of_tunnel(&self, tunnel: usize, field: &str) -> String {
        let tunnel = &self.document["tunnels"][tunnel];
        tunnel[field].as_str().unwrap().to_owned()
    }
}

impl Drop for KeptUp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
