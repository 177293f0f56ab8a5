//! Which bytes belong to a track.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::message::{HEADER_SIZE, NUMBERS_SIZE};
use super::pool::{Place, SEGMENT_SIZE};

/// Which way a track goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the generator to the server.
    Up,
    /// From the server to the generator.
    Down,
}

/// The stream of a complaint whose author never learnt which stream it is, since the greeting itself was wrong. No
/// connection has this number.
pub(super) const UNKNOWN_STREAM: u64 = u64::MAX;

/// What fixes the bytes of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Track {
    /// The seed of the run.
    pub seed: u64,
    /// The stream's id, another for each connection of a run.
    pub stream: u64,
    /// Which way it goes.
    pub direction: Direction,
}

impl Track {
    /// What the places of all bodies follow from.
    pub(super) fn key(&self) -> u64 {
        let mut bytes = [0; 17];
        bytes[..8].copy_from_slice(&self.seed.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.stream.to_be_bytes());
        bytes[16] = self.direction as u8;
        xxh3_64_with_seed(&bytes, 2)
    }
}

/// The place of one segment of one body.
pub(super) fn place(key: u64, sequence: u64, segment: u32) -> Place {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&sequence.to_be_bytes());
    bytes[8..].copy_from_slice(&segment.to_be_bytes());
    Place::of(xxh3_64_with_seed(&bytes, key))
}

/// The hash of everything before in a track.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running(u64);

impl Running {
    /// The reader of a greeting knows neither seed nor stream yet.
    pub(super) fn new(direction: Direction) -> Self {
        Self(xxh3_64_with_seed(&[direction as u8], 3))
    }

    pub(super) fn add(&mut self, header: &[u8; HEADER_SIZE], body: BodyDigest) {
        let mut bytes = [0; HEADER_SIZE + 8];
        bytes[..HEADER_SIZE].copy_from_slice(header);
        bytes[HEADER_SIZE..].copy_from_slice(&body.0.to_be_bytes());
        self.0 = xxh3_64_with_seed(&bytes, self.0);
    }

    pub(super) fn value(self) -> u64 {
        self.0
    }
}

/// The digest of a body, of its segments' digests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BodyDigest(u64);

impl BodyDigest {
    /// Of two numbers.
    pub(super) fn of_numbers(bytes: &[u8; NUMBERS_SIZE]) -> Self {
        Self(xxh3_64_with_seed(bytes, 4))
    }

    /// Adds the next segment's first `size` bytes; all but the last are whole.
    pub(super) fn add(&mut self, place: Place, size: usize) {
        debug_assert!(size <= SEGMENT_SIZE);
        self.0 = xxh3_64_with_seed(&place.digest(size).to_be_bytes(), self.0);
    }
}
