//! `METRIC COMPARISON VALUE UNIT`, spaces as you like.

use std::str::FromStr;

use thiserror::Error;

use super::{Comparison, Threshold};
use crate::report::{Kind, Metric};

/// Why a threshold could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ThresholdError {
    /// Nothing compares.
    #[error(
        "'{0}' has no comparison: write a metric, one of > >= < <=, and a value, such as 'p99>5ms'"
    )]
    NoComparison(String),
    /// The part before the comparison is none of the metrics.
    #[error("'{metric}' is no metric; there are {known}")]
    UnknownMetric {
        /// What was written.
        metric: String,
        /// All that there are.
        known: String,
    },
    /// The part after it does not begin with a number.
    #[error(
        "'{value}' after '{metric}' does not begin with a number up to {NUMBER_MAX:e}; write it as in {example}"
    )]
    NoNumber {
        /// What was written.
        value: String,
        /// The metric.
        metric: String,
        /// How it could look.
        example: String,
    },
    /// The number has the wrong unit, or none.
    #[error("{} for '{metric}', which takes {units}", describe(.unit))]
    WrongUnit {
        /// What was written, perhaps nothing.
        unit: String,
        /// The metric.
        metric: String,
        /// What it takes.
        units: String,
    },
}

/// A larger number than any figure can be, in any unit.
const NUMBER_MAX: f64 = 1e18;

fn describe(unit: &str) -> String {
    if unit.is_empty() {
        "a unit is missing".to_owned()
    } else {
        format!("'{unit}' is the wrong unit")
    }
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let (name, comparison, value) = split(text)?;
        let metric = Metric::parse(name).ok_or_else(|| ThresholdError::UnknownMetric {
            metric: name.to_owned(),
            known: Metric::names().collect::<Vec<_>>().join(", "),
        })?;
        let limit = limit(&metric, value)?;
        Ok(Self {
            metric,
            comparison,
            limit,
            text: text.trim().to_owned(),
        })
    }
}

fn split(text: &str) -> Result<(&str, Comparison, &str), ThresholdError> {
    let absent = || ThresholdError::NoComparison(text.to_owned());
    let place = text.find(['<', '>']).ok_or_else(absent)?;
    let (name, rest) = text.split_at(place);
    let is_above = rest.starts_with('>');
    let (comparison, value) = match (is_above, rest[1..].strip_prefix('=')) {
        (true, Some(value)) => (Comparison::AtLeast, value),
        (true, None) => (Comparison::Above, &rest[1..]),
        (false, Some(value)) => (Comparison::AtMost, value),
        (false, None) => (Comparison::Below, &rest[1..]),
    };
    if name.trim().is_empty() {
        return Err(absent());
    }
    Ok((name.trim(), comparison, value.trim()))
}

fn limit(metric: &Metric, value: &str) -> Result<f64, ThresholdError> {
    let end = value
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(value.len());
    let (digits, unit) = (&value[..end], value[end..].trim());
    let units = units(metric.kind());
    let number = digits.parse::<f64>().ok().filter(|it| *it <= NUMBER_MAX);
    let number = number.ok_or_else(|| ThresholdError::NoNumber {
        value: value.to_owned(),
        metric: metric.name(),
        example: format!("'{}>5{}'", metric.name(), units[0].0),
    })?;
    let known = units.iter().find(|(name, _)| *name == unit);
    let (_, scale) = known.ok_or_else(|| ThresholdError::WrongUnit {
        unit: unit.to_owned(),
        metric: metric.name(),
        units: names(units),
    })?;
    // A division: 95 % has to be the very number that 950 of 1000 is.
    Ok(if unit == "%" {
        number / 100.0
    } else {
        number * scale
    })
}

fn names(units: &[(&str, f64)]) -> String {
    let quoted = |(name, _): &(&str, f64)| {
        if name.is_empty() {
            "a number without a unit".to_owned()
        } else {
            (*name).to_owned()
        }
    };
    units.iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// What may follow a number of this kind, and what it is worth.
fn units(kind: Kind) -> &'static [(&'static str, f64)] {
    match kind {
        Kind::Time => &[
            ("ms", 1e6),
            ("us", 1e3),
            ("µs", 1e3),
            ("ns", 1.0),
            ("s", 1e9),
        ],
        Kind::PerSecond => &[
            ("/s", 1.0),
            ("k/s", 1e3),
            ("M/s", 1e6),
            ("", 1.0),
            ("k", 1e3),
        ],
        Kind::Count | Kind::Number => &[("", 1.0)],
        Kind::Share => &[("%", 0.01)],
        Kind::BitsPerSecond => &[
            ("Mbit/s", 1e6),
            ("Gbit/s", 1e9),
            ("kbit/s", 1e3),
            ("bit/s", 1.0),
            ("B/s", 8.0),
            ("KiB/s", 8.0 * 1024.0),
            ("MiB/s", 8.0 * 1_048_576.0),
            ("GiB/s", 8.0 * 1_073_741_824.0),
        ],
        Kind::Bytes => &[
            ("MiB", 1_048_576.0),
            ("KiB", 1024.0),
            ("GiB", 1_073_741_824.0),
            ("B", 1.0),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_the_unit_of_their_kind() {
        for (text, limit) in [
            ("p99>5ms", 5e6),
            ("p99.9 >= 1.5 s", 1.5e9),
            ("uncorrected.p50<250us", 250e3),
            ("max>250µs", 250e3),
            ("rate<10k", 10_000.0),
            ("rate<2.5k/s", 2_500.0),
            ("errors>0", 0.0),
            ("error-rate>0.1%", 0.001),
            ("throughput<1Gbit/s", 1e9),
            ("up<10MiB/s", 83_886_080.0),
            ("memory>64MiB", 67_108_864.0),
            ("jain<0.9", 0.9),
            ("figure.idle_relay_bytes>1KiB", 1024.0),
            ("lag>1ms", 1e6),
        ] {
            let threshold: Threshold = text.parse().expect(text);
            assert!(
                (threshold.limit - limit).abs() <= limit * 1e-12,
                "{text}: {}",
                threshold.limit
            );
        }
    }

    #[test]
    fn an_error_names_the_bad_part() {
        for (text, part) in [
            ("", "'' has no comparison"),
            ("p99", "'p99' has no comparison"),
            (">5ms", "'>5ms' has no comparison"),
            ("p99=5ms", "'p99=5ms' has no comparison"),
            ("p9x>5ms", "'p9x' is no metric; there are pNN, mean"),
            ("latency>5ms", "'latency' is no metric"),
            (
                "p99>",
                "'' after 'p99' does not begin with a number up to 1e18; write it as in 'p99>5ms'",
            ),
            ("p99>fast", "'fast' after 'p99'"),
            ("p99>1000000000000000001000ms", "a number up to 1e18"),
            ("p99>1.2.3ms", "'1.2.3ms' after 'p99'"),
            ("p99>-5ms", "'-5ms' after 'p99'"),
            ("p99>5", "a unit is missing for 'p99', which takes ms, us"),
            ("p99>5parsec", "'parsec' is the wrong unit for 'p99'"),
            ("p99>5ms>4ms", "'ms>4ms' is the wrong unit"),
            ("p99=>5ms", "'p99=' is no metric"),
            (
                "errors>5%",
                "'%' is the wrong unit for 'errors', which takes a number without a unit",
            ),
            (
                "error-rate>5",
                "a unit is missing for 'error-rate', which takes %",
            ),
            ("throughput<1Gb", "'Gb' is the wrong unit"),
        ] {
            let error = text.parse::<Threshold>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
