//! Links that the relay ends: what waited for them leaves first.

use super::super::{IoChoice, LinkNews};
use super::relay::{hear, over_tls};
use super::support::{Bench, Peer, both, control, data, data_of, frames, open_stream};
use crate::tls::tests::support as tls;
use adit_proto::ids::Mode;
use adit_proto::message::{Kind, MessageView};
use std::io::{Read, Write};
use std::time::Duration;

/// How the relay ends a link.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Tunnel,
    Side,
    Replacement,
}

/// Without the close frame a proxy takes the end for an outage, and tries to come back.
#[test]
fn a_link_that_is_ended_hears_what_waited_for_it_and_the_close_frame() {
    both(|io| {
        for ending in [Ending::Tunnel, Ending::Side, Ending::Replacement] {
            for size in [100_000, 600_000] {
                ended_behind(io, ending, size);
            }
        }
    });
}

fn ended_behind(io: IoChoice, ending: Ending, size: usize) {
    let mut bench = Bench::new(io, &["A"]);
    let mut source = bench.attach_narrow(Mode::Source);
    let mut destination = bench.attach(Mode::Destination);
    open_stream(&mut source, &mut destination);
    let mut content = Vec::new();
    for _ in 0..size / 4_000 {
        content.extend(data(&[b'a'; 4_000]));
    }
    destination.says(&content);
    // Until the relay has taken it, or as much as it takes.
    std::thread::sleep(Duration::from_millis(50));
    let replacement = end(&mut bench, ending);

    let (messages, code) = source.hears_all();
    assert_eq!(code, Some(1_000), "{ending:?} behind {size}");
    // All that the relay had taken.
    assert!(
        messages.len() >= (size / 4_000).min(40),
        "{}",
        messages.len()
    );
    let expected = content[2..].chunks(content.len() / (size / 4_000));
    for (message, expected) in messages.iter().zip(expected) {
        assert!(*message == expected[..message.len()]);
    }
    drop(replacement);
}

/// Ends the source's link, and returns once that is done; with what replaces it.
fn end(bench: &mut Bench, ending: Ending) -> Option<Peer> {
    let tunnel = bench.grant(Mode::Source).tunnel;
    let mut replacement = None;
    match ending {
        Ending::Tunnel => bench.event_loop.end_tunnel(tunnel),
        Ending::Side => bench.event_loop.end_side(tunnel, Mode::Source, u64::MAX),
        Ending::Replacement => replacement = Some(bench.attach(Mode::Source)),
    }
    while !matches!(bench.hears(), LinkNews::Gone(grant) if grant.mode == Mode::Source) {}
    replacement
}

/// One for each side, or whoever takes part could have any number of buffers kept.
#[test]
fn a_link_that_still_leaves_is_cut_when_the_next_of_its_side_is_ended_too() {
    both(|io| {
        let mut bench = Bench::new(io, &["A"]);
        let mut destination = bench.attach(Mode::Destination);
        let mut sources = Vec::new();
        for _ in 0..3 {
            let mut source = bench.attach_narrow(Mode::Source);
            if !sources.is_empty() {
                assert_eq!(destination.hears_kind(), Kind::StreamReset);
            }
            let mut start = Vec::new();
            control(Kind::StreamStart, 1, 1, &mut start);
            source.says(&start);
            let start = destination.hears();
            let stream_id = MessageView::parse(&start).expect("a message").stream_id;
            for _ in 0..25 {
                destination.says(&data_of(stream_id, &[b'a'; 4_000]));
            }
            std::thread::sleep(Duration::from_millis(50));
            sources.push(source);
        }
        end(&mut bench, Ending::Tunnel);
        let codes = sources.iter_mut().map(|source| source.hears_all().1);
        let codes: Vec<_> = codes.collect();
        assert_eq!(codes, [None, None, Some(1_000)]);
    });
}

#[test]
fn answers_that_wait_for_a_link_that_is_ended_leave_before_the_close_frame() {
    const ANSWERS: u32 = 5_000;
    both(|io| {
        let mut bench = Bench::new(io, &["A"]);
        let mut source = bench.attach_narrow(Mode::Source);
        let mut destination = bench.attach(Mode::Destination);
        open_stream(&mut source, &mut destination);
        let mut content = Vec::new();
        for _ in 0..100 {
            content.extend(data(&[b'a'; 4_000]));
        }
        destination.says(&content);
        std::thread::sleep(Duration::from_millis(50));
        let mut starts = Vec::new();
        for id in 0..ANSWERS {
            control(Kind::ConnectionStart, 9, 100 + id, &mut starts);
        }
        source.says(&starts);
        std::thread::sleep(Duration::from_millis(50));
        end(&mut bench, Ending::Tunnel);

        let (messages, code) = source.hears_all();
        assert_eq!(code, Some(1_000));
        let views = messages
            .iter()
            .map(|it| MessageView::parse(it).expect("a message"));
        let answers = views.filter(|view| view.kind == Kind::ConnectionReset);
        let ids: Vec<u32> = answers.map(|view| view.connection_id).collect();
        assert_eq!(ids, (100..100 + ANSWERS).collect::<Vec<_>>());
    });
}

#[test]
fn a_tls_session_that_is_ended_behind_a_backlog_ends_whole() {
    both(|io| {
        for kind in [tls::Kind::Library, tls::Kind::InPlace] {
            let (mut bench, mut wire, mut near) = over_tls(io, Mode::Source, Some(2_048), kind);
            let mut destination = bench.attach(Mode::Destination);
            let mut start = Vec::new();
            control(Kind::StreamStart, 1, 1, &mut start);
            let mut sealed = Vec::new();
            near.send(&frames(&start, true), &mut sealed);
            wire.write_all(&sealed).expect("write");
            assert_eq!(destination.hears_kind(), Kind::StreamStart);
            for _ in 0..100 {
                destination.says(&data(&[b'a'; 4_000]));
            }
            std::thread::sleep(Duration::from_millis(50));
            end(&mut bench, Ending::Tunnel);

            let close = [&[0x88, 18, 0x03, 0xe8], &b"tunnel is closed"[..]].concat();
            hear(&mut wire, &mut near, |plaintext| {
                plaintext.ends_with(&close)
            });
            let mut rest = Vec::new();
            wire.read_to_end(&mut rest).expect("an orderly end");
            near.receive(&rest).expect("records in order");
            assert!(near.closed, "the end was not authentic");
        }
    });
}
