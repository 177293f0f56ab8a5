//! The relay allocates nothing for each message once it is warm, and little for a quiet tunnel.
#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait's")]

use adit_engine::tunnel::flow::Flow;
use adit_engine::tunnel::relay::{Relay, RunPlace};
use adit_proto::ids::{Mode, ServiceId, Subprotocol};
use adit_proto::message::{Control, DataHeader, Kind, MessageView};
use adit_proto::websocket::{FrameHeader, Opcode, mask};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The most of `HELD` since somebody set it back.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn note(allocations: usize, held: isize) {
    ALLOCATIONS.with(|count| count.set(count.get() + allocations));
    let now = HELD.with(|size| {
        size.set(size.get() + held);
        size.get()
    });
    PEAK.with(|peak| peak.set(peak.get().max(now)));
}

// WHY: only a global allocator sees every allocation.
// SAFETY: each call goes to the system's allocator as it came; counting touches two thread-local
// numbers without destructors and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, -(layout.size() as isize));
        // SAFETY: `pointer` came from `System`, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as isize - layout.size() as isize);
        // SAFETY: `pointer` came from `System`, with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> usize {
    ALLOCATIONS.with(Cell::get)
}

fn held() -> isize {
    HELD.with(Cell::get)
}

const SERVICES: [&str; 2] = ["SSH", "HTTP"];

fn tunnel() -> Relay {
    let services: Arc<[ServiceId]> = SERVICES.iter().map(|name| name.parse().unwrap()).collect();
    Relay::new(services)
}

fn connect(relay: &mut Relay, side: Mode, offered: Subprotocol) {
    relay.connected(side, offered);
    let mut area = [0; 256];
    while relay.outbox(side).has_messages() {
        relay.outbox(side).write_messages(&mut area);
    }
}

