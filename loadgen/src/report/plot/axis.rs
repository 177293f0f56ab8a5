//! From values to places, and where the marks are.

/// One axis: values between `min` and `max` lie between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Axis {
    Linear {
        min: f64,
        max: f64,
    },
    /// By the logarithm; what is under `min` lies on it.
    Logarithmic {
        min: f64,
        max: f64,
    },
}

impl Axis {
    /// From zero to a round value at or over all of `values`.
    pub(super) fn from_zero(values: impl Iterator<Item = f64>) -> Self {
        let max = values.fold(0.0, f64::max);
        let max = if max > 0.0 { max * 1.05 } else { 1.0 };
        let step = round_up(max / 4.0);
        Self::Linear {
            min: 0.0,
            max: (max / step).ceil() * step,
        }
    }

    /// From the round value under all of `values` (1, 2 or 5 of a decade) to the one over them.
    pub(super) fn logarithmic(values: impl Iterator<Item = f64>) -> Self {
        let (mut min, mut max) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| *value > 0.0) {
            (min, max) = (min.min(value), max.max(value));
        }
        if max == 0.0 {
            return Self::Logarithmic {
                min: 1.0,
                max: 10.0,
            };
        }
        let (min, top) = (round_down(min), round_up(max));
        Self::Logarithmic {
            min,
            max: if top > min { top } else { min * 10.0 },
        }
    }

    pub(super) fn place(self, value: f64) -> f32 {
        let share = match self {
            Self::Linear { min, max } => (value - min) / (max - min),
            Self::Logarithmic { min, max } => (value.max(min) / min).ln() / (max / min).ln(),
        };
        share.clamp(0.0, 1.0) as f32
    }

    /// Values worth a mark: at most a dozen.
    pub(super) fn marks(self) -> Vec<f64> {
        match self {
            Self::Linear { min, max } => {
                let step = round_up((max - min) / 5.0);
                let count = ((max - min) / step + 1e-9).floor() as usize;
                (0..=count).map(|index| min + step * index as f64).collect()
            }
            Self::Logarithmic { min, max } => {
                let all = decades(min, max, &[1.0, 2.0, 5.0]);
                if all.len() <= MARKS_MAX {
                    all
                } else {
                    decades(min, max, &[1.0])
                }
            }
        }
    }
}

fn decades(min: f64, max: f64, steps: &[f64]) -> Vec<f64> {
    let (first, last) = (min.log10().floor() as i32, max.log10().ceil() as i32);
    let all =
        (first..=last).flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
    all.filter(|value| *value >= min * (1.0 - 1e-9) && *value <= max * (1.0 + 1e-9))
        .collect()
}

/// The least of 1, 2, 5 times a power of ten that is not under `value`.
fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|step| step * decade >= value * (1.0 - 1e-9));
    step.unwrap_or(10.0) * decade
}

/// The greatest of 1, 2, 5 times a power of ten that is not over `value`.
fn round_down(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let step = [5.0, 2.0, 1.0]
        .into_iter()
        .find(|step| step * decade <= value * (1.0 + 1e-9));
    step.unwrap_or(1.0) * decade
}

const MARKS_MAX: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_few() {
        let axis = Axis::from_zero([950.0, 1003.0].into_iter());
        assert_eq!(
            axis,
            Axis::Linear {
                min: 0.0,
                max: 1500.0
            }
        );
        assert_eq!(axis.marks(), [0.0, 500.0, 1000.0, 1500.0]);
        let axis = Axis::logarithmic([22_000.0, 501e6].into_iter());
        assert_eq!(
            axis,
            Axis::Logarithmic {
                min: 20_000.0,
                max: 1e9
            }
        );
        assert_eq!(axis.marks(), [1e5, 1e6, 1e7, 1e8, 1e9]);
        assert_eq!(
            Axis::logarithmic([3.0, 30.0].into_iter()).marks(),
            [2.0, 5.0, 10.0, 20.0, 50.0]
        );
    }

    #[test]
    fn there_is_an_axis_for_anything() {
        for axis in [
            Axis::from_zero([].into_iter()),
            Axis::from_zero([0.0].into_iter()),
            Axis::logarithmic([0.0].into_iter()),
            Axis::logarithmic([5.0].into_iter()),
            Axis::logarithmic([1.0].into_iter()),
        ] {
            assert!(
                (0.0..=1.0).contains(&axis.place(0.0)) && (0.0..=1.0).contains(&axis.place(1e12)),
                "{axis:?}"
            );
            assert!(!axis.marks().is_empty(), "{axis:?}");
        }
    }
}
