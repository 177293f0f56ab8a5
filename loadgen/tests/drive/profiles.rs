//! Every profile, on both kernel interfaces, against an honest far end.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use adit_loadgen::args::IoChoice;
use adit_loadgen::report::{Model, Summary};
use adit_loadgen::server::Responder;
use adit_verify::{Kind, Reader};

use crate::forwarder::{self, Lie, Way};
use crate::support::{Run, far_end, interfaces, made_or_skipped};

/// Runs on every interface; the far end has seen no wrong byte.
fn on_each(arguments: &str, check: impl Fn(&Summary)) {
    for io in interfaces() {
        let server = far_end(io);
        let summary = Run::of(arguments, server.address, io).passed();
        check(&summary);
        assert_eq!(server.faults(), 0);
    }
}

#[test]
fn latency_in_an_open_model_offers_its_rate() {
    on_each(
        "latency --rate 400 --connections 3 --threads 2 --duration 500ms",
        |summary| {
            assert_eq!(summary.run.model, Model::Open);
            assert_eq!((summary.due, made_or_skipped(summary)), (200, 200));
            let bytes = 64 * summary.operations;
            assert_eq!((summary.bytes_up, summary.bytes_down), (bytes, bytes));
            assert!(summary.corrected.p50_ns >= summary.uncorrected.p50_ns);
        },
    );
}

#[test]
fn latency_in_a_closed_model_says_so() {
    on_each(
        "latency --closed --size 1000 --reply-size 70000 --duration 300ms",
        |summary| {
            assert_eq!((summary.run.model, summary.due), (Model::Closed, 0));
            assert!(summary.operations > 0);
            assert_eq!(summary.bytes_down, summary.operations * 70_000);
        },
    );
}

#[test]
fn bulk_goes_up_down_and_both_ways_and_is_shared() {
    for (direction, goes) in [
        ("up", [true, false]),
        ("down", [false, true]),
        ("both", [true; 2]),
    ] {
        let arguments = format!("bulk --direction {direction} --connections 5 --duration 400ms");
        on_each(&arguments, |summary| {
            let shares = summary.shares.as_ref().expect("bulk has streams");
            assert_eq!(shares.count, 5);
            assert!(shares.jain > 0.2 && shares.jain <= 1.0 && shares.min_bytes > 0);
            for (goes, bytes) in goes.into_iter().zip([summary.bytes_up, summary.bytes_down]) {
                assert_eq!(goes, bytes > 1_000_000, "{direction}: {bytes}");
            }
        });
    }
}

#[test]
fn mixed_has_round_trips_beside_bulk() {
    on_each(
        "mixed --connections 3 --closed --direction both --duration 400ms",
        |summary| {
            assert!(summary.operations > 0);
            assert!(summary.bytes_up > 1_000_000 && summary.bytes_down > 1_000_000);
            assert_eq!(summary.shares.as_ref().map(|shares| shares.count), Some(2));
        },
    );
}

/// However many threads carry bulk, all starts go to those who can make them.
#[test]
fn bulk_beside_them_takes_no_starts_from_round_trips() {
    on_each(
        "mixed --connections 4 --threads 2 --rate 50 --duration 400ms",
        |summary| {
            assert_eq!((summary.due, made_or_skipped(summary)), (20, 20));
            assert_eq!(summary.run.threads, 3);
            // That one worker has them all is tested beside the code (`drive/places.rs`): how many it makes in time, beside
            // bulk, is the machine's affair.
            assert!(summary.operations > 0, "{summary:?}");
        },
    );
}

#[test]
fn churn_opens_a_connection_for_each_operation() {
    on_each(
        "churn --rate 200 --connections 8 --threads 2 --duration 400ms",
        |summary| {
            assert_eq!((summary.due, made_or_skipped(summary)), (80, 80));
        },
    );
    on_each(
        "churn --closed --connections 2 --duration 200ms",
        |summary| {
            assert!(summary.operations > 0);
        },
    );
}

/// Where the trailer came only after an answer, a connection would have a second round trip.
#[test]
fn a_connection_of_churn_says_all_in_one_round_trip() {
    let target = far_end_that_waits_for_trailers();
    let profile = "churn --closed --connections 1 --duration 200ms --grace 1s";
    let summary = Run::of(profile, target, IoChoice::Auto).passed();
    // The third waits for the end of the first.
    assert!(summary.operations > 2, "{}", summary.operations);
}

/// It answers at once on the first connection alone, which is the one that is tried before the start. It ends none before
/// the generator has.
fn far_end_that_waits_for_trailers() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (index, stream) in listener.incoming().enumerate() {
            thread::spawn(move || answer(&mut stream.unwrap(), index > 0));
        }
    });
    address
}

