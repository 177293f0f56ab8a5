//! Chance that a seed repeats.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Draws of one stream: the same seed and stream give the same draws, on any machine.
#[derive(Clone, Debug)]
pub struct Dice {
    key: u64,
    drawn: u64,
}

impl Dice {
    /// The draws of `stream` in a run of `seed`.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        Self {
            key: xxh3_64_with_seed(&stream.to_be_bytes(), seed),
            drawn: 0,
        }
    }

    /// At least `low`, under `high`. The bias is under `(high - low) / 2^64`.
    ///
    /// # Panics
    /// There is nothing between them.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        assert!(low < high);
        low + (self.draw() % (high - low) as u64) as usize
    }

    /// True once in `count` draws.
    pub fn one_in(&mut self, count: usize) -> bool {
        self.between(0, count) == 0
    }

    /// Gaps of a Poisson process with this mean, cut at ten times it.
    pub fn gap(&mut self, mean: Duration) -> Duration {
        // 53 bits, above 0 and at most 1.
        let share = ((self.draw() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        mean.mul_f64((-share.ln()).min(10.0))
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        xxh3_64_with_seed(&self.drawn.to_be_bytes(), self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_draws_and_streams_differ() {
        let draws = |seed, stream| {
            let mut dice = Dice::new(seed, stream);
            [(); 8].map(|()| dice.between(0, 1000))
        };
        assert_eq!(draws(1, 2), draws(1, 2));
        assert_ne!(draws(1, 2), draws(1, 3));
        assert_ne!(draws(1, 2), draws(2, 2));
    }

    #[test]
    fn gaps_have_their_mean() {
        let mut dice = Dice::new(1, 1);
        let mean = Duration::from_millis(100);
        let all: Duration = (0..10_000).map(|_| dice.gap(mean)).sum();
        let factor = all.as_secs_f64() / (10_000.0 * mean.as_secs_f64());
        assert!((0.95..1.05).contains(&factor), "{factor}");
    }
}
