//! Changes to inputs, from a seed: what a fuzzer does without knowing what its target did.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Makes new inputs from old ones, the same ones again for the same seed.
pub struct Mutator {
    random: ChaCha12Rng,
}

impl Mutator {
    /// Starts at this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            random: ChaCha12Rng::seed_from_u64(seed),
        }
    }

    /// One of `corpus` with up to eight changes, at most [`SIZE_MAX`] bytes; from nothing, a few bytes.
    pub fn next(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = match corpus.is_empty() {
            true => vec![0; self.below(64)],
            false => corpus[self.below(corpus.len())].clone(),
        };
        for _ in 0..1 + self.below(8) {
            self.change(&mut bytes, corpus);
        }
        bytes.truncate(SIZE_MAX);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let size = bytes.len();
        let at = self.below(size + 1);
        match self.below(8) {
            0 if at < size => bytes[at] ^= 1 << self.below(8),
            1 if at < size => bytes[at] = TELLING[self.below(TELLING.len())],
            2 if at < size => bytes[at] = self.random.next_u32() as u8,
            3 => bytes.insert(at, TELLING[self.below(TELLING.len())]),
            4 => {
                let end = (at + 1 + self.below(16)).min(size);
                bytes.drain(at.min(end)..end);
            }
            5 => bytes.truncate(at),
            6 => {
                let end = (at + self.below(64)).min(size);
                let copy = bytes[at..end].to_vec();
                let to = self.below(size + 1);
                bytes.splice(to..to, copy);
            }
            _ if !corpus.is_empty() => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => bytes.push(self.random.next_u32() as u8),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.next_u64() as usize % bound.max(1)
    }
}

/// Largest input that is made, in bytes.
pub const SIZE_MAX: usize = 16 * 1024;

/// Bytes that many formats give a meaning.
const TELLING: [u8; 32] = [
    0x00, 0x01, 0x02, 0x08, 0x09, 0x0a, 0x0d, 0x10, 0x12, 0x18, 0x20, 0x22, 0x2a, 0x2c, 0x2f, 0x32,
    0x38, 0x3a, 0x3d, 0x5b, 0x5c, 0x5d, 0x7b, 0x7d, 0x7e, 0x7f, 0x80, 0x82, 0x88, 0x89, 0xfe, 0xff,
];
