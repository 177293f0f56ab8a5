//! The relay's driver.

use super::super::socket::unacknowledged;
use super::super::{IoChoice, LinkNews};
use super::support::{Bench, both, control, data, frames, open_stream};
use crate::tls::tests::support as tls;
use crate::tls::{PlainRecords, Records};
use crate::tunnel::inbound::{Inbound, Item, Place};
use adit_proto::ids::Mode;
use adit_proto::message::{Kind, MessageView};
use adit_proto::websocket::Role;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

#[test]
fn a_list_of_services_that_is_larger_than_a_record_arrives() {
    both(|io| {
        let names: Vec<String> = (0..128).map(|at| format!("{at:0>128}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for count in [125, 126, 127, 128] {
            let mut bench = Bench::new(io, &names[..count]);
            let mut peer = bench.attach_with(Mode::Destination, None, Records::Plain(PlainRecords));
            let message = peer.hears();
            let view = MessageView::parse(&message).expect("a message");
            let ids = view.service_ids().expect("valid ids");
            assert_eq!(ids.len(), count);
            assert!(
                ids.iter()
                    .zip(&names)
                    .all(|(id, name)| id.as_str() == *name)
            );
        }
    });
}

/// The output towards the source is nearly full, 64 KiB of answers wait for it, and the
/// destination's largest message comes in the same turn.
#[test]
fn answers_and_data_for_a_source_that_does_not_read_neither_panic_nor_change_places() {
    both(|io| {
        for size in (150_000..210_000).step_by(4_000) {
            answers_and_data(io, size);
        }
    });
}

fn answers_and_data(io: IoChoice, size: usize) {
    const ANSWERS: u32 = 6_000;
    let mut bench = Bench::new(io, &["A"]);
    let mut source = bench.attach_narrow(Mode::Source);
    let mut destination = bench.attach(Mode::Destination);
    open_stream(&mut source, &mut destination);

    // One burst, so that the relay's output starts at the front of its buffer once.
    let mut first = Vec::new();
    while first.len() < size {
        first.extend(data(&[b'a'; 4_000]));
    }
    destination.says(&first);
    // All but the end of a large message, so that it leaves as a whole with the last record.
    let last = data(&[b'b'; 64_512]);
    let (begun, rest) = last.split_at(60_000);
    destination.says(begun);
    // Until the relay has taken it, or as much as it takes.
    std::thread::sleep(Duration::from_millis(20));

    let held = bench.hold();
    let mut starts = Vec::new();
    for id in 0..ANSWERS {
        control(Kind::ConnectionStart, 9, 100 + id, &mut starts);
    }
    source.says(&starts);
    destination.says(rest);
    drop(held);

    let (mut answers, mut is_done) = (0, false);
    while answers < ANSWERS || !is_done {
        let message = source.hears();
        let view = MessageView::parse(&message).expect("a message");
        match view.kind {
            Kind::ConnectionReset => {
                assert_eq!(view.connection_id, 100 + answers, "of {size}");
                answers += 1;
            }
            Kind::Data => is_done |= view.payload.first() == Some(&b'b'),
            kind => panic!("{kind:?}"),
        }
    }
}

/// A source has sent all that it had to say, and its system has seen it acknowledged; then it is gone. The destination is
/// slower, and something is on its way from there.
#[test]
fn what_a_side_sent_before_it_was_gone_arrives_though_it_is_sent_to() {
    both(|io| {
        let mut bench = Bench::new(io, &["A"]);
        let mut source = bench.attach(Mode::Source);
        let mut destination = bench.attach_narrow(Mode::Destination);
        open_stream(&mut source, &mut destination);
        // More than the relay has room for in its output; of the rest, what its system takes in besides.
        let (mut sent, mut heard) = (0, 0);
        while sent < 448_000 && is_acknowledged(&source.stream) {
            source.says(&data(&[7; 16_000]));
            sent += 16_000;
        }
        while !is_acknowledged(&source.stream) {
            let message = destination.hears();
            heard += MessageView::parse(&message)
                .expect("a message")
                .payload
                .len();
        }
        drop(source);
        for _ in 0..3 {
            destination.says(&data(b"an answer"));
            std::thread::sleep(Duration::from_millis(20));
        }
        loop {
            let message = destination.hears();
            let view = MessageView::parse(&message).expect("a message");
            match view.kind {
                Kind::Data => heard += view.payload.len(),
                Kind::StreamReset => break,
                kind => panic!("{kind:?}"),
            }
        }
        assert_eq!(heard, sent);
        while !matches!(bench.hears(), LinkNews::Gone(grant) if grant.mode == Mode::Source) {}
    });
}

/// Whether all that was written is at the peer's system by now, or is there in a moment.
fn is_acknowledged(stream: &TcpStream) -> bool {
    for _ in 0..100 {
        if unacknowledged(stream.as_raw_fd()) == 0 {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// More answers than the outbox holds pause the reading; nothing but the relay itself is there
/// to go on with it.
#[test]
fn reading_goes_on_after_the_answers_have_left() {
    const STARTS: u32 = 20_000;
    both(|io| {
        let mut bench = Bench::new(io, &["A"]);
        let mut source = bench.attach(Mode::Source);
        let mut destination = bench.attach(Mode::Destination);
        open_stream(&mut source, &mut destination);
        let mut starts = Vec::new();
        for id in 0..STARTS {
            control(Kind::ConnectionStart, 9, 100 + id, &mut starts);
        }
        let held = bench.hold();
        source.says(&starts);
        drop(held);
        for id in 0..STARTS {
            let message = source.hears();
            let view = MessageView::parse(&message).expect("a message");
            assert_eq!(
                (view.kind, view.connection_id),
                (Kind::ConnectionReset, 100 + id)
            );
        }
    });
}

#[test]
fn links_of_a_loop_that_breaks_are_reported_before_and_after() {
    both(|io| {
        let mut bench = Bench::new(io, &["A"]);
        let mut before = bench.attach(Mode::Source);
        assert!(matches!(bench.hears(), LinkNews::Attached(grant) if grant.session == 1));
        bench.event_loop.run(|| panic!("as the test wants it"));
        before.hears_the_end();
        assert!(matches!(bench.hears(), LinkNews::Gone(grant) if grant.session == 1));
        let mut after = bench.attach_with(Mode::Source, None, Records::Plain(PlainRecords));
        after.hears_the_end();
        assert!(matches!(bench.hears(), LinkNews::Gone(grant) if grant.session == 2));
    });
}

/// A bench with one side over TLS that has heard its SERVICE_IDS; its socket, and its session. `kernel`: of the buffers there.
pub(super) fn over_tls(
    io: IoChoice,
    mode: Mode,
    kernel: Option<usize>,
    kind: tls::Kind,
) -> (Bench, TcpStream, tls::Peer) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    let suite = tls::tls13_suites()[0];
    let (mut near, far) = runtime.block_on(tls::pair(suite, tls::Kind::Buffered, kind));
    let mut bench = Bench::new(io, &["A"]);
    let mut wire = bench.attach_with(mode, kernel, far.into_records()).stream;
    hear(&mut wire, &mut near, |plaintext| !plaintext.is_empty());
    (bench, wire, near)
}

/// The destination asks for new keys while a record for it is being composed.
#[test]
fn an_update_of_keys_leaves_in_its_place_between_records() {
    both(|io| {
        for kind in [tls::Kind::Library, tls::Kind::InPlace] {
            let (mut bench, mut wire, mut near) = over_tls(io, Mode::Destination, None, kind);
            let mut source = bench.attach(Mode::Source);
            let mut start = Vec::new();
            control(Kind::StreamStart, 1, 1, &mut start);
            source.says(&start);
            hear(&mut wire, &mut near, |plaintext| {
                contains(plaintext, &start)
            });

            for round in 0..5 {
                let mut update = Vec::new();
                near.update_keys(&mut update);
                let held = bench.hold();
                source.says(&data(&[b'x'; 100]));
                wire.write_all(&update).expect("write");
                drop(held);
                let last = [b'0' + round; 100];
                source.says(&data(&last));
                hear(&mut wire, &mut near, |plaintext| contains(plaintext, &last));
            }
            let count = near.plaintext.iter().filter(|byte| **byte == b'x').count();
            assert_eq!(count, 500);
        }
    });
}

/// What fills most of a record is sealed from where it lies, the rest is copied; with several records
/// in one turn both follow each other in all ways.
#[test]
fn large_and_small_messages_arrive_whole_and_in_order() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    let mut bytes = tls::Bytes::new(3);
    let payloads: Vec<Vec<u8>> = (0..200)
        .map(|round| match round % 7 {
            0 | 3 => 16_352,
            1 => 8_200 + bytes.below(200),
            4 => 8_100 + bytes.below(100),
            5 => 20_000 + bytes.below(40_000),
            _ => 1 + bytes.below(300),
        })
        .collect::<Vec<usize>>()
        .into_iter()
        .map(|size| bytes.take(size))
        .collect();
    both(|io| {
        for kinds in [
            (tls::Kind::InPlace, tls::Kind::InPlace),
            (tls::Kind::InPlace, tls::Kind::Library),
            (tls::Kind::Library, tls::Kind::InPlace),
        ] {
            let suite = tls::tls13_suites()[0];
            let from = runtime.block_on(tls::pair(suite, tls::Kind::Buffered, kinds.0));
            let to = runtime.block_on(tls::pair(suite, tls::Kind::Buffered, kinds.1));
            large_and_small(io, from, to, &payloads);
        }
    });
}

fn large_and_small(
    io: IoChoice,
    (mut from, from_far): (tls::Peer, tls::Peer),
    (mut to, to_far): (tls::Peer, tls::Peer),
    payloads: &[Vec<u8>],
) {
    let mut bench = Bench::new(io, &["A"]);
    let source = bench.attach_with(Mode::Source, None, from_far.into_records());
    let destination = bench.attach_with(Mode::Destination, None, to_far.into_records());
    let (mut near, mut wire) = (source.stream, destination.stream);
    hear(&mut wire, &mut to, |plaintext| !plaintext.is_empty());
    hear(&mut near, &mut from, |plaintext| !plaintext.is_empty());
    to.plaintext.clear();

    let mut start = Vec::new();
    control(Kind::StreamStart, 1, 1, &mut start);
    // Several messages in a frame, a message in several frames, a frame in a record, and not.
    let mut sent = vec![start];
    sent.extend(payloads.iter().map(|payload| data(payload)));
    let mut sealed = Vec::new();
    for messages in sent.chunks(2) {
        for frame in frames(&messages.concat(), true).chunks(16_384) {
            from.send(frame, &mut sealed);
        }
    }
    let held = bench.hold();
    let writer = std::thread::spawn(move || near.write_all(&sealed).map(|()| near));
    std::thread::sleep(Duration::from_millis(5));
    drop(held);

    let total: usize = sent.iter().map(Vec::len).sum();
    hear(&mut wire, &mut to, |plaintext| plaintext.len() >= total);
    // The headers of frames come on top.
    let mut heard = Inbound::new(Role::Client);
    let (mut position, mut messages) = (0, Vec::new());
    while messages.len() < sent.len() {
        let buffer = &mut to.plaintext[..];
        match heard.next(buffer, &mut position).expect("proper frames") {
            Some(Item::Message(Place::Buffer(range))) => messages.push(buffer[range].to_vec()),
            Some(Item::Message(Place::Assembled)) => messages.push(heard.assembled().to_vec()),
            Some(_) => {}
            None => {
                // The last bytes are still on their way.
                let before = std::mem::take(&mut to.plaintext).len();
                assert!(before > 0, "all was read");
                position = 0;
                hear(&mut wire, &mut to, |plaintext| !plaintext.is_empty());
            }
        }
    }
    assert!(
        messages
            .iter()
            .zip(&sent)
            .all(|(heard, sent)| *heard == sent[2..])
    );
    writer.join().expect("a writer").expect("written");
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Reads records until what came satisfies `is_enough`.
pub(super) fn hear(wire: &mut TcpStream, near: &mut tls::Peer, is_enough: impl Fn(&[u8]) -> bool) {
    let mut buffer = vec![0; 65_536];
    while !is_enough(&near.plaintext) {
        let count = wire.read(&mut buffer).expect("read");
        assert!(count > 0, "the link ended");
        near.receive(&buffer[..count]).expect("records in order");
    }
}

/// A peer whose host is gone: nothing reaches it, and it says nothing.
#[test]
fn a_side_that_acknowledges_nothing_is_given_up_and_one_that_only_does_not_read_is_not() {
    both(|io| {
        for gone in [Mode::Source, Mode::Destination] {
            one_that_is_gone_and_one_that_does_not_read(io, gone);
        }
    });
}

fn one_that_is_gone_and_one_that_does_not_read(io: IoChoice, gone: Mode) {
    let mut bench = Bench::new(io, &["A"]);
    let mut source = bench.attach(Mode::Source);
    let mut destination = bench.attach(Mode::Destination);
    open_stream(&mut source, &mut destination);
    let mut quiet = Bench::new(io, &["A"]);
    let mut unread = quiet.attach(Mode::Source);
    let mut other = quiet.attach(Mode::Destination);
    open_stream(&mut unread, &mut other);
    for _ in 0..2 {
        assert!(matches!(bench.hears(), LinkNews::Attached(_)));
        assert!(matches!(quiet.hears(), LinkNews::Attached(_)));
    }
    let (vanishes, mut stays) = match gone {
        Mode::Source => (source, destination),
        Mode::Destination => (destination, source),
    };
    // The system drops what comes for the socket before it looks at it.
    let nothing = [socket2::SockFilter::new(0x06, 0, 0, 0)];
    let socket = socket2::SockRef::from(&vanishes.stream);
    socket.attach_filter(&nothing).expect("a filter");
    stays.says(&data(b"never acknowledged"));
    other.says(&data(&[7; 60_000]));
    assert!(matches!(bench.hears(), LinkNews::Gone(grant) if grant.mode == gone));
    // It is told although it says nothing more.
    assert_eq!(stays.hears_kind(), Kind::StreamReset);
    assert!(quiet.news.try_recv().is_err());
    assert_eq!(unread.hears_kind(), Kind::Data);
}

/// It was not read because of what waited for the other one, and no event tells that this is void. The next turn that
/// time brings is a second away, or ten.
#[test]
fn a_side_is_read_again_at_once_when_the_one_that_took_nothing_is_over() {
    both(|io| {
        let is_at_once = |_| read_again_after(io) < Duration::from_millis(150);
        assert!((0..4).any(is_at_once), "not even once");
    });
}

/// How long a question waits behind what the other side had no room for, once that is over.
fn read_again_after(io: IoChoice) -> Duration {
    let mut bench = Bench::new(io, &["A"]);
    let mut source = bench.attach(Mode::Source);
    let mut destination = bench.attach_narrow(Mode::Destination);
    open_stream(&mut source, &mut destination);
    let mut wire = source.stream.try_clone().expect("a socket");
    // More than the relay holds.
    let mut content = Vec::new();
    for _ in 0..40 {
        content.extend(data(&[7; 60_000]));
    }
    control(Kind::ConnectionStart, 1, 2, &mut content);
    let writer = std::thread::spawn(move || wire.write_all(&frames(&content, true)));
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    let over = destination.stream.shutdown(Shutdown::Write);
    over.expect("it is connected");
    assert_eq!(source.hears_kind(), Kind::StreamReset);
    assert_eq!(source.hears_kind(), Kind::ConnectionReset);
    writer.join().expect("a writer").expect("all is taken");
    start.elapsed()
}

#[test]
fn a_tunnel_over_its_quota_of_bytes_carries_all_of_them_later() {
    const RATE: u64 = 100_000;
    both(|io| {
        let mut bench = Bench::new(io, &["A"]);
        bench.bytes_per_second = NonZeroU64::new(RATE);
        let mut source = bench.attach(Mode::Source);
        let mut destination = bench.attach(Mode::Destination);
        open_stream(&mut source, &mut destination);
        let start = Instant::now();
        for part in 0..25 {
            source.says(&data(&[part; 10_000]));
        }
        for part in 0..25 {
            let message = destination.hears();
            let view = MessageView::parse(&message).expect("a message");
            assert!(view.payload == [part; 10_000]);
        }
        // All but the burst of a second and the record that overdraws.
        assert!(
            start.elapsed() >= Duration::from_secs(1),
            "{:?}",
            start.elapsed()
        );
    });
}

/// A tunnel was opened without services, and a rotation of one side's token brings some.
#[test]
fn services_that_a_rotation_brings_are_told_to_both_sides() {
    both(|io| {
        let mut bench = Bench::new(io, &[]);
        let mut earlier = bench.attach(Mode::Source);
        bench.services = ["A".parse().expect("an id")].into();
        let mut destination =
            bench.attach_with(Mode::Destination, None, Records::Plain(PlainRecords));
        let ids = |message: &[u8]| {
            let view = MessageView::parse(message).expect("a message");
            view.service_ids().expect("valid ids").len()
        };
        assert_eq!(ids(&destination.hears()), 1);
        let (messages, code) = earlier.hears_all();
        assert_eq!((messages.len(), code), (0, None), "it may come back");
        let mut source = bench.attach_with(Mode::Source, None, Records::Plain(PlainRecords));
        assert_eq!(ids(&source.hears()), 1);
        open_stream(&mut source, &mut destination);
        // One that was admitted before that, and comes only now, hears of them, too.
        bench.services = [].into();
        let mut late = bench.attach_with(Mode::Source, None, Records::Plain(PlainRecords));
        assert_eq!(ids(&late.hears()), 1);
    });
}
