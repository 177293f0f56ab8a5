//! Whether differences are more than chance: shuffled labels, and a bootstrap for the eye.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

/// Runs that each side needs before anything can be called. With four and four there are 70 ways to
/// label them, so the least p is 2/70 = 0.029; with three and three it would be 0.1.
pub const RUNS_MIN: usize = 4;

/// Shuffles of the labels. Up to here, every way there is: 10 and 10 runs have 184,756, 8 and 8
/// have 12,870.
pub const SHUFFLES_MAX: usize = 20_000;

/// A difference with this p and less is called.
pub(super) const SIGNIFICANCE: f64 = 0.05;

/// Values of one figure: of each run of the one side, and of the other.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) base: Vec<f64>,
    pub(super) other: Vec<f64>,
}

impl Sample {
    /// Logarithms where all values are positive, so that a ratio is a difference.
    fn transformed(&self) -> Vec<f64> {
        let all: Vec<f64> = self.base.iter().chain(&self.other).copied().collect();
        if all.iter().all(|value| *value > 0.0) {
            all.iter().map(|value| value.ln()).collect()
        } else {
            all
        }
    }
}

/// The p of each figure, over all of them: see the module above. All samples have the same number of
/// runs on each side. Fewer than [`RUNS_MIN`] give no p.
pub(super) fn p_values(samples: &[Sample]) -> Option<Vec<f64>> {
    let (base, other) = samples
        .first()
        .map(|sample| (sample.base.len(), sample.other.len()))?;
    if base.min(other) < RUNS_MIN {
        return None;
    }
    let values: Vec<Vec<f64>> = samples.iter().map(Sample::transformed).collect();
    let truth: Vec<bool> = (0..base + other).map(|index| index < base).collect();
    let observed: Vec<f64> = values.iter().map(|values| welch(values, &truth)).collect();
    let mut exceeded = vec![0_u64; observed.len()];
    let mut shuffles = 0_u64;
    each_labelling(base, other, |labels| {
        let most = values
            .iter()
            .map(|values| welch(values, labels))
            .fold(0.0, f64::max);
        for (count, observed) in exceeded.iter_mut().zip(&observed) {
            // The same sum in another order may differ in its last bits.
            *count += u64::from(most >= observed * (1.0 - 1e-9));
        }
        shuffles += 1;
    });
    Some(
        exceeded
            .into_iter()
            .map(|count| count as f64 / shuffles as f64)
            .collect(),
    )
}

