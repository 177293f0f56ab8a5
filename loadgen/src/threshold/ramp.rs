//! The search for the highest rate that holds.

use serde::{Deserialize, Serialize};

use super::Threshold;
use crate::report::{CPU_SHARE_MAX, Summary};

/// Runs of one search. Growth from the start takes at most 64 doublings of anything that fits a
/// rate; bisection to 5 % takes 4 more, so 32 are enough for 28 doublings.
pub const RAMP_STEPS_MAX: usize = 32;

/// A search for the highest offered rate at which `threshold` is not crossed.
///
/// The rate doubles from the start as long as it holds (or halves until it does), then the
/// interval between the highest that held and the lowest that did not is halved, geometrically,
/// until they are 5 % apart. A rate also counts as not held where less than 95 % of it was
/// achieved, and growth ends where the generator itself is the limit. The search ends where bytes were
/// lost or wrong.
///
/// Contract: ask [`Ramp::next_rate`], run, tell [`Ramp::tell`], until `None`.
#[derive(Clone, Debug)]
pub struct Ramp {
    threshold: Threshold,
    next: Option<f64>,
    held: Option<f64>,
    failed: Option<f64>,
    steps: Vec<RampStep>,
}

/// One rate that was tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RampStep {
    /// Operations a second that were offered.
    pub offered_rate: f64,
    /// Those that ended well.
    pub achieved_rate: f64,
    /// The threshold's metric, for people.
    pub shown: String,
    /// Whether the rate held.
    pub has_held: bool,
    /// Why it did not, or why it proves nothing.
    pub note: String,
}

impl Ramp {
    /// A search that begins at `start` operations a second, which must be positive.
    #[must_use]
    pub fn new(threshold: Threshold, start: f64) -> Self {
        Self {
            threshold,
            next: Some(start),
            held: None,
            failed: None,
            steps: Vec::new(),
        }
    }

    /// Reads the two words of `--ramp until 'p99>5ms'`, or both in one.
    ///
    /// # Errors
    /// The first word is not `until`, or the threshold cannot be read.
    pub fn parse(words: &[String]) -> Result<Threshold, String> {
        let joined = words.join(" ");
        let Some(threshold) = joined.trim().strip_prefix("until ") else {
            return Err(format!(
                "'{joined}' does not begin with 'until': write --ramp until 'p99>5ms'"
            ));
        };
        threshold
            .parse()
            .map_err(|error: super::ThresholdError| error.to_string())
    }

    /// The rate to run next; `None` when the search is over.
    #[must_use]
    pub fn next_rate(&self) -> Option<f64> {
        self.next
    }

    /// What a run at [`Ramp::next_rate`] measured.
    pub fn tell(&mut self, summary: &Summary) {
        let Some(rate) = self.next else { return };
        let outcome = self.threshold.judge(summary);
        // Where starts are by chance, more or fewer than the rate says came due.
        let is_kept_up = summary.achieved_share().is_some_and(|it| it >= KEPT_UP);
        // As of any run: what was lost is a failure, also where the rate was too high.
        let has_lost = !summary.losses().is_empty();
        let has_held = !outcome.is_crossed && is_kept_up && !has_lost;
        // A generator that is late makes latencies longer, which the threshold sees by itself; one that
        // has no time left offers no more, whatever it is asked for.
        let is_own_limit = summary.generator.cpu_busiest_thread > CPU_SHARE_MAX;
        let is_late = summary.is_generator_bound();
        let note = match () {
            () if !summary.is_intact() => "a byte was wrong",
            () if has_lost => "bytes were lost",
            () if outcome.is_crossed && is_own_limit => "crossed; the generator is the limit",
            () if outcome.is_crossed && is_late => "crossed; the generator was late",
            () if outcome.is_crossed => "crossed",
            () if !is_kept_up => "less than 95 % achieved",
            () if is_own_limit => "the generator is the limit",
            () if is_late => "the generator was late",
            () => "",
        };
        self.steps.push(RampStep {
            offered_rate: rate,
            achieved_rate: summary.achieved_rate,
            shown: outcome.shown,
            has_held,
            note: note.to_owned(),
        });
        let best = if has_held {
            &mut self.held
        } else {
            &mut self.failed
        };
        *best = Some(rate);
        let is_over = has_lost || self.steps.len() >= RAMP_STEPS_MAX;
        self.next = if is_over {
            None
        } else {
            self.following(is_own_limit)
        };
    }

    fn following(&self, is_own_limit: bool) -> Option<f64> {
        match (self.held, self.failed) {
            (Some(held), Some(failed)) => {
                (failed / held > CLOSE_ENOUGH).then(|| (held * failed).sqrt())
            }
            // More of it would measure the generator.
            (Some(_), None) if is_own_limit => None,
            (Some(held), None) => Some(held * GROWTH),
            (None, Some(failed)) => (failed / GROWTH >= RATE_MIN).then_some(failed / GROWTH),
            (None, None) => None,
        }
    }

    /// The highest rate that held; `None` if none did.
    #[must_use]
    pub fn best(&self) -> Option<f64> {
        self.held
    }

