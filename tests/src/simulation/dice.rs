//! Every choice of a run, from its seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::time::Duration;

/// The same seed gives the same choices, on every machine.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// The choices that follow from `seed`. `stream` tells apart those of one run that must not
    /// change each other.
    #[must_use]
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        dice.set_stream(stream);
        Self(dice)
    }

    /// A number below `count`; 0 if there is none.
    pub(super) fn below(&mut self, count: usize) -> usize {
        (self.0.next_u64() % count.max(1) as u64) as usize
    }

    /// True so many times in a thousand.
    pub(super) fn chance(&mut self, per_mille: u32) -> bool {
        self.0.next_u32() % 1000 < per_mille
    }

    /// One of them.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// 1 to `max`, each order of magnitude about as often.
    pub(super) fn size(&mut self, max: usize) -> usize {
        let bits = usize::BITS - max.max(1).leading_zeros();
        let scale = 1_usize << (1 + self.below(bits as usize));
        1 + self.below(scale.min(max.max(1)))
    }

    /// A duration below `max`.
    pub(super) fn pause(&mut self, max: Duration) -> Duration {
        Duration::from_micros(self.below(max.as_micros() as usize + 1) as u64)
    }

    /// Random bytes.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}