/// The size of Welch's t between the values with the label and those without.
fn welch(values: &[f64], labels: &[bool]) -> f64 {
    let moments = |is_base: bool| {
        let mine = || {
            values
                .iter()
                .zip(labels)
                .filter(|(_, label)| **label == is_base)
                .map(|(value, _)| *value)
        };
        let count = mine().count() as f64;
        let mean = mine().sum::<f64>() / count;
        let variance = mine().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((mean, error), (other_mean, other_error)) = (moments(true), moments(false));
    let difference = (mean - other_mean).abs();
    // Two sides without any spread are either the same or as different as can be.
    match (error + other_error).sqrt() {
        0.0 if difference == 0.0 => 0.0,
        0.0 => f64::MAX,
        spread => difference / spread,
    }
}

/// Calls `see` with every way to label the runs, or with the true one and as many drawn ones as allowed.
fn each_labelling(base: usize, other: usize, mut see: impl FnMut(&[bool])) {
    let all = base + other;
    if ways(all, base) <= SHUFFLES_MAX as f64 {
        let mut labels = vec![false; all];
        every_choice(&mut labels, 0, base, &mut see);
        return;
    }
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut labels: Vec<bool> = (0..all).map(|index| index < base).collect();
    see(&labels);
    for _ in 1..SHUFFLES_MAX {
        for index in (1..all).rev() {
            labels.swap(index, below(&mut random, index + 1));
        }
        see(&labels);
    }
}

fn every_choice(labels: &mut [bool], from: usize, left: usize, see: &mut impl FnMut(&[bool])) {
    if left == 0 {
        see(labels);
        return;
    }
    for index in from..=labels.len() - left {
        labels[index] = true;
        every_choice(labels, index + 1, left - 1, see);
        labels[index] = false;
    }
}

/// How many ways there are to choose `few` of `all`.
fn ways(all: usize, few: usize) -> f64 {
    (0..few)
        .map(|index| (all - index) as f64 / (index + 1) as f64)
        .product()
}

/// A number under `end`; the bias of so small ends is under 1 in 2^50.
fn below(random: &mut ChaCha8Rng, end: usize) -> usize {
    (random.next_u64() % end as u64) as usize
}

/// Whether medians, which the reader sees, and means of logarithms, which are tested, differ in the same direction. Of a
/// few skewed runs they need not, and then a verdict would contradict the change beside it.
pub(super) fn is_consistent(sample: &Sample) -> bool {
    let values = sample.transformed();
    let (base, other) = values.split_at(sample.base.len());
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let medians = median(&mut other.to_vec()) - median(&mut base.to_vec());
    let means = mean(other) - mean(base);
    medians * means > 0.0
}

/// The 95 % interval of the ratio of medians, other to base, less one; of two runs and more each.
pub(super) fn interval(sample: &Sample) -> Option<(f64, f64)> {
    if sample.base.len().min(sample.other.len()) < 2 {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut draw = |values: &[f64]| -> f64 {
        let mut drawn: Vec<f64> = values
            .iter()
            .map(|_| values[below(&mut random, values.len())])
            .collect();
        median(&mut drawn)
    };
    let mut ratios: Vec<f64> = (0..RESAMPLES)
        .map(|_| draw(&sample.other) / draw(&sample.base) - 1.0)
        .collect();
    if ratios.iter().any(|ratio| !ratio.is_finite()) {
        return None;
    }
    ratios.sort_by(f64::total_cmp);
    let at = |share: f64| ratios[((RESAMPLES - 1) as f64 * share) as usize];
    Some((at(0.025), at(0.975)))
}

/// The middle value, or the mean of the two. Zero of none.
pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// The same figures give the same verdict.
const SEED: u64 = 0x6164_6974;
const RESAMPLES: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_labelling_is_seen_once() {
        let mut seen = std::collections::HashSet::new();
        each_labelling(4, 5, |labels| assert!(seen.insert(labels.to_vec())));
        assert_eq!(seen.len(), 126);
        assert!((ways(9, 4) - 126.0).abs() < 1e-9);
        let mut drawn = 0;
        each_labelling(20, 20, |labels| {
            assert_eq!(labels.iter().filter(|label| **label).count(), 20);
            drawn += 1;
        });
        assert_eq!(drawn, SHUFFLES_MAX);
    }

    #[test]
    fn the_least_p_is_what_the_number_of_runs_allows() {
        let apart = |count: usize| Sample {
            base: (0..count).map(|index| 100.0 + index as f64).collect(),
            other: (0..count).map(|index| 900.0 + index as f64).collect(),
        };
        assert_eq!(p_values(&[apart(3)]), None);
        let p = p_values(&[apart(4)]).expect("enough runs")[0];
        assert!((p - 2.0 / 70.0).abs() < 1e-9, "{p}");
        let p = p_values(&[apart(5)]).expect("enough runs")[0];
        assert!((p - 2.0 / 252.0).abs() < 1e-9, "{p}");
    }

    #[test]
    fn figures_that_never_change_differ_from_nothing() {
        let same = Sample {
            base: vec![0.0; 5],
            other: vec![0.0; 5],
        };
        assert_eq!(p_values(std::slice::from_ref(&same)), Some(vec![1.0]));
        assert_eq!(interval(&same), None);
        let fixed = Sample {
            base: vec![2.0; 5],
            other: vec![3.0; 5],
        };
        assert!(p_values(std::slice::from_ref(&fixed)).expect("enough runs")[0] < 0.05);
        assert!(
            interval(&fixed)
                .is_some_and(|(low, high)| (low - 0.5).abs() < 1e-9 && (high - 0.5).abs() < 1e-9)
        );
    }

    #[test]
    fn medians_and_means_may_disagree() {
        let sample = |base: [f64; 5], other: [f64; 5]| Sample {
            base: base.into(),
            other: other.into(),
        };
        let base = [10.0, 10.0, 10.0, 10.0, 10.0];
        assert!(is_consistent(&sample(base, [12.0; 5])));
        assert!(is_consistent(&sample(base, [9.0, 9.0, 9.0, 9.0, 8.0])));
        // Most are a little faster, and two are much slower.
        assert!(!is_consistent(&sample(base, [9.0, 9.0, 9.0, 90.0, 90.0])));
        assert!(!is_consistent(&sample(base, base)));
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
