//! How a model is run by shuttle.

use std::hash::{BuildHasher, RandomState};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

/// Preemptions of a schedule, in the half that has few of them, at places chosen beforehand: what takes a long run
/// of one thread is rare among schedules that switch anywhere.
const DEPTH: usize = 3;

/// Runs a model in `ADIT_SCHEDULES` orders of events, 1,000 without, half of them by each scheduler. A panic or a
/// deadlock in one of them fails it, and shuttle prints the schedule.
pub fn in_many_orders(model: impl Fn() + Send + Sync + Copy + 'static) {
    let number = |name| {
        let text = std::env::var(name).ok()?;
        Some(text.parse().expect("a number"))
    };
    let schedules = number("ADIT_SCHEDULES").unwrap_or(1_000) as usize;
    let seed = number("ADIT_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    let half = schedules / 2;
    let model_name = std::thread::current()
        .name()
        .unwrap_or("a model")
        .to_owned();
    println!("{schedules} schedules of {model_name}; seed {seed}");
    run(
        RandomScheduler::new_from_seed(seed, schedules - half),
        model,
    );
    run(PctScheduler::new_from_seed(seed, DEPTH, half), model);
}

fn run(scheduler: impl Scheduler + 'static, model: impl Fn() + Send + Sync + Copy + 'static) {
    let mut config = Config::new();
    // What was included is not written for shuttle's small stacks.
    config.stack_size = 256 << 10;
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(model);
}
