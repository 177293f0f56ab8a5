//! A target that is not there, or not what it should be.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use adit_loadgen::args::IoChoice;
use adit_loadgen::report::ErrorKind;

use crate::forwarder::{self, ALL, Lie, Way};
use crate::support::{Run, far_end, interfaces};

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = listener.local_addr().unwrap();
    drop(listener);
    for profile in ["latency", "bulk", "churn", "idle", "stall"] {
        for io in interfaces() {
            let run = Run::of(&format!("{profile} --duration 100ms"), target, io);
            assert_eq!(run.code, 5, "{}", run.text);
            let says_what = run.text.contains(&target.to_string()) && run.text.contains("refused");
            assert!(says_what && run.text.contains("hint: "), "{}", run.text);
        }
    }
}

#[test]
fn somebody_else_listens() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream
                .unwrap()
                .write_all(b"220 mail.example ESMTP, and a little more than a header\r\n");
        }
    });
    let run = Run::of("latency --duration 100ms", target, IoChoice::Auto);
    assert_eq!(run.code, 1, "{}", run.text);
    assert!(run.text.contains("does not lead to"), "{}", run.text);
}

/// 300 starts come due, over a forwarder that leaves out the byte at `offset` of each connection.
fn lossy(offset: usize) -> Run {
    let server = far_end(IoChoice::Auto);
    let target = forwarder::start(server.address, Lie::Drop, Way::Up, offset, ALL);
    let arguments = "latency --rate 1000 --duration 300ms --grace 200ms";
    Run::of(arguments, target, IoChoice::Auto)
}

/// What cannot be begun is counted, not queued.
#[test]
fn starts_that_a_dead_target_leaves_undone_are_counted_as_skipped() {
    // At the end of the first question after the trial: the far end waits for the rest of it.
    let run = lossy(170);
    let summary = run.summary.expect("it ran");
    assert_eq!((summary.due, summary.operations), (300, 0), "{}", run.text);
    let errors = [(ErrorKind::TimedOut, 1), (ErrorKind::Skipped, 299)];
    assert_eq!(summary.errors, errors.into(), "{}", run.text);
    assert_eq!(run.code, 1, "{}", run.text);
}

/// A connection fails while it is used, and the one after it while it is ended: that one is no operation.
#[test]
fn what_came_due_is_what_went_well_and_what_did_not() {
    // In the header of each connection's second question, or of its end.
    let run = lossy(130);
    let summary = run.summary.expect("it ran");
    let undone = summary.errors.values().sum::<u64>();
    let counted = (summary.due, summary.operations + undone);
    assert_eq!(counted, (300, 300), "{}", run.text);
    assert!(
        summary.errors[&ErrorKind::Mismatch] > 0,
        "{:?}",
        summary.errors
    );
    assert_eq!(run.code, 1, "{}", run.text);
}

/// People at five places, of which four have a connection that is cut, however often they are opened.
#[test]
fn starts_of_places_that_could_not_be_opened_are_counted() {
    let server = far_end(IoChoice::Auto);
    let target = forwarder::start(server.address, Lie::Truncate, Way::Down, 0, 1..usize::MAX);
    let arguments = "ssh-typing --connections 5 --rate 400 --duration 500ms --threads 1";
    let run = Run::of(arguments, target, IoChoice::Auto);
    let summary = run.summary.expect("it ran");
    // 200 on average, of which 40 are the first place's.
    assert!(summary.due > 100, "{}: {}", summary.due, run.text);
    let undone = summary.errors.values().sum::<u64>();
    assert_eq!(summary.due, summary.operations + undone, "{}", run.text);
    assert!(undone > 50, "{undone}: {}", run.text);
}

/// The same, with one that cannot be opened the first time.
#[test]
fn places_that_could_not_be_opened_at_first_are_tried_again() {
    let server = far_end(IoChoice::Auto);
    let target = forwarder::start(server.address, Lie::Truncate, Way::Down, 0, 1..2);
    let arguments = "ssh-typing --connections 5 --rate 50 --duration 2500ms --threads 1";
    let run = Run::of(arguments, target, IoChoice::Auto);
    let summary = run.summary.expect("it ran");
    assert_eq!(summary.open_max, 5, "{}", run.text);
    let failed = summary.connection_errors.values().sum::<u64>();
    assert_eq!(failed, 1, "{}", run.text);
}
