//! Nobody waits for a turn of a loop that nothing brings: random applications on real loops, whose proxies have neither
//! pings nor other timers that would hide one that was forgotten; with and without TLS, while links are lost, replaced
//! and closed, and when the tunnel is.
//!
//! `ADIT_SEED` repeats a round; `ADIT_TURNS` is how many are played on each backend.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test talks to the world"
)]

#[expect(dead_code, reason = "of the other tests of the path")]
mod path;

use adit_engine::ring::{IoChoice, LinkEnd};
use adit_engine::tls::{Records, RecordsChoice};
use adit_engine::tunnel::limits::Limits;
use adit_proto::ids::Mode;
use path::{Stack, both, connect, plain, sealed};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Connections of a round.
const CONNECTIONS: usize = 16;
/// Those behind what befell the tunnel.
const CONNECTIONS_AFTER: usize = 4;
/// Of these at most so many are stuck: each may hold up the others for as long as the stall time-out.
const STUCK_MAX: usize = 3;
const STALL_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest that one who reads waits for the next byte or the end. The next ping is a day away.
const PATIENCE: Duration = Duration::from_secs(15);

/// More than all buffers on the way hold, the kernel's included.
const BACKLOG: u32 = 16 << 20;

/// What the application behind the destination does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Temper {
    /// Sends back what it reads, up to the end.
    Echo,
    /// The same, with rests.
    Slow,
    /// Reads nothing, and stays.
    Stuck,
    /// Ends in good order after a part.
    Ends,
    /// Ends by a reset after a part.
    Resets,
}

const TEMPERS: [Temper; 5] = [
    Temper::Echo,
    Temper::Slow,
    Temper::Stuck,
    Temper::Ends,
    Temper::Resets,
];

/// What a client asks for, in its first bytes.
#[derive(Clone, Copy, Debug)]
struct Errand {
    temper: Temper,
    /// Whether the client itself rests between reads.
    is_slow: bool,
    /// Tells its bytes from those of others.
    mark: u8,
    size: u32,
}

impl Errand {
    fn random(random: &mut ChaCha8Rng, stuck: &mut usize, mark: u8) -> Self {
        let mut temper = TEMPERS[random.next_u32() as usize % TEMPERS.len()];
        if temper == Temper::Stuck {
            *stuck += 1;
            if *stuck > STUCK_MAX {
                temper = Temper::Echo;
            }
        }
        // From a few bytes to a megabyte.
        let size = random.next_u32() >> (12 + random.next_u32() % 16);
        Self {
            temper,
            is_slow: random.next_u32().is_multiple_of(4),
            mark,
            size: if temper == Temper::Stuck {
                BACKLOG
            } else {
                size
            },
        }
    }

    fn encode(self) -> [u8; 6] {
        let [a, b, c, d] = self.size.to_be_bytes();
        [self.temper as u8, self.mark, a, b, c, d]
    }

    fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut header = [0; 6];
        stream.read_exact(&mut header).ok()?;
        let [temper, mark, size @ ..] = header;
        Some(Self {
            temper: TEMPERS[usize::from(temper)],
            is_slow: false,
            mark,
            size: u32::from_be_bytes(size),
        })
    }

    fn byte(self, at: usize) -> u8 {
        (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] ^ self.mark
    }

    /// The application's part.
    fn serve(self, mut stream: TcpStream) {
        let mut buffer = vec![0; 20_000];
        let mut left = match self.temper {
            Temper::Ends | Temper::Resets => self.size as usize / 2,
            _ => usize::MAX,
        };
        if self.temper == Temper::Stuck {
            // Longer than anybody else is there.
            let _ = SockRef::from(&stream).set_recv_buffer_size(4_096);
            thread::sleep(2 * PATIENCE);
            return;
        }
        while left > 0 {
            let room = buffer.len().min(left);
            let Ok(count @ 1..) = stream.read(&mut buffer[..room]) else {
                return;
            };
            if self.temper == Temper::Slow {
                thread::sleep(Duration::from_millis(2));
            }
            if stream.write_all(&buffer[..count]).is_err() {
                return;
            }
            left -= count;
        }
        if self.temper == Temper::Resets {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// The client's part: says everything, and hears as much as is owed; `may_be_cut` says that this is nothing.
    fn go(self, port: u16, may_be_cut: bool) {
        let mut stream = connect(port);
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        if self.is_slow {
            SockRef::from(&stream)
                .set_recv_buffer_size(4_096)
                .expect("buffer size");
        }
        let asked = stream.write_all(&self.encode());
        assert!(asked.is_ok() || may_be_cut, "{self:?}: {asked:?}");
        let mut writer = stream.try_clone().expect("clone");
        let says = thread::spawn(move || {
            let bytes: Vec<u8> = (0..self.size as usize).map(|at| self.byte(at)).collect();
            // Who has ended, or was cut, takes no more.
            let _ = writer.write_all(&bytes);
        });
        let heard = if self.temper == Temper::Stuck {
            // Until it is cut, or has been alone for a while: then nobody waits for it.
            let alone = Some(4 * STALL_TIMEOUT);
            stream.set_write_timeout(alone).expect("timeout");
            while !says.is_finished() {
                thread::sleep(Duration::from_millis(20));
            }
            0
        } else {
            self.hear(&mut stream)
        };
        let owed = match self.temper {
            Temper::Echo | Temper::Slow if !may_be_cut => self.size as usize,
            // What the client says behind an end may turn that into a reset over bytes on their way.
            _ => 0,
        };
        assert!(heard >= owed, "{self:?}: {heard} of {owed} bytes");
        let _ = stream.shutdown(Shutdown::Both);
        says.join().expect("a writer");
    }

    /// Reads and compares up to what the client says, or the end.
    fn hear(self, stream: &mut TcpStream) -> usize {
        let (mut heard, mut part) = (0, vec![0; 20_000]);
        while heard < self.size as usize {
            match stream.read(&mut part) {
                Ok(0) => break,
                Ok(count) => {
                    let is_right = |(at, byte): (usize, &u8)| *byte == self.byte(heard + at);
                    let all = part[..count].iter().enumerate().all(is_right);
                    assert!(all, "{self:?}: a wrong byte behind {heard}");
                    heard += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(
                        has_missed_its_reset(stream),
                        "{self:?}: nothing came for {PATIENCE:?} behind {heard} bytes"
                    );
                    break;
                }
                Err(_) => break,
            }
            if self.is_slow {
                thread::sleep(Duration::from_millis(1));
            }
        }
        heard
    }
}

/// Whether the peer is gone, and its reset was not taken: a system that has just closed its window, as it must where a
/// receive buffer is small, takes a reset from behind that for an old one (RFC 9293, 3.10.7.4). Who says something is told.
fn has_missed_its_reset(stream: &mut TcpStream) -> bool {
    let _ = stream.write(&[0]);
    let heard = stream.read(&mut [0]);
    heard.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

/// A port behind which each connection does its errand.
fn applications() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let target = listener.local_addr().expect("address").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || Errand::read(&mut stream).map(|errand| errand.serve(stream)));
        }
    });
    target
}

