//! A network between two namespaces that is as bad as it is told to be. Each end has a TUN device whose packets go
//! through a socket of this process, which loses, holds up, repeats and reorders them, and lets no more through than
//! fits the line. (`tc` has netem only where the kernel was built with it.)

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use adit_tests::deadline::until;
use adit_tests::process::Process;
use adit_tests::programs;
use adit_tests::scenario::Scenario;
use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tokio::net::UnixDatagram;
use tokio::task::JoinHandle;

/// Addresses of the two ends.
pub(crate) const FAR: &str = "10.77.0.1";
const NEAR: &str = "10.77.0.2";

/// How bad it is, in each direction by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    /// Lost, and sent twice, of 1,000 packets.
    pub(crate) lost: u32,
    pub(crate) twice: u32,
    /// One way; a packet takes up to `jitter` more, so that it may be overtaken.
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
    /// In bytes per second.
    pub(crate) rate: u64,
    /// Largest packet, in bytes.
    pub(crate) mtu: u32,
}

/// The network, and what is at its far end.
pub(crate) struct BadNetwork {
    tools: Tools,
    /// Lives as long as the far namespace.
    far: Process,
    profile: Arc<Mutex<Profile>>,
    counts: Arc<Counts>,
    _ends: [Process; 2],
    lines: [JoinHandle<()>; 2],
}

struct Tools {
    ip: PathBuf,
    socat: PathBuf,
    nsenter: PathBuf,
}

/// Of packets, so far.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) carried: AtomicU64,
    /// By chance, as the profile says.
    pub(crate) lost: AtomicU64,
    /// For want of room, in front of the line or behind it.
    pub(crate) crowded_out: AtomicU64,
    pub(crate) overtaken: AtomicU64,
    pub(crate) repeated: AtomicU64,
}

impl Drop for BadNetwork {
    fn drop(&mut self) {
        self.lines.iter().for_each(JoinHandle::abort);
    }
}

impl BadNetwork {
    /// Lays it out of this process' namespace, which is its own, into a further one. `None` where that is not to be
    /// had.
    pub(crate) async fn start(
        scenario: &Scenario,
        seed: u64,
        profile: Profile,
    ) -> Result<Option<Self>> {
        let names = ["ip", "socat", "nsenter", "unshare", "sleep"];
        let Some([ip, socat, nsenter, unshare, sleep]) = programs::find(scenario, names)? else {
            return Ok(None);
        };
        if !Path::new("/dev/net/tun").exists() {
            return programs::lacking(scenario, "/dev/net/tun");
        }
        let mut command = programs::command(&unshare);
        command.arg("--net").arg(sleep).arg("1d");
        let far = Process::start(scenario, "far", command)?;
        let own = std::fs::read_link("/proc/self/ns/net")?;
        let theirs = PathBuf::from(format!("/proc/{}/ns/net", far.id()));
        until("a second namespace", || {
            std::fs::read_link(&theirs).is_ok_and(|theirs| theirs != own)
        })
        .await?;
        let tools = Tools { ip, socat, nsenter };
        let profile = Arc::new(Mutex::new(profile));
        let counts = Arc::new(Counts::default());
        // What the device sends comes in at the first, and what is sent to the second it receives.
        let sockets = ["near", "far"].map(|end| {
            [".out", ".in"].map(|direction| scenario.path(&format!("{end}{direction}")))
        });
        let [near, far_end] = sockets.each_ref().map(|[out, _]| UnixDatagram::bind(out));
        let (near, far_end) = (Arc::new(near?), Arc::new(far_end?));
        let line = |from: &Arc<UnixDatagram>, to: &Arc<UnixDatagram>, place: &PathBuf, seed| {
            let line = Line {
                from: Arc::clone(from),
                to: Arc::clone(to),
                place: place.clone(),
                profile: Arc::clone(&profile),
                counts: Arc::clone(&counts),
                random: ChaCha8Rng::seed_from_u64(seed),
                waiting: BinaryHeap::new(),
                number: 0,
                sent: 0,
                free_at: Instant::now(),
            };
            tokio::spawn(line.carry())
        };
        let lines = [
            line(&near, &far_end, &sockets[1][1], seed),
            line(&far_end, &near, &sockets[0][1], !seed),
        ];
        let network = Self {
            _ends: [
                tools.end(scenario, None, NEAR, &sockets[0])?,
                tools.end(scenario, Some(far.id()), FAR, &sockets[1])?,
            ],
            tools,
            far,
            profile,
            counts,
            lines,
        };
        network.come_up().await?;
        Ok(Some(network))
    }

    /// A command that is run at the far end instead.
    pub(crate) fn at_the_far_end(&self, command: &std::process::Command) -> std::process::Command {
        self.tools.within(Some(self.far.id()), command)
    }