fn answer(stream: &mut TcpStream, waits: bool) {
    let (mut responder, mut reader) = (Responder::new(), Reader::awaiting_greeting());
    let (mut buffer, mut out, mut has_trailer) = ([0; 4096], Vec::new(), false);
    while !responder.has_ended() {
        let size = stream.read(&mut buffer).unwrap();
        assert!(size > 0, "it ended without a trailer");
        let mut input = &buffer[..size];
        responder.receive(input).unwrap();
        while let Some(message) = reader.next(&mut input).unwrap() {
            has_trailer |= message.kind == Kind::End;
        }
        if has_trailer || !waits {
            responder.fill(&mut out, usize::MAX);
            stream.write_all(&out).unwrap();
            out.clear();
        }
    }
    while stream.read(&mut buffer).unwrap() > 0 {}
}

#[test]
fn idle_connections_are_whole_at_the_end_and_their_memory_is_known() {
    let own = std::process::id();
    let arguments = format!("idle --connections 300 --threads 2 --duration 300ms --pid {own}=end");
    on_each(&arguments, |summary| {
        assert_eq!(summary.figures["held_connections"], 300.0);
        assert!(
            summary
                .figures
                .contains_key("end_user_memory_per_connection_bytes")
        );
        assert_eq!(summary.processes.len(), 1);
    });
}

#[test]
fn a_stalled_reader_is_told_apart_from_the_others() {
    // Its windows are shares of this: in 300 ms a busy machine may give nobody a turn.
    on_each("stall --connections 4 --duration 4s", |summary| {
        assert!(summary.figures["others_before_bits_per_second"] > 0.0);
        assert!(summary.figures["others_during_bits_per_second"] > 0.0);
        assert_eq!(summary.figures["stalled_stream_was_cut_count"], 0.0);
    });
}

/// What is to stall is gone long before.
#[test]
fn a_connection_that_is_cut_before_it_stalls_fails_the_run_and_tells_nothing() {
    let server = far_end(IoChoice::Auto);
    let target = forwarder::start(server.address, Lie::Truncate, Way::Down, 5_000, 0..1);
    let profile = "stall --connections 3 --duration 1s";
    let run = Run::of(profile, target, IoChoice::Auto);
    assert_eq!(run.code, 1, "{}", run.text);
    let summary = run.summary.expect("it ran");
    assert_eq!(summary.errors.values().sum::<u64>(), 1, "{}", run.text);
    assert!(summary.figures.is_empty(), "{:?}", summary.figures);
    assert!(run.text.contains("nothing stalled"), "{}", run.text);
}

#[test]
fn a_connection_that_is_cut_while_it_stalls_is_told() {
    let server = far_end(IoChoice::Auto);
    // It stalls after two of the five.
    let lie = Lie::HangUp(Duration::from_millis(3_500));
    let target = forwarder::start(server.address, lie, Way::Down, 0, 0..1);
    let profile = "stall --connections 3 --duration 5s";
    let summary = Run::of(profile, target, IoChoice::Auto).passed();
    assert_eq!(summary.figures["stalled_stream_was_cut_count"], 1.0);
}

#[test]
fn people_and_browsers_are_served() {
    on_each(
        "ssh-typing --connections 5 --rate 100 --duration 400ms",
        |summary| {
            assert_eq!(summary.due, made_or_skipped(summary));
            assert!(summary.operations > 0);
        },
    );
    on_each(
        "http-mix --connections 4 --rate 300 --duration 400ms",
        |summary| {
            assert_eq!(made_or_skipped(summary), 120);
            assert!(summary.bytes_down > summary.bytes_up);
        },
    );
}

#[test]
fn a_seed_repeats_what_is_asked() {
    let run = |seed: u32| {
        let server = far_end(IoChoice::Auto);
        let arguments =
            format!("http-mix --connections 1 --rate 200 --duration 200ms --seed {seed}");
        let io = IoChoice::Auto;
        Run::of(&arguments, server.address, io).passed()
    };
    // Runs that left starts out cannot be compared.
    let bytes = |seed: u32| {
        let mut whole = (0..50).map(|_| run(seed)).filter(|it| it.operations == 40);
        let summary = whole.next().expect("one run of fifty makes all its starts");
        (summary.bytes_up, summary.bytes_down)
    };
    assert_eq!(bytes(7), bytes(7));
    assert_ne!(bytes(7), bytes(8));
}

#[test]
fn sockets_have_the_congestion_control_that_was_asked_for() {
    let server = far_end(IoChoice::Auto);
    let arguments = "latency --closed --duration 100ms --congestion reno";
    let io = IoChoice::Auto;
    let summary = Run::of(arguments, server.address, io).passed();
    assert_eq!(summary.run.congestion_control.as_deref(), Some("reno"));
    let wrong = "latency --closed --duration 100ms --congestion nonesuch";
    let run = Run::of(wrong, server.address, io);
    assert_eq!(run.code, 2, "{}", run.text);
    assert!(
        run.text.contains("nonesuch") && run.text.contains("hint:"),
        "{}",
        run.text
    );
}
