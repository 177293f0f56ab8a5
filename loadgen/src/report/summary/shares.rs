//! How the bytes were shared among streams.

use serde::{Deserialize, Serialize};

/// Streams whose shares are told one by one; the index is over all of them.
pub const STREAMS_MAX: usize = 1024;

/// Bytes of each stream, and how even they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// Streams in all.
    pub count: u64,
    /// Jain's fairness index of the bytes, both directions together: 1 is even, 1/count is all for one.
    pub jain: f64,
    /// Bytes of all streams.
    pub total_bytes: u64,
    /// Bytes of the stream that moved least.
    pub min_bytes: u64,
    /// Bytes of the stream that moved most.
    pub max_bytes: u64,
    /// Each stream by its number; the first [`STREAMS_MAX`].
    pub streams: Vec<Share>,
}

/// One stream's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Its number in the run.
    pub stream: u32,
    /// Sent towards the target.
    pub bytes_up: u64,
    /// Received from it.
    pub bytes_down: u64,
}

impl Share {
    fn bytes(self) -> u64 {
        self.bytes_up + self.bytes_down
    }
}

impl Shares {
    /// Judges all streams of a run, in the order of their numbers; `None` when there are none.
    #[must_use]
    pub fn of(mut streams: Vec<Share>) -> Option<Self> {
        let bytes = || streams.iter().map(|share| share.bytes());
        let shares = Self {
            count: streams.len() as u64,
            jain: jain(bytes().map(|bytes| bytes as f64)),
            total_bytes: bytes().sum(),
            min_bytes: bytes().min()?,
            max_bytes: bytes().max()?,
            streams: Vec::new(),
        };
        streams.truncate(STREAMS_MAX);
        Some(Self { streams, ..shares })
    }
}

/// Jain, Chiu, Hawe 1984: (Σx)² / (n Σx²). Where nothing moved all have the same: 1.
fn jain(values: impl Iterator<Item = f64>) -> f64 {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        sum += value;
        squares += value * value;
    }
    if squares == 0.0 {
        1.0
    } else {
        sum * sum / (count * squares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(bytes: &[u64]) -> Shares {
        let share = |(stream, up): (usize, &u64)| Share {
            stream: stream as u32,
            bytes_up: *up,
            bytes_down: 0,
        };
        Shares::of(bytes.iter().enumerate().map(share).collect()).expect("streams")
    }

    #[test]
    fn even_is_one_and_all_for_one_is_one_in_n() {
        assert!((shares(&[5; 50]).jain - 1.0).abs() < 1e-12);
        assert!((shares(&[100, 0, 0, 0]).jain - 0.25).abs() < 1e-12);
        assert!((shares(&[1, 2, 3]).jain - 36.0 / 42.0).abs() < 1e-12);
        assert!((shares(&[0, 0]).jain - 1.0).abs() < 1e-12);
        assert_eq!(Shares::of(Vec::new()), None);
    }

    #[test]
    fn of_very_many_streams_the_index_knows_all() {
        let mut bytes = vec![10; STREAMS_MAX];
        bytes.extend(vec![0; STREAMS_MAX]);
        let shares = shares(&bytes);
        assert!((shares.jain - 0.5).abs() < 1e-12);
        assert_eq!(
            (shares.count, shares.streams.len()),
            (2 * STREAMS_MAX as u64, STREAMS_MAX)
        );
    }
}
