//! When operations begin.

use std::time::{Duration, Instant};

/// Starts at even distances, which a worker's connections take one after the other.
///
/// A start is arithmetic, not an entry of a queue: however long a target is dead, nothing piles up, and what was
/// never begun is still counted.
#[derive(Debug)]
pub struct Schedule {
    first: Instant,
    /// Between two starts of this worker, in seconds.
    distance: f64,
    /// Starts taken so far.
    taken: u64,
    /// Starts before this one were given out by [`overslept`](Self::overslept), or taken.
    told: u64,
}

impl Schedule {
    /// The share of worker `number` of `workers` in `rate` starts a second from `start` on: every one in turn, so that
    /// together they are even.
    #[must_use]
    pub fn new(start: Instant, rate: f64, number: usize, workers: usize) -> Self {
        Self {
            first: start + Duration::from_secs_f64(number as f64 / rate),
            distance: workers as f64 / rate,
            taken: 0,
            told: 0,
        }
    }

    /// Takes the next start, which may have passed.
    pub fn take(&mut self) -> Instant {
        let start = self.at(self.taken);
        self.taken += 1;
        start
    }

    /// Starts before `now` that nobody has taken: whoever should have slept until `now` calls it, so nobody but the
    /// generator has made them late. Each is given out once; at most [`OVERSLEPT_MAX`] of one sleep, the latest first.
    pub fn overslept(&mut self, now: Instant) -> impl Iterator<Item = Instant> + use<'_> {
        let first = self.told.max(self.taken);
        let end = self.due(now).max(first);
        self.told = end;
        (first..end.min(first + OVERSLEPT_MAX)).map(|index| self.at(index))
    }

    /// Starts before `now`, taken or not.
    #[must_use]
    pub fn due(&self, now: Instant) -> u64 {
        match now.checked_duration_since(self.first) {
            Some(passed) => {
                let guess = (passed.as_secs_f64() / self.distance) as u64;
                // Rounding may be one off either way; a start is due from its own nanosecond on.
                (guess.saturating_sub(1)..guess + 3)
                    .find(|&index| self.at(index) >= now)
                    .unwrap_or(guess)
            }
            None => 0,
        }
    }

    fn at(&self, index: u64) -> Instant {
        self.first + Duration::from_secs_f64(index as f64 * self.distance)
    }
}

/// Late starts that one wake accounts for.
const OVERSLEPT_MAX: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_one_even_rate() {
        let start = Instant::now();
        let mut workers = [0, 1, 2].map(|number| Schedule::new(start, 3000.0, number, 3));
        for index in 0..3000 {
            let at = workers[index % 3].take();
            let right = Duration::from_secs_f64(index as f64 / 3000.0);
            let off = (at - start).abs_diff(right);
            assert!(off < Duration::from_nanos(10), "{index}: {off:?}");
        }
    }

    #[test]
    fn starts_that_were_slept_through_are_told_once() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut schedule = Schedule::new(start, 1000.0, 0, 1);
        // Somebody waits for the first, and sleeps until the tenth comes due.
        schedule.take();
        assert_eq!(schedule.overslept(at(9)).count(), 8);
        assert_eq!(schedule.overslept(at(9)).count(), 0);
        // Those are taken late, one after the other; the next sleep is a short one.
        for _ in 0..9 {
            schedule.take();
        }
        assert_eq!(
            schedule.overslept(at(12)).collect::<Vec<_>>(),
            [at(10), at(11)]
        );
        let hours = schedule.overslept(at(3_600_000)).count();
        assert_eq!(hours as u64, OVERSLEPT_MAX);
    }

    #[test]
    fn what_is_due_does_not_depend_on_what_is_taken() {
        let start = Instant::now();
        for rate in [0.5, 3.0, 1000.0, 123_456.7] {
            let mut schedule = Schedule::new(start, rate, 0, 1);
            for count in 0..1000 {
                let at = schedule.take();
                assert_eq!(schedule.due(at), count, "{rate}");
                assert_eq!(schedule.due(at + Duration::from_nanos(1)), count + 1);
            }
        }
    }
}
