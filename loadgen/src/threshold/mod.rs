//! When a run has failed (`--fail-if`), and the highest rate at which it does not (`--ramp until`).

mod grammar;
mod ramp;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use grammar::ThresholdError;
pub use ramp::{RAMP_STEPS_MAX, Ramp, RampStep};

use crate::report::{Metric, Summary};

/// A condition under which a run has failed, such as `p99>5ms`.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    metric: Metric,
    comparison: Comparison,
    /// In the unit of the metric's kind.
    limit: f64,
    /// As it was typed.
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// What came of a threshold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The condition, as it was typed.
    pub threshold: String,
    /// The metric's value, in nanoseconds, bits a second, bytes, a share of one, or plain; none where the
    /// run did not measure it.
    pub value: Option<f64>,
    /// The same for people.
    pub shown: String,
    /// Whether the run has failed by it. What was not measured cannot have held, so it fails too:
    /// a target that answers nothing has no p99.
    pub is_crossed: bool,
}

impl Threshold {
    /// Judges a run.
    #[must_use]
    pub fn judge(&self, summary: &Summary) -> Outcome {
        let value = self.metric.read(summary);
        Outcome {
            threshold: self.text.clone(),
            value,
            shown: value.map_or_else(
                || "not measured".to_owned(),
                |value| self.metric.kind().show(value),
            ),
            is_crossed: value.is_none_or(|value| self.comparison.holds(value, self.limit)),
        }
    }
}

impl Comparison {
    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Above => value > limit,
            Self::AtLeast => value >= limit,
            Self::Below => value < limit,
            Self::AtMost => value <= limit,
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crossed(text: &str, summary: &Summary) -> bool {
        text.parse::<Threshold>()
            .expect(text)
            .judge(summary)
            .is_crossed
    }

    #[test]
    fn a_run_is_judged_by_its_figures() {
        let mut summary = Summary {
            achieved_rate: 950.0,
            ..Summary::default()
        };
        summary.run.offered_rate = Some(1000.0);
        summary.corrected.count = 10;
        summary.corrected.p99_ns = 5_000_000;
        assert!(!crossed("p99>5ms", &summary));
        assert!(crossed("p99>=5ms", &summary));
        assert!(crossed("p99>4999us", &summary));
        assert!(crossed("rate<1k/s", &summary));
        assert!(!crossed("rate-share < 95%", &summary));
        assert!(crossed("rate-share<=95%", &summary));
        assert!(!crossed("errors>0", &summary));
    }

    #[test]
    fn what_was_not_measured_has_not_held() {
        let outcome = "p99>5ms"
            .parse::<Threshold>()
            .expect("a threshold")
            .judge(&Summary::default());
        assert!(outcome.is_crossed);
        assert_eq!(
            (outcome.value, outcome.shown.as_str()),
            (None, "not measured")
        );
    }
}