    /// All rates that were tried, in order.
    #[must_use]
    pub fn into_steps(self) -> Vec<RampStep> {
        self.steps
    }

    /// All rates that were tried so far, in order.
    #[must_use]
    pub fn steps(&self) -> &[RampStep] {
        &self.steps
    }
}

const GROWTH: f64 = 2.0;
const CLOSE_ENOUGH: f64 = 1.05;
const KEPT_UP: f64 = 0.95;
/// Under one operation in two seconds nothing can be measured in a step.
const RATE_MIN: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::ErrorKind;

    /// A target that holds any rate up to `capacity`.
    fn run(rate: f64, capacity: f64) -> Summary {
        let mut summary = Summary {
            achieved_rate: rate.min(capacity * 1.2),
            ..Summary::default()
        };
        summary.run.offered_rate = Some(rate);
        summary.corrected.count = 1000;
        summary.corrected.p99_ns = if rate <= capacity {
            1_000_000
        } else {
            50_000_000
        };
        summary
    }

    fn search(start: f64, measure: impl Fn(f64) -> Summary) -> Ramp {
        let mut ramp = Ramp::new("p99>5ms".parse().expect("a threshold"), start);
        while let Some(rate) = ramp.next_rate() {
            ramp.tell(&measure(rate));
        }
        ramp
    }

    #[test]
    fn starts_by_chance_hold_though_fewer_came_due_than_the_rate_says() {
        let of = |operations, due| {
            let mut summary = run(60.0, 100.0);
            summary.achieved_rate = 50.0;
            (summary.operations, summary.due) = (operations, due);
            let mut ramp = Ramp::new("p99>5ms".parse().expect("a threshold"), 60.0);
            ramp.tell(&summary);
            ramp.steps()[0].has_held
        };
        assert!(of(150, 150));
        assert!(!of(150, 180));
    }

    #[test]
    fn the_capacity_is_found_from_below_and_from_above() {
        for capacity in [1.0, 37.0, 999.0, 12_345.0, 1e6] {
            for start in [1.0, 1000.0, 100_000.0] {
                let ramp = search(start, |rate| run(rate, capacity));
                let best = ramp.best().expect("a rate that held");
                assert!(
                    best <= capacity && best * CLOSE_ENOUGH >= capacity * 0.999,
                    "{best} of {capacity}"
                );
                assert!(ramp.steps().len() <= RAMP_STEPS_MAX);
            }
        }
    }

    #[test]
    fn a_search_that_cannot_end_by_itself_is_cut() {
        let endless = search(1.0, |rate| run(rate, f64::INFINITY));
        assert_eq!(endless.steps().len(), RAMP_STEPS_MAX);
        let dead = search(1000.0, |rate| run(rate, 0.0));
        assert_eq!(dead.best(), None);
        assert!(dead.steps().len() < 16);
    }

    #[test]
    fn the_search_ends_where_the_generator_is_the_limit() {
        let ramp = search(1000.0, |rate| {
            let mut summary = run(rate, 1e9);
            summary.generator.cpu_busiest_thread = if rate > 5000.0 { 0.9 } else { 0.1 };
            summary
        });
        assert_eq!(ramp.best(), Some(8000.0));
        assert_eq!(
            ramp.steps().last().map(|step| step.note.as_str()),
            Some("the generator is the limit")
        );
    }

    #[test]
    fn a_rate_that_is_not_achieved_has_not_held() {
        let ramp = search(100.0, |rate| Summary {
            achieved_rate: rate.min(150.0),
            ..run(rate, 1e9)
        });
        let best = ramp.best().expect("a rate");
        assert!((140.0..160.0).contains(&best), "{best}");
    }

    #[test]
    fn bytes_that_are_lost_or_wrong_end_the_search() {
        for (kind, note) in [
            (ErrorKind::Mismatch, "a byte was wrong"),
            (ErrorKind::Reset, "bytes were lost"),
            (ErrorKind::TimedOut, "bytes were lost"),
        ] {
            let ramp = search(100.0, |rate| {
                let mut summary = run(rate, 1e9);
                summary.errors.insert(kind, 1);
                summary
            });
            assert_eq!((ramp.steps().len(), ramp.best()), (1, None));
            assert_eq!(ramp.steps()[0].note, note);
        }
    }

    /// Nothing was begun, so nothing was lost: the rate is too high, and a lower one is tried.
    #[test]
    fn starts_that_were_skipped_do_not_end_the_search() {
        let ramp = search(100.0, |rate| {
            let mut summary = run(rate, 60.0);
            summary.errors.insert(ErrorKind::Skipped, 1);
            summary
        });
        assert!(ramp.best().is_some(), "{:?}", ramp.steps());
    }

    #[test]
    fn the_words_are_read_together_or_apart() {
        let words = |text: &[&str]| {
            text.iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        assert!(Ramp::parse(&words(&["until", "p99>5ms"])).is_ok());
        assert!(Ramp::parse(&words(&["until p99>5ms"])).is_ok());
        assert!(Ramp::parse(&words(&["p99>5ms"])).is_err_and(|error| error.contains("until")));
        assert!(
            Ramp::parse(&words(&["until", "p99"])).is_err_and(|error| error.contains("comparison"))
        );
    }
}