fn data(stream_id: i32, service_id: &str, connection_id: u32, payload: &[u8]) -> Vec<u8> {
    let header = DataHeader {
        stream_id,
        service_id,
        connection_id,
    };
    let mut bytes = vec![0; header.size(payload.len())];
    header.write(payload.len(), &mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn start(stream_id: i32, service_id: &str, connection_id: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    Control {
        kind: Kind::StreamStart,
        stream_id,
        service_id,
        connection_id,
    }
    .encode(&mut bytes);
    bytes
}

fn frame(content: &[u8]) -> Vec<u8> {
    let key = [1, 2, 3, 4];
    let header = FrameHeader {
        fin: true,
        opcode: Opcode::Binary,
        mask: Some(key),
        payload_size: content.len() as u64,
    };
    let mut bytes = vec![0; header.size()];
    header.write(&mut bytes);
    let at = bytes.len();
    bytes.extend_from_slice(content);
    mask(key, 0, &mut bytes[at..]);
    bytes
}

/// Hands `received` in through `buffer`. Returns the bytes forwarded: as they lay, and otherwise.
fn pass(relay: &mut Relay, from: Mode, received: &[u8], buffer: &mut [u8]) -> [usize; 2] {
    let buffer = &mut buffer[..received.len()];
    buffer.copy_from_slice(received);
    let (mut position, mut forwarded) = (0, [0; 2]);
    loop {
        let flow = relay
            .handle_input(from, buffer, &mut position)
            .expect("it is proper");
        for run in relay.runs() {
            let is_moved = !matches!(run.place, RunPlace::Buffer(_));
            forwarded[usize::from(is_moved)] += relay.run_bytes(run, buffer).len();
        }
        relay.clear_runs();
        match flow {
            Flow::Done => return forwarded,
            Flow::Deliver => {}
            Flow::Paused | Flow::Closed(_) => panic!("{flow:?}"),
        }
    }
}

#[test]
fn forwarding_allocates_nothing_and_copies_nothing() {
    let mut relay = tunnel();
    for side in [Mode::Source, Mode::Destination] {
        connect(&mut relay, side, Subprotocol::V3);
    }
    let mut buffer = vec![0; 256 * 1024];
    for service in SERVICES {
        pass(
            &mut relay,
            Mode::Source,
            &frame(&start(1, service, 1)),
            &mut buffer,
        );
    }
    let bulk: Vec<u8> = (0..4)
        .flat_map(|_| data(1, "SSH", 1, &[7; 30_000]))
        .collect();
    let mixed: Vec<u8> = (0..300)
        .flat_map(|n| data(1, SERVICES[n % 2], 1 + n as u32, &[7; 64]))
        .collect();
    let small: Vec<u8> = (0..300)
        .flat_map(|_| frame(&data(1, "SSH", 1, b"key")))
        .collect();
    for received in [frame(&bulk), frame(&mixed), small] {
        let expected = pass(&mut relay, Mode::Source, &received, &mut buffer);
        assert!(
            expected[0] > 0 && expected[1] == 0,
            "all of it lies in the buffer"
        );
        let before = allocations();
        for _ in 0..100 {
            for from in [Mode::Source, Mode::Destination] {
                assert_eq!(pass(&mut relay, from, &received, &mut buffer), expected);
            }
        }
        assert_eq!(allocations() - before, 0);
    }
}

#[test]
fn a_quiet_tunnel_holds_little() {
    assert!(size_of::<Relay>() <= 2048, "{} bytes", size_of::<Relay>());
    let before = held();
    let mut relay = tunnel();
    connect(&mut relay, Mode::Source, Subprotocol::V3);
    connect(&mut relay, Mode::Destination, Subprotocol::V2);
    let mut buffer = vec![0; 256 * 1024];
    let buffer_size = 256 * 1024;
    pass(
        &mut relay,
        Mode::Source,
        &frame(&start(1, "SSH", 1)),
        &mut buffer,
    );
    // A message in pieces, and rewritten for the destination; then one that ends with its buffer.
    let largest = frame(&data(1, "SSH", 1, &[7; 64_512]));
    for _ in 0..3 {
        for piece in largest.chunks(40_000) {
            pass(&mut relay, Mode::Source, piece, &mut buffer);
        }
    }
    let size = held() - before - buffer_size - largest.capacity() as isize;
    assert!(size <= 8 * 1024, "{size} bytes");
}

/// Messages of 65,535 bytes, as large as their prefix can say, of which every byte is one more thing to look at.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let filled = |start: &[u8], again: &[u8]| {
        let count = (usize::from(u16::MAX) - start.len()) / again.len();
        [start, &again.repeat(count)].concat()
    };
    // STREAM_START of stream 1, and SERVICE_IDS.
    let (start, services) = ([0x08, 2, 0x10, 1], [0x08, 5]);
    vec![
        ("empty names", filled(&services, &[0x32, 0])),
        ("names of a letter", filled(&services, &[0x32, 1, b'A'])),
        ("empty names in a start", filled(&start, &[0x32, 0])),
        (
            "a service over and over",
            filled(&start, &[0x2a, 3, b'S', b'S', b'H']),
        ),
        ("a stream over and over", filled(&[0x08, 2], &[0x10, 1])),
        (
            "payloads over and over",
            filled(&[0x08, 1, 0x10, 1], &[0x22, 1, 7]),
        ),
        ("fields that nobody knows", filled(&start, &[0x78, 1])),
        ("groups in groups", filled(&start, &[0x7b])),
        ("varints that do not end", filled(&start, &[0xff])),
    ]
}

/// Threat T-14: what a message can make us hold is at most twice what it is, whether it comes at once or byte by
/// byte.
#[test]
fn a_message_of_many_small_things_takes_at_most_twice_its_size() {
    for (what, bomb) in bombs() {
        let prefixed = [&(bomb.len() as u16).to_be_bytes()[..], &bomb].concat();
        let whole = frame(&prefixed);
        let pieces: Vec<Vec<u8>> = prefixed.chunks(1).map(frame).collect();
        let mut buffer = vec![0; whole.len()];
        for frames in [std::slice::from_ref(&whole), &pieces] {
            let mut relay = tunnel();
            connect(&mut relay, Mode::Source, Subprotocol::V3);
            connect(&mut relay, Mode::Destination, Subprotocol::V3);
            let before = held();
            PEAK.with(|peak| peak.set(before));
            for frame in frames {
                let buffer = &mut buffer[..frame.len()];
                buffer.copy_from_slice(frame);
                let mut position = 0;
                while let Ok(Flow::Deliver) =
                    relay.handle_input(Mode::Source, buffer, &mut position)
                {
                    relay.clear_runs();
                }
            }
            let peak = PEAK.with(Cell::get) - before;
            assert!(peak <= 2 * bomb.len() as isize, "{what}: {peak} bytes");
        }
        // And whoever looks at its names: a proxy that is told its services.
        let before = held();
        PEAK.with(|peak| peak.set(before));
        if let Ok(view) = MessageView::parse(&bomb) {
            drop(view.service_ids());
        }
        let peak = PEAK.with(Cell::get) - before;
        assert!(
            peak <= 2 * bomb.len() as isize,
            "{what}: {peak} bytes for its names"
        );
    }
}
