//! A histogram as figures.

use hdrhistogram::{Counter, Histogram};
use serde::{Deserialize, Serialize};

/// Latencies of many operations, in nanoseconds; three significant digits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// The shortest.
    pub min_ns: u64,
    /// The average.
    pub mean_ns: f64,
    /// Standard deviation.
    pub stdev_ns: f64,
    /// Half are at most this long.
    pub p50_ns: u64,
    /// 90 % are at most this long.
    pub p90_ns: u64,
    /// 99 % are at most this long.
    pub p99_ns: u64,
    /// 99.9 % are at most this long.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The whole spectrum, from the shortest to the longest, in steps that halve what is left.
    pub spectrum: Vec<Step>,
    /// The same as a histogram whose steps grow by a constant factor, from the shortest to the longest.
    pub bins: Vec<Bin>,
}

/// One step of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bin {
    /// Up to here, in nanoseconds, from where the one before it ends.
    pub up_to_ns: u64,
    /// How many operations lie in it.
    pub count: u64,
}

/// One step of a spectrum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Percentile, 0 to 100.
    pub percentile: f64,
    /// So long at most, in nanoseconds.
    pub value_ns: u64,
    /// How many operations are at most that long.
    pub count: u64,
}

impl Latency {
    /// The figures of a histogram in nanoseconds. An empty one gives zeros and no spectrum.
    #[must_use]
    pub fn of<C: Counter>(histogram: &Histogram<C>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        // An upper bound of a bucket may lie over what was recorded last.
        let max = histogram.max();
        let at = |percentile: f64| histogram.value_at_percentile(percentile).min(max);
        Self {
            count: histogram.len(),
            min_ns: histogram.min(),
            mean_ns: histogram.mean(),
            stdev_ns: histogram.stdev(),
            p50_ns: at(50.0),
            p90_ns: at(90.0),
            p99_ns: at(99.0),
            p999_ns: at(99.9),
            max_ns: max,
            spectrum: spectrum(histogram),
            bins: bins(histogram),
        }
    }

    /// The longest that `percentile` (0 to 100) of the operations took, read from the spectrum.
    #[must_use]
    pub fn at(&self, percentile: f64) -> Option<u64> {
        self.spectrum
            .iter()
            .find(|step| step.percentile >= percentile)
            .map(|step| step.value_ns)
    }
}

/// Ten steps for each halving: fine enough to draw, about 200 for a million operations.
fn spectrum<C: Counter>(histogram: &Histogram<C>) -> Vec<Step> {
    let max = histogram.max();
    let step = |value: hdrhistogram::iterators::IterationValue<C>, seen: u64| Step {
        percentile: rounded(value.quantile_iterated_to() * 100.0),
        value_ns: value.value_iterated_to().min(max),
        count: seen,
    };
    let mut seen = 0;
    let steps = histogram.iter_quantiles(SPECTRUM_STEPS).map(|value| {
        seen += value.count_since_last_iteration();
        step(value, seen)
    });
    steps.collect()
}

/// Without the last bits of a sum of fractions, so that the 90th percentile is at 90.
fn rounded(percentile: f64) -> f64 {
    (percentile * 1e9).round() / 1e9
}

/// Latencies span decades: with steps of one width nearly all of them would lie in the first.
fn bins<C: Counter>(histogram: &Histogram<C>) -> Vec<Bin> {
    let (min, max) = (histogram.min().max(1) as f64, histogram.max().max(1));
    let factor = (max as f64 / min).powf(1.0 / BINS as f64);
    let edge = |index: usize| {
        if index + 1 == BINS {
            max
        } else {
            (min * factor.powi(index as i32 + 1)) as u64
        }
    };
    let mut bins: Vec<Bin> = (0..BINS)
        .map(|index| Bin {
            up_to_ns: edge(index),
            count: 0,
        })
        .collect();
    for value in histogram.iter_recorded() {
        let bin = bins
            .iter_mut()
            .find(|bin| value.value_iterated_to() <= bin.up_to_ns);
        // The last bucket's upper bound may lie over the longest that was recorded.
        let bin = match bin {
            Some(bin) => bin,
            None => bins.last_mut().expect("there are bins"),
        };
        bin.count += value.count_at_value().as_u64();
    }
    // Where all are nearly the same, several steps end at the same nanosecond.
    bins.dedup_by(|later, earlier| {
        let is_same = later.up_to_ns == earlier.up_to_ns;
        earlier.count += if is_same { later.count } else { 0 };
        is_same
    });
    bins
}

const SPECTRUM_STEPS: u32 = 10;
const BINS: usize = 12;

#[cfg(test)]
mod tests {
    use super::super::interval::histogram;
    use super::*;

    #[test]
    fn figures_are_those_of_what_was_recorded() {
        let mut recorded = histogram::<u64>();
        for value in 1..=10_000 {
            recorded.saturating_record(value * 1_000);
        }
        let latency = Latency::of(&recorded);
        assert_eq!(latency.count, 10_000);
        let near = |is: u64, should: u64| {
            assert!(is.abs_diff(should) * 500 <= should, "{is} is not {should}")
        };
        near(latency.p50_ns, 5_000_000);
        near(latency.p90_ns, 9_000_000);
        near(latency.p99_ns, 9_900_000);
        near(latency.p999_ns, 9_990_000);
        near(latency.max_ns, 10_000_000);
        assert_eq!(
            latency
                .spectrum
                .last()
                .map(|step| (step.percentile, step.count)),
            Some((100.0, 10_000))
        );
        assert!(
            latency
                .spectrum
                .is_sorted_by_key(|step| (step.value_ns, step.count))
        );
        near(latency.at(99.0).expect("a step"), 9_900_000);
        assert_eq!(
            latency.bins.iter().map(|bin| bin.count).sum::<u64>(),
            10_000
        );
        assert!(latency.bins.is_sorted_by_key(|bin| bin.up_to_ns));
    }

    #[test]
    fn nothing_recorded_is_no_spectrum() {
        assert_eq!(Latency::of(&histogram::<u32>()), Latency::default());
    }
}
