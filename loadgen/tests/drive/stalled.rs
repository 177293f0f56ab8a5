//! A far end that stands still for a second: whoever counts from the intended start sees it.

use std::thread;
use std::time::{Duration, Instant};

use adit_loadgen::report::{Latency, Step, Summary};

use crate::support::{FarEnd, Running, interfaces, made_or_skipped};

/// Between how many and how many took longer than this, as far as the spectrum's steps tell.
fn longer_than(latency: &Latency, least: Duration) -> (u64, u64) {
    let least = least.as_nanos() as u64;
    let (shorter, longer): (Vec<&Step>, Vec<&Step>) = latency
        .spectrum
        .iter()
        .partition(|step| step.value_ns < least);
    let beyond = |count: Option<u64>| latency.count - count.unwrap_or(0);
    let at_least = longer.first().map_or(0, |step| beyond(Some(step.count)));
    (at_least, beyond(shorter.last().map(|step| step.count)))
}

/// 4 connections, 200 starts a second for 4 seconds, of which one is stood still for. In that second 200 starts come
/// due; 4 are under way or begin, and the others wait for a free connection. So at most a few operations of 800 took
/// long from their own start, and some 200 from the intended one.
#[test]
fn a_stall_of_a_second_shows_in_the_corrected_p99_and_hides_in_the_uncorrected() {
    for io in interfaces() {
        let far_end = FarEnd::start();
        let arguments = "latency --rate 200 --connections 4 --duration 4s";
        let running = Running::start(arguments, far_end.address, io);
        far_end.signal("-STOP");
        thread::sleep(Duration::from_secs(1));
        far_end.signal("-CONT");
        let run = running.end();
        assert_eq!(run.code, 0, "{}", run.text);
        check(&run.summary.expect("it ran"));
    }
}

/// What is not answered is waited for once the run was stopped, too, but nothing is offered meanwhile.
#[test]
fn a_run_that_is_stopped_is_as_long_as_load_was_offered() {
    for io in interfaces() {
        let far_end = FarEnd::start();
        let begun = Instant::now();
        let arguments = "latency --closed --connections 4 --duration 600s --grace 6s";
        let running = Running::start(arguments, far_end.address, io);
        far_end.signal("-STOP");
        running.interrupt();
        let interrupted = begun.elapsed().as_secs_f64();
        let run = running.end();
        let ended = begun.elapsed().as_secs_f64();
        let summary = run.summary.expect("it ran");
        assert!(summary.run.is_interrupted, "{}", run.text);
        assert!(ended - interrupted >= 6.0, "the far end stood still");
        // The interrupt is heard a moment later.
        let measured = summary.elapsed_s;
        assert!(
            measured < interrupted + 3.0,
            "{measured} s, of {interrupted}"
        );
    }
}

fn check(summary: &Summary) {
    assert_eq!((summary.due, made_or_skipped(summary)), (800, 800));
    let half = Duration::from_millis(500);
    let (corrected, uncorrected) = (&summary.corrected, &summary.uncorrected);
    // A hundred starts or so came due in the first half of the stall.
    assert!(longer_than(corrected, half).0 >= 50, "{corrected:?}");
    assert!(corrected.p99_ns >= 500_000_000, "{corrected:?}");
    // One for each connection at most.
    assert!(
        (1..=4).contains(&longer_than(uncorrected, half).1),
        "{uncorrected:?}"
    );
    assert!(uncorrected.p99_ns < 500_000_000, "{uncorrected:?}");
    assert!(uncorrected.max_ns >= 500_000_000, "{uncorrected:?}");
}
