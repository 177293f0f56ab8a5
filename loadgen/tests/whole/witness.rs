//! A second witness: of one tunnel, `iperf3` and the generator tell the same, and no more than what went through.
//!
//! They take turns, so that what else the machine does meets both. Three things are held against each other:
//!
//! * bytes: a junction behind the tunnel counts what comes out of it. Neither may claim more; what the generator does not
//!   claim came after its time was up, and is no more than the sockets and queues on the way hold;
//! * processor time of the tunnel for each byte, which does not depend on how much of the machine others leave;
//! * rates, which do: medians over the rounds, and a generous bound.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use adit_loadgen::account::Subject;
use adit_loadgen::args::IoChoice;
use adit_loadgen::report::Summary;
use adit_loadgen::server::{ServeSettings, Server};
use adit_loadgen::system::{System, SystemSettings};

use crate::support::{EXECUTABLE, PATIENCE};

const ROUNDS: usize = 5;

/// Of each run.
const SECONDS: &str = "1";

/// A socket holds 10 MB at most by Linux's defaults (`tcp_wmem`, `tcp_rmem`), the tunnel 8 MiB in its queues, and a byte
/// passes five connections.
const ON_THE_WAY_MAX: u64 = 64 << 20;

/// `iperf3` speaks with its server about the test on a connection of its own.
const CONTROL_MAX: u64 = 1 << 20;

#[test]
fn iperf3_and_the_generator_agree_about_a_tunnel() {
    if Command::new("iperf3").arg("--version").output().is_err() {
        let are_required = std::env::var("ADIT_REQUIRE_PROGRAMS").is_ok_and(|it| it == "1");
        assert!(!are_required, "ADIT_REQUIRE_PROGRAMS=1, and no iperf3");
        eprintln!("not tested: this machine lacks iperf3");
        return;
    }
    let junction = Junction::start();
    let stage = Stage::new(&junction);
    let mut said: [Vec<Run>; 2] = Default::default();
    for round in 0..ROUNDS {
        // Neither always comes first.
        for which in [round % 2, (round + 1) % 2] {
            let run = match which {
                0 => stage.iperf3(&junction),
                _ => stage.generator(&junction),
            };
            said[which].push(run);
        }
    }
    let rates = said.each_ref().map(|runs| median_rate(runs));
    let costs = said.each_ref().map(|runs| cost(runs));
    let [iperf, own] = rates.map(|rate| rate / 1e6);
    eprintln!("rate: iperf3 {iperf:.0} Mbit/s, adit-loadgen {own:.0} Mbit/s");
    let [iperf, own] = costs;
    eprintln!("tunnel: iperf3 {iperf:.2} CPU s/GiB, adit-loadgen {own:.2} CPU s/GiB");
    assert!((0.5..=2.0).contains(&(own / iperf)), "{said:?}");
    assert!((0.25..=4.0).contains(&(rates[1] / rates[0])), "{said:?}");
}

/// What was said of one run.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Bits a second, as the program says.
    rate: f64,
    /// Processor seconds of all processes of the tunnel.
    cpu: f64,
    /// What came out of it.
    came: u64,
}

