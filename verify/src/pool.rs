//! The bytes that all bodies are cut from.

use std::sync::LazyLock;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// A body is cut from the pool anew every so many bytes.
pub(super) const SEGMENT_SIZE: usize = 16 * 1024;

/// Places where a segment may begin, [`STRIDE`] bytes apart. Both are prime, so that no power of two, the
/// usual size of a buffer that is lost or swapped, leads from one place to another.
const STARTS: usize = 1021;
const STRIDE: usize = 257;

/// 279 kB: it stays in the second-level cache beside a socket's buffers.
pub(super) struct Pool {
    bytes: Box<[u8]>,
    /// Of the whole segment at each place.
    digests: Box<[u64]>,
}

/// The same for every seed: which places it is cut from follows from the seed.
pub(super) static POOL: LazyLock<Pool> = LazyLock::new(|| {
    let size = (STARTS - 1) * STRIDE + SEGMENT_SIZE;
    let words =
        (0..size.div_ceil(8) as u64).map(|index| xxh3_64_with_seed(&index.to_be_bytes(), 1));
    let mut bytes: Vec<u8> = words.flat_map(u64::to_be_bytes).collect();
    bytes.truncate(size);
    let digests = (0..STARTS)
        .map(|start| xxh3_64(&bytes[start * STRIDE..][..SEGMENT_SIZE]))
        .collect();
    Pool {
        bytes: bytes.into(),
        digests,
    }
});

/// A place of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

impl Place {
    /// Any number leads to a place; different numbers to any two places alike.
    pub(super) fn of(number: u64) -> Self {
        Self((number % STARTS as u64) as usize)
    }

    /// The segment that begins here, [`SEGMENT_SIZE`] bytes.
    pub(super) fn segment(self) -> &'static [u8] {
        &POOL.bytes[self.0 * STRIDE..][..SEGMENT_SIZE]
    }

    /// The digest of the segment's first `size` bytes.
    pub(super) fn digest(self, size: usize) -> u64 {
        if size == SEGMENT_SIZE {
            POOL.digests[self.0]
        } else {
            xxh3_64(&self.segment()[..size])
        }
    }
}