/// What befalls the tunnel while everybody is at it.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Nothing: all that is owed arrives.
    Quiet,
    /// One link after the other ends, or has a newer one put in its place.
    Links,
    /// It is closed.
    Closed,
}

const FATES: [Fate; 3] = [Fate::Quiet, Fate::Links, Fate::Closed];

impl Fate {
    fn befall(self, stack: &Stack, random: &mut ChaCha8Rng) {
        let mut rest = |up_to: u32| {
            thread::sleep(Duration::from_millis(u64::from(random.next_u32() % up_to)));
            random.next_u32()
        };
        match self {
            Fate::Quiet => {}
            Fate::Links => {
                for _ in 0..1 + rest(1) % 4 {
                    let choice = rest(100);
                    let mode = [Mode::Source, Mode::Destination][choice as usize % 2];
                    match choice / 2 % 3 {
                        0 => stack.cut(mode),
                        1 => stack.rotate(mode),
                        _ => {}
                    }
                    rest(30);
                    stack.link(mode);
                }
            }
            Fate::Closed => {
                rest(200);
                stack.close();
                for ends in &stack.ends {
                    let end = ends.recv_timeout(PATIENCE).expect("a close frame");
                    assert!(matches!(end, LinkEnd::Closed(Some(1000))), "{end:?}");
                }
            }
        }
    }
}

/// Everybody at once; how many have failed. `meanwhile` is on this thread.
fn everybody(errands: Vec<Errand>, port: u16, may_be_cut: bool, meanwhile: impl FnOnce()) -> usize {
    let clients: Vec<_> = errands
        .into_iter()
        .map(|errand| thread::spawn(move || errand.go(port, may_be_cut)))
        .collect();
    meanwhile();
    let ends = clients.into_iter().map(thread::JoinHandle::join);
    ends.filter(Result::is_err).count()
}

/// One tunnel.
fn round(io: IoChoice, seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut choose = |count: usize| random.next_u32() as usize % count;
    let limits = Limits {
        stall_timeout: STALL_TIMEOUT,
        ping_interval: Duration::from_secs(24 * 3600),
        // The least, or more than any of them says.
        connection_buffer: [65_535, 2 << 20][choose(2)],
        ..Limits::default()
    };
    let has_credit = choose(2) == 0;
    let records: fn() -> (Records, Records) = [
        plain,
        || sealed(RecordsChoice::InPlace),
        || sealed(RecordsChoice::Library),
    ][choose(3)];
    let fate = FATES[choose(3)];
    eprintln!("ADIT_SEED={seed} on {io:?}, {fate:?}, credit {has_credit}, {limits:?}");
    let stack = path::stack_with(io, &["A"], &[applications()], records, limits, has_credit);
    let port = stack.ports[0];
    let mut stuck = 0;
    let errands = (0..CONNECTIONS).map(|at| Errand::random(&mut random, &mut stuck, at as u8));
    let errands = errands.collect();
    let may_be_cut = !matches!(fate, Fate::Quiet);
    let failed = everybody(errands, port, may_be_cut, || {
        fate.befall(&stack, &mut random)
    });
    assert_eq!(failed, 0, "of those printed above");
    if !matches!(fate, Fate::Closed) {
        stuck = STUCK_MAX;
        let errands = (0..CONNECTIONS_AFTER)
            .map(|at| Errand::random(&mut random, &mut stuck, at as u8))
            .collect();
        let failed = everybody(errands, port, false, || {});
        assert_eq!(failed, 0, "of those behind that");
    }
}

#[test]
fn nobody_waits_for_a_turn_that_nothing_brings() {
    let number = |name: &str| Some(std::env::var(name).ok()?.parse().expect("a number"));
    let rounds = number("ADIT_TURNS").unwrap_or(4);
    let first = number("ADIT_SEED");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = first.unwrap_or_else(|| u64::from(now.expect("after 1970").subsec_nanos()));
    eprintln!("ADIT_SEED={seed}");
    both(|io| (seed..seed + rounds).for_each(|seed| round(io, seed)));
}