    /// From now on it is like this.
    pub(crate) async fn becomes(&self, profile: Profile) -> Result<()> {
        let size = profile.mtu.to_string();
        self.ip(&["link", "set", "adit", "mtu", &size]).await?;
        *self.profile.lock().expect("nothing panics") = profile;
        Ok(())
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    async fn come_up(&self) -> Result<()> {
        let are_there = || {
            let devices = [std::process::id(), self.far.id()];
            devices.into_iter().all(|process| {
                let devices = std::fs::read_to_string(format!("/proc/{process}/net/dev"));
                devices.is_ok_and(|devices| devices.contains("adit:"))
            })
        };
        until("the ends of the network", are_there).await?;
        self.ip(&["link", "set", "lo", "up"]).await?;
        let profile = *self.profile.lock().expect("nothing panics");
        self.becomes(profile).await?;
        Ok(())
    }

    /// Runs `ip` at both ends.
    async fn ip(&self, words: &[&str]) -> Result<()> {
        for namespace in [None, Some(self.far.id())] {
            let mut command = programs::command(&self.tools.ip);
            command.args(words);
            let command = self.tools.within(namespace, &command);
            programs::run(Duration::from_secs(10), command).await?;
        }
        Ok(())
    }
}

impl Tools {
    /// A device whose packets come to and go from a socket.
    fn end(
        &self,
        scenario: &Scenario,
        namespace: Option<u32>,
        address: &str,
        [out, into]: &[PathBuf; 2],
    ) -> Result<Process> {
        let mut command = programs::command(&self.socat);
        command.arg(format!("TUN:{address}/24,up,tun-name=adit,iff-no-pi"));
        command.arg(format!(
            "UNIX-SENDTO:{},bind={}",
            out.display(),
            into.display()
        ));
        Process::start(scenario, "socat", self.within(namespace, &command))
    }

    /// In the namespace of a process, or in this one.
    fn within(
        &self,
        namespace: Option<u32>,
        command: &std::process::Command,
    ) -> std::process::Command {
        let mut wrapper = programs::command(&self.nsenter);
        let process = namespace.unwrap_or(std::process::id());
        wrapper
            .arg(format!("--net=/proc/{process}/ns/net"))
            .arg("--");
        programs::wrapped(wrapper, command)
    }
}

/// One direction.
struct Line {
    from: Arc<UnixDatagram>,
    to: Arc<UnixDatagram>,
    place: PathBuf,
    profile: Arc<Mutex<Profile>>,
    counts: Arc<Counts>,
    random: ChaCha8Rng,
    /// Packets by when they arrive, and by the order in which they came.
    waiting: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    number: u64,
    /// Of the packet that arrived last, if those before it had.
    sent: u64,
    /// When all that came so far has passed the line.
    free_at: Instant,
}

impl Line {
    async fn carry(mut self) {
        let mut packet = vec![0; 65_536];
        loop {
            let next = self.waiting.peek().map(|Reverse((at, ..))| *at);
            let due = async move {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = due => self.deliver(),
                received = self.from.recv(&mut packet) => {
                    let Ok(size) = received else { return };
                    self.take_in(&packet[..size]);
                }
            }
        }
    }

    fn take_in(&mut self, packet: &[u8]) {
        let profile = *self.profile.lock().expect("nothing panics");
        let (now, size) = (Instant::now(), packet.len() as u64);
        let begins = self.free_at.max(now);
        // Whatever waits in front of a line is bounded, by time or by a few packets.
        let is_full = begins - now > QUEUE_TIME
            && (begins - now).as_secs_f64() * profile.rate as f64 > QUEUE_SIZE;
        if is_full {
            self.counts.crowded_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if self.random.next_u32() % 1_000 < profile.lost {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.free_at = begins + Duration::from_secs_f64(size as f64 / profile.rate as f64);
        let is_twice = self.random.next_u32() % 1_000 < profile.twice;
        self.counts
            .repeated
            .fetch_add(u64::from(is_twice), Ordering::Relaxed);
        for _ in 0..1 + u32::from(is_twice) {
            let jitter = profile
                .jitter
                .mul_f64(f64::from(self.random.next_u32()) / f64::from(u32::MAX));
            self.number += 1;
            let at = self.free_at + profile.delay + jitter;
            self.waiting
                .push(Reverse((at, self.number, packet.to_owned())));
        }
    }

    /// Sends what is due. What the other end cannot take is lost, as in any network.
    fn deliver(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, ..))) = self.waiting.peek() {
            if *at > now {
                return;
            }
            let Some(Reverse((_, number, packet))) = self.waiting.pop() else {
                return;
            };
            let count = match self.to.try_send_to(&packet, &self.place) {
                Ok(_) => &self.counts.carried,
                Err(_) => &self.counts.crowded_out,
            };
            count.fetch_add(1, Ordering::Relaxed);
            if number < self.sent {
                self.counts.overtaken.fetch_add(1, Ordering::Relaxed);
            }
            self.sent = self.sent.max(number);
        }
    }
}

const QUEUE_TIME: Duration = Duration::from_millis(200);

/// In bytes.
const QUEUE_SIZE: f64 = 32_768.0;
