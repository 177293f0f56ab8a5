//! What is learnt of a storm: when each tunnel was back, and how hard was tried.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::system::Attempt;

/// Seconds of attempts that are told one by one; later ones are in the sums alone.
pub(super) const SECONDS_TOLD_MAX: usize = 300;

/// Attempts to connect, of both sides together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attempts {
    pub(super) all: usize,
    pub(super) failed: usize,
    /// By whole seconds after the cut.
    pub(super) by_second: Vec<usize>,
}

impl Attempts {
    pub(super) fn of(attempts: &[Attempt], cut: Instant) -> Self {
        let mut counts = Self::default();
        // What was told before the cut has nothing to do with it.
        for attempt in attempts.iter().filter(|it| it.at >= cut) {
            counts.all += 1;
            counts.failed += usize::from(!attempt.succeeded);
            let second = attempt.at.duration_since(cut).as_secs() as usize;
            if second < SECONDS_TOLD_MAX {
                counts
                    .by_second
                    .resize(counts.by_second.len().max(second + 1), 0);
                counts.by_second[second] += 1;
            }
        }
        counts
    }

    /// By name, each name ending in its unit.
    pub(super) fn figures(&self) -> BTreeMap<String, f64> {
        let most = self.by_second.iter().max().copied().unwrap_or_default();
        let mut figures = BTreeMap::from([
            ("attempts_count".to_owned(), self.all as f64),
            ("failed_attempts_count".to_owned(), self.failed as f64),
            ("attempts_max_per_second".to_owned(), most as f64),
        ]);
        for (second, count) in self.by_second.iter().enumerate() {
            let name = format!("attempts_in_second_{second:03}_count");
            figures.insert(name, *count as f64);
        }
        figures
    }
}

/// Times until something was back, in a row.
#[derive(Debug, Default)]
pub(super) struct Recoveries(Vec<Duration>);

impl Recoveries {
    pub(super) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// Shares of all, in seconds: `NAME_p50_s` and so on.
    pub(super) fn figures(&self, name: &str) -> BTreeMap<String, f64> {
        let at = |share: f64| {
            let index = (share * self.0.len() as f64).ceil() as usize;
            self.0
                .get(index.saturating_sub(1))
                .map(Duration::as_secs_f64)
        };
        let shares = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];
        let figure = |(label, share)| Some((format!("{name}_{label}_s"), at(share)?));
        shares.into_iter().filter_map(figure).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Side;

    #[test]
    fn attempts_are_counted_by_second_from_the_cut_on() {
        let cut = Instant::now() + Duration::from_secs(10);
        let attempt = |milliseconds: i64, succeeded| Attempt {
            at: match milliseconds {
                0.. => cut + Duration::from_millis(milliseconds as u64),
                _ => cut - Duration::from_millis(milliseconds.unsigned_abs()),
            },
            tunnel: 0,
            side: Side::Source,
            succeeded,
        };
        let attempts = [
            attempt(-1, true),
            attempt(0, false),
            attempt(999, false),
            attempt(2_000, true),
            attempt(1_000_000, true),
        ];
        let counts = Attempts::of(&attempts, cut);
        assert_eq!((counts.all, counts.failed), (4, 2));
        assert_eq!(counts.by_second, [2, 0, 1]);
        let figures = counts.figures();
        assert_eq!(figures["attempts_max_per_second"], 2.0);
        assert_eq!(figures["attempts_in_second_002_count"], 1.0);
        assert_eq!(Attempts::of(&[], cut), Attempts::default());
    }

    #[test]
    fn shares_are_those_of_the_sorted_times() {
        let times = (1..=100).rev().map(Duration::from_secs).collect();
        let figures = Recoveries::new(times).figures("back");
        assert_eq!(figures["back_p50_s"], 50.0);
        assert_eq!(figures["back_p99_s"], 99.0);
        assert_eq!(figures["back_max_s"], 100.0);
        assert!(Recoveries::default().figures("back").is_empty());
    }
}