fn median_rate(runs: &[Run]) -> f64 {
    let mut rates: Vec<f64> = runs.iter().map(|it| it.rate).collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Processor seconds for each GiB. Over all runs: it is counted in hundredths of a second.
fn cost(runs: &[Run]) -> f64 {
    let came: u64 = runs.iter().map(|it| it.came).sum();
    let cpu: f64 = runs.iter().map(|it| it.cpu).sum();
    cpu / (came as f64 / (1_u64 << 30) as f64)
}

/// One tunnel, and the generator's far end.
struct Stage {
    system: System,
    parts: Vec<Subject>,
    server: Server,
}

impl Stage {
    fn new(junction: &Junction) -> Self {
        let system = System::start(SystemSettings {
            target: Some(junction.address),
            ..SystemSettings::new(EXECUTABLE.into())
        })
        .unwrap();
        let parts = system.subjects();
        Self {
            parts: parts.iter().map(|it| it.find().unwrap()).collect(),
            system,
            server: Server::start(&ServeSettings {
                listen: (Ipv4Addr::LOCALHOST, 0).into(),
                threads: 1,
                congestion: None,
                io: IoChoice::Auto,
            })
            .unwrap(),
        }
    }

    fn entry(&self) -> SocketAddr {
        self.system.targets()[0]
    }

    /// Processor seconds of the tunnel so far.
    fn cpu(&self) -> f64 {
        let usages = self.parts.iter().map(|it| it.usage().unwrap());
        usages.map(|it| it.cpu()).sum()
    }

    /// Runs something. Gives its words, what came out of the tunnel, and the processor seconds that it took.
    fn account(&self, junction: &Junction, command: &mut Command) -> (Vec<u8>, u64, f64) {
        let (before, cpu) = (junction.came(), self.cpu());
        let output = command.output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {words}");
        junction.wait_quiet();
        (output.stdout, junction.came() - before, self.cpu() - cpu)
    }

    fn iperf3(&self, junction: &Junction) -> Run {
        let mut server = IperfServer::start();
        junction.lead_to(server.address);
        let mut command = Command::new("iperf3");
        let port = self.entry().port().to_string();
        command.args(["-c", "127.0.0.1", "-p", &port, "-t", SECONDS, "-J"]);
        let (words, came, cpu) = self.account(junction, &mut command);
        server.end();
        let report: serde_json::Value = serde_json::from_slice(&words).unwrap();
        let sum = |which: &str, field: &str| report["end"][which][field].as_f64().unwrap();
        let [sent, received] = ["sum_sent", "sum_received"].map(|it| sum(it, "bytes") as u64);
        assert!(
            (received..=sent + CONTROL_MAX).contains(&came),
            "{sent} {received} {came}"
        );
        Run {
            rate: sum("sum_received", "bits_per_second"),
            cpu,
            came,
        }
    }

    fn generator(&self, junction: &Junction) -> Run {
        junction.lead_to(self.server.address);
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(EXECUTABLE);
        let entry = self.entry().to_string();
        let duration = format!("{SECONDS}s");
        command
            .args([
                "bulk",
                "--quiet",
                "--target",
                &entry,
                "--duration",
                &duration,
            ])
            .args(["--grace", "60s", "--out"])
            .arg(directory.path());
        let (_, came, cpu) = self.account(junction, &mut command);
        let summary = Summary::load(directory.path()).unwrap();
        assert!(summary.errors.is_empty(), "{:?}", summary.errors);
        let said = summary.bytes_up;
        assert!(
            (said..=said + ON_THE_WAY_MAX).contains(&came),
            "{said} {came}"
        );
        Run {
            rate: summary.up_bits_per_second,
            cpu,
            came,
        }
    }
}

/// `iperf3 -s` for one test.
struct IperfServer {
    child: Child,
    address: SocketAddr,
}

impl IperfServer {
    fn start() -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut child = Command::new("iperf3")
            .args(["-s", "-1", "--forceflush", "-B", "127.0.0.1", "-p"])
            .arg(address.port().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut lines = out.lines().map_while(Result::ok);
        assert!(lines.any(|it| it.contains("listening")), "iperf3 -s");
        // It must not be held up by what nobody reads.
        thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a tunnel comes out: leads on to whoever is asked next, and counts what comes.
struct Junction {
    address: SocketAddr,
    to: Arc<Mutex<SocketAddr>>,
    came: Arc<AtomicU64>,
    /// Connections that are open.
    open: Arc<AtomicU64>,
}

impl Junction {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let junction = Self {
            address,
            to: Arc::new(Mutex::new(address)),
            came: Arc::default(),
            open: Arc::default(),
        };
        let (to, came, open) = (
            Arc::clone(&junction.to),
            Arc::clone(&junction.came),
            Arc::clone(&junction.open),
        );
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let far = TcpStream::connect(*to.lock().unwrap()).unwrap();
                for stream in [&near, &far] {
                    stream.set_nodelay(true).unwrap();
                }
                let pair = |from: &TcpStream, to: &TcpStream| {
                    (from.try_clone().unwrap(), to.try_clone().unwrap())
                };
                let (up, down) = (pair(&near, &far), pair(&far, &near));
                let (came, ends) = (Arc::clone(&came), Arc::clone(&open));
                open.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    carry(up, &came);
                    ends.fetch_sub(1, Ordering::SeqCst);
                });
                thread::spawn(move || carry(down, &AtomicU64::new(0)));
            }
        });
        junction
    }

    fn lead_to(&self, address: SocketAddr) {
        *self.to.lock().unwrap() = address;
    }

    fn came(&self) -> u64 {
        self.came.load(Ordering::SeqCst)
    }

    /// Waits until all connections have come to their end.
    fn wait_quiet(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.open.load(Ordering::SeqCst) > 0 {
            assert!(Instant::now() < deadline, "a connection does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn carry((mut from, mut to): (TcpStream, TcpStream), count: &AtomicU64) {
    let mut buffer = vec![0; 128 * 1024];
    while let Ok(size @ 1..) = from.read(&mut buffer) {
        count.fetch_add(size as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..size]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
