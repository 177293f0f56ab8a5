//! A forwarder that lies about one byte is found out, whatever it does to it and wherever.

use adit_loadgen::args::IoChoice;
use adit_loadgen::report::ErrorKind;

use crate::forwarder::{self, ALL, Lie, Way};
use crate::support::{Run, far_end};

/// The round trip before the start is over by then: 48 bytes of greeting and 64 of question, or 64 of answer.
const OFFSETS: [usize; 6] = [112, 113, 140, 5_000, 70_001, 400_000];

fn run(profile: &str, lie: Lie, way: Way, offset: usize) -> Run {
    let server = far_end(IoChoice::Auto);
    let target = forwarder::start(server.address, lie, way, offset, ALL);
    Run::of(profile, target, IoChoice::Auto)
}

#[test]
fn a_forwarder_that_does_not_lie_is_not_accused() {
    for way in [Way::Up, Way::Down] {
        let both = "bulk --direction both --connections 2 --duration 200ms";
        run(both, Lie::None, way, 0).passed();
    }
}

#[test]
fn bulk_finds_a_byte_that_was_changed_lost_doubled_or_moved() {
    for lie in [Lie::Flip, Lie::Drop, Lie::Double, Lie::Swap, Lie::Replay] {
        for (way, direction) in [(Way::Up, "up"), (Way::Down, "down")] {
            for offset in OFFSETS {
                let profile = format!(
                    "bulk --direction {direction} --duration 600ms --grace 2s --seed {offset}"
                );
                let run = run(&profile, lie, way, offset);
                let told = format!("{lie:?} {way:?} at {offset}: {}", run.text);
                assert_eq!(run.code, 1, "{told}");
                let summary = run.summary.expect("it ran");
                assert_eq!(summary.errors.get(&ErrorKind::Mismatch), Some(&1), "{told}");
            }
        }
    }
}

#[test]
fn a_stream_that_is_cut_is_no_stream_that_has_ended() {
    for (way, direction) in [(Way::Up, "up"), (Way::Down, "down")] {
        for offset in OFFSETS {
            let profile = format!("bulk --direction {direction} --duration 400ms --grace 2s");
            let run = run(&profile, Lie::Truncate, way, offset);
            let told = format!("{way:?} at {offset}: {}", run.text);
            assert_eq!(run.code, 1, "{told}");
            let summary = run.summary.expect("it ran");
            assert_eq!(summary.errors.values().sum::<u64>(), 1, "{told}");
        }
    }
}

#[test]
fn round_trips_find_a_wrong_byte_in_question_or_answer() {
    for lie in [Lie::Flip, Lie::Double, Lie::Swap] {
        for way in [Way::Up, Way::Down] {
            for offset in [112, 150, 5_000] {
                // One round trip is enough, and a busy machine may make no more in the time.
                let profile = "latency --closed --size 8000 --reply-size 8000 --duration 200ms";
                let run = run(profile, lie, way, offset);
                let told = format!("{lie:?} {way:?} at {offset}: {}", run.text);
                assert_eq!(run.code, 1, "{told}");
                let summary = run.summary.expect("it ran");
                assert!(summary.errors.contains_key(&ErrorKind::Mismatch), "{told}");
            }
        }
    }
}

/// The far end looks for them upwards.
#[test]
fn bytes_behind_the_trailer_are_found() {
    for profile in [
        "latency --closed",
        "churn --closed",
        "bulk --direction down",
        "bulk --direction up",
        "idle --connections 3",
    ] {
        let profile = format!("{profile} --duration 200ms");
        let run = run(&profile, Lie::Trail, Way::Down, 0);
        assert_eq!(run.code, 1, "{profile}: {}", run.text);
        let summary = run.summary.expect("it ran");
        let losses: Vec<ErrorKind> = summary.losses().into_keys().collect();
        assert_eq!(losses, [ErrorKind::Mismatch], "{profile}: {}", run.text);
    }
}

/// Every byte but the last eight is missed by what follows it in the same message.
#[test]
fn a_question_that_has_lost_its_end_is_never_answered_and_fails_the_run() {
    let run = run(
        "latency --closed --duration 200ms --grace 300ms",
        Lie::Drop,
        Way::Up,
        170,
    );
    assert_eq!(run.code, 1, "{}", run.text);
    let failure = "error: bytes were lost or wrong (timed-out 1)";
    assert!(run.text.contains(failure), "{}", run.text);
    let summary = run.summary.expect("it ran");
    assert_eq!(
        summary.errors.get(&ErrorKind::TimedOut),
        Some(&1),
        "{}",
        run.text
    );
}

/// In the greeting, in the question that tries the connection, and in its answer.
#[test]
fn a_wrong_byte_before_the_start_ends_the_run_at_once() {
    for (way, offsets) in [(Way::Up, &[3, 40, 47, 100][..]), (Way::Down, &[2, 5, 40])] {
        for offset in offsets {
            let run = run("latency --closed --duration 200ms", Lie::Flip, way, *offset);
            let told = format!("{way:?} at {offset}: {}", run.text);
            assert_eq!(run.code, 1, "{told}");
            assert!(run.text.contains("bytes are wrong"), "{told}");
            assert!(run.summary.is_none());
        }
    }
}

/// Whoever waits for a byte cannot know whether it is lost or late.
#[test]
fn a_byte_that_is_lost_before_the_start_is_not_waited_for_without_end() {
    let run = run("latency --closed --duration 200ms", Lie::Drop, Way::Up, 106);
    assert_eq!(run.code, 5, "{}", run.text);
    let says_where = run.text.contains("no answer in time") && run.text.contains("lost bytes");
    assert!(says_where, "{}", run.text);
}
