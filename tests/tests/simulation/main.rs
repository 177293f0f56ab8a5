//! The simulator in the budget of an ordinary run, and the simulator judged by itself.

use adit_tests::simulation::{Bug, Length, Run, run_all};

const SEEDS: u64 = 64;
const STEPS: Length = Length::Steps(20_000);

/// Lives of a day, each of two to four tunnels.
const LIVES: u64 = 32;
const DAYS: Length = Length::Days(1);

#[test]
fn every_application_sees_what_it_must() {
    let tally = run_all(0, SEEDS, STEPS, None).unwrap_or_else(|failure| panic!("{failure}"));
    eprintln!("{SEEDS} seeds of {STEPS:?}: {tally:?}");
    // That much happens, or the test has gone blind.
    assert!(tally.complete > 8_000 && tally.cut > 5_000, "{tally:?}");
    assert!(tally.links_lost > 2_000, "{tally:?}");
}

#[test]
fn days_pass_on_time_and_leave_nothing() {
    let tally = run_all(0, LIVES, DAYS, None).unwrap_or_else(|failure| panic!("{failure}"));
    eprintln!("{LIVES} seeds of {DAYS:?}: {tally:?}");
    // What 32 seeds do differs by a factor of two with what is drawn.
    assert!(tally.tunnels > 64 && tally.pings > 150_000, "{tally:?}");
    assert!(tally.complete > 500 && tally.links_lost > 400, "{tally:?}");
}

#[test]
fn every_planted_mistake_is_found() {
    find(&Bug::OF_STEPS, SEEDS, STEPS);
}

#[test]
fn every_planted_mistake_that_takes_time_is_found() {
    find(&Bug::OF_DAYS, LIVES, DAYS);
}

fn find(bugs: &[Bug], seeds: u64, length: Length) {
    let is_missed = |bug: &&Bug| match run_all(0, seeds, length, Some(**bug)) {
        Ok(_) => true,
        Err(failure) => {
            eprintln!("{bug:?}: {failure}");
            false
        }
    };
    let missed: Vec<&Bug> = bugs.iter().filter(is_missed).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// What a failure prints is all that it takes to see it again.
#[test]
fn a_failure_is_repeated_by_its_line() {
    let first = run_all(0, SEEDS, STEPS, Some(Bug::LostData)).expect_err("a mistake is planted");
    let again = first.run.go().expect_err("the same mistake is planted");
    assert_eq!((first.step, &first.reason), (again.step, &again.reason));
    let Run { seed, .. } = first.run;
    let line = format!("replay: simulate --seed {seed} --steps 20000 --bug LostData");
    assert_eq!(first.to_string().lines().last(), Some(line.as_str()));
}

#[test]
fn a_seed_repeats_itself() {
    let run = |seed| {
        let run = Run {
            seed,
            length: Length::Steps(2_500),
            bug: None,
            has_trace: false,
        };
        run.go().unwrap_or_else(|failure| panic!("{failure}"))
    };
    for seed in 100..104 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
