//! Whether the far end kept up: it is a part of what is measured, and nobody else may be able to see it.

use std::thread;
use std::time::{Duration, Instant};

use crate::report::units::percent;
use crate::report::{CPU_SHARE_MAX, OwnCpu};

/// How long a thread must be busy to be told of.
const STRETCH: Duration = Duration::from_secs(1);

/// Looks once in a stretch, as long as the process lives. It says when its threads begin to be too busy and
/// when they have room again, so two lines for each load and not one for each second of it. Between the two is half of
/// the limit: a load that lies about it would be a line each second.
pub(super) fn watch() {
    let mut own = OwnCpu::new();
    let mut was_busy = false;
    loop {
        let share = own.sample(Instant::now()).busiest;
        if let Some(line) = told(was_busy, share) {
            eprintln!("{line}");
            was_busy = !was_busy;
        }
        thread::sleep(STRETCH);
    }
}

fn told(was_busy: bool, share: f64) -> Option<String> {
    match was_busy {
        false if share > CPU_SHARE_MAX => Some(format!(
            "busy: a thread of this server used {} of a core (limit {}), so what is measured through it may be its own \
             limit; more --threads would tell",
            percent(share),
            percent(CPU_SHARE_MAX)
        )),
        true if share < CPU_SHARE_MAX / 2.0 => Some("no longer busy".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begin_and_end_are_told_once() {
        assert_eq!(told(false, 0.5), None);
        let began = told(false, 0.93).expect("it began");
        assert!(
            began.contains("93.0 % of a core") && began.contains("--threads"),
            "{began}"
        );
        assert_eq!(told(true, 0.95), None);
        assert_eq!(told(true, 0.7), None);
        assert_eq!(told(true, 0.2).as_deref(), Some("no longer busy"));
    }
}
