//! What a message costs once a tunnel is warm, on real loops with TLS records opened in place: no allocation anywhere in the
//! process, and no copy of a payload beside the one that is written down here.
//!
//! The ways of a payload, and what could copy it in user space:
//!
//! - *Source*: the local socket is read to where the payload leaves from. A payload under 128
//!   bytes then moves by one byte, since its length field is a byte shorter (`bytes_shifted`),
//!   and the content of a frame under 126 bytes by two, in the pass that masks it anyway.
//! - *Relay*: each message is copied once, from the buffer of one side into the record of the
//!   other (`Side::append`; `relay_allocations` shows that it lies in the buffer until then).
//! - *Destination*: sent from where it was opened. Copied are what a local socket does not take
//!   (`bytes_queued`), a message that comes in several frames, which our relay does only to one
//!   that fits none (`bytes_assembled`), and a record in part at the end of the receive buffer
//!   (`bytes_moved`).
#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait's")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test talks to the world"
)]

#[expect(dead_code, reason = "of the other tests of the path")]
mod path;

use adit_engine::ring::{LoopHandle, ProxyId, ProxyStatus};
use adit_engine::tls::RecordsChoice;
use adit_engine::tunnel::flow::Flow;
use adit_engine::tunnel::limits::Limits;
use adit_engine::tunnel::mapping::Mapping;
use adit_engine::tunnel::proxy::{Counters, Proxy, ProxySettings};
use adit_engine::tunnel::send::LocalReader;
use adit_proto::ids::{Mode, ServiceId};
use adit_proto::message::encode_service_ids;
use adit_proto::websocket::{FrameHeader, Opcode};
use path::{Stack, both, connect, runtime, sealed, stack};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static HELD: AtomicI64 = AtomicI64::new(0);

/// The counts are of the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn note(allocations: u64, held: i64) {
    ALLOCATIONS.fetch_add(allocations, Ordering::Relaxed);
    HELD.fetch_add(held, Ordering::Relaxed);
}

// WHY: only a global allocator sees every allocation.
// SAFETY: each call goes to the system's allocator as it came; counting touches two atomics and
// allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        // SAFETY: `pointer` came from `System`, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as i64 - layout.size() as i64);
        // SAFETY: `pointer` came from `System`, with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// Allocations that have nothing to do with messages: a ping every 20 s, what the harness does.
const OTHER_ALLOCATIONS: u64 = 60;

const MESSAGES: usize = 20_000;

/// Messages that the service answers with one byte, so that no socket is ever full.
const WINDOW: usize = 4;

/// Takes messages of `size` bytes and answers each `WINDOW` of them.
fn service(size: usize) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let port = listener.local_addr().expect("address").port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        stream.set_nodelay(true).expect("nodelay");
        let mut buffer = vec![0; size * WINDOW];
        while stream.read_exact(&mut buffer).is_ok() {
            stream.write_all(&[1]).expect("answer");
        }
    });
    port
}

/// What both proxies carried and copied so far, in bytes.
struct Copies {
    carried: u64,
    queued: u64,
    assembled: u64,
    shifted: u64,
    moved: u64,
}

impl Copies {
    fn of(stack: &Stack) -> Self {
        let source = status(&stack.handles[0], path::SOURCE);
        let destination = status(&stack.handles[2], path::DESTINATION);
        assert_eq!(
            source.counters.bytes_sent,
            destination.counters.bytes_received
        );
        let both = [source.counters, destination.counters];
        let sum = |of: fn(&Counters) -> u64| both.iter().map(of).sum();
        Self {
            carried: source.counters.bytes_sent,
            queued: sum(|counters| counters.bytes_queued),
            assembled: sum(|counters| counters.bytes_assembled),
            shifted: sum(|counters| counters.bytes_shifted),
            moved: source.bytes_moved + destination.bytes_moved,
        }
    }
}

fn status(handle: &LoopHandle, id: ProxyId) -> ProxyStatus {
    runtime().block_on(handle.status(id)).expect("a proxy")
}

#[test]
fn a_message_costs_no_allocation_and_no_copy_but_those_written_down() {
    let _alone = ALONE.lock();
    for size in [64, 16_000] {
        both(|io| {
            let stack = stack(io, &["A"], &[service(size)], || {
                sealed(RecordsChoice::InPlace)
            });
            let mut client = connect(stack.ports[0]);
            let message = vec![7; size];
            let mut send = |count: usize| {
                for _ in 0..count / WINDOW {
                    for _ in 0..WINDOW {
                        client.write_all(&message).expect("write");
                    }
                    client.read_exact(&mut [0]).expect("read");
                }
            };
            send(2_000);
            let warm = Copies::of(&stack);
            let before = allocations();
            send(MESSAGES);
            let once = allocations() - before;
            assert!(
                once < OTHER_ALLOCATIONS,
                "{once} allocations for {MESSAGES} messages of {size} bytes on {io:?}"
            );
            let copies = Copies::of(&stack);
            let total = (MESSAGES * size) as u64;
            assert_eq!(copies.carried - warm.carried, total);
            assert_eq!(copies.queued, warm.queued, "{io:?}");
            assert_eq!(copies.assembled, warm.assembled, "{io:?}");
            assert_eq!(copies.moved, warm.moved, "{io:?}");
            // Only what is short enough is moved, and by a byte.
            let shifted = copies.shifted - warm.shifted;
            assert!(
                shifted <= total / if size < 128 { 1 } else { 50 },
                "{shifted}"
            );
        });
    }
}

struct Idle;

impl LocalReader for Idle {
    fn receive(&mut self, _: u32, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

#[test]
fn an_idle_connection_holds_less_than_half_a_kibibyte() {
    const CONNECTIONS: u32 = 10_000;
    let _alone = ALONE.lock();
    let settings = ProxySettings {
        mode: Mode::Source,
        mapping: Mapping::default(),
        dialect: None,
        limits: Limits::default(),
    };
    let mut proxy = Proxy::new(settings, [7; 32]);
    let now = Instant::now();
    proxy.link_up(now);
    let id: ServiceId = "a-service-with-a-long-name".parse().expect("an id");
    let mut content = Vec::new();
    encode_service_ids([&id].into_iter(), false, &mut content);
    let header = FrameHeader {
        fin: true,
        opcode: Opcode::Binary,
        mask: None,
        payload_size: content.len() as u64,
    };
    let mut input = vec![0; header.size()];
    header.write(&mut input);
    input.extend_from_slice(&content);
    assert_eq!(proxy.handle_input(now, &mut input, &mut 0), Ok(Flow::Done));
    let mut area = vec![0; 16_384];
    let before = HELD.load(Ordering::Relaxed);
    for io in 0..CONNECTIONS {
        let key = proxy.accepted(now, 0, io).expect("within the bound");
        proxy.readable(key, false);
        while proxy.wants_output() && proxy.compose(now, &mut area, &mut Idle) > 0 {}
    }
    let held = HELD.load(Ordering::Relaxed) - before;
    let each = held / i64::from(CONNECTIONS);
    assert_eq!(proxy.connection_count(), CONNECTIONS as usize);
    assert!(each < 512, "{each} bytes for each connection");
}
