//! What one worker saw in one second.

use hdrhistogram::Histogram;

use super::error_kind::ErrorCounts;

/// Latencies are nanoseconds with three significant digits, up to this: an hour. Longer ones
/// are counted as an hour.
pub const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

/// Memory of one histogram of an interval, in bytes: 33 × 1,024 counters of four bytes.
/// An interval has three.
pub const INTERVAL_HISTOGRAM_SIZE: usize = 33 * 1024 * 4;

/// An empty histogram with the bounds that every part of a report shares.
pub(crate) fn histogram<C: hdrhistogram::Counter>() -> Histogram<C> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3)
        .expect("1 <= 1, max >= 2, and 3 digits are allowed")
}

/// What one worker saw between two hand-overs, normally one second.
///
/// When the reporter falls behind, an interval simply grows longer: nothing is lost, and no
/// worker waits.
#[derive(Clone, Debug)]
pub struct Interval {
    /// The worker whose it is, from 0.
    pub worker: usize,
    /// The second of the run it began in, from 0.
    pub second: u32,
    /// Latencies from the intended start, in nanoseconds.
    pub corrected: Histogram<u32>,
    /// Latencies from the actual start, in nanoseconds.
    pub uncorrected: Histogram<u32>,
    /// How late the worker woke for its timers, in nanoseconds.
    pub lag: Histogram<u32>,
    /// Intended starts that came due.
    pub due: u64,
    /// Operations that ended well.
    pub operations: u64,
    /// Payload bytes sent towards the target.
    pub bytes_up: u64,
    /// Payload bytes received from it.
    pub bytes_down: u64,
    /// Operations that did not end well.
    pub errors: ErrorCounts,
    /// Connections that failed outside of any operation.
    pub connection_errors: ErrorCounts,
    /// Connections of this worker open at its end.
    pub open: u64,
    /// The most of them within it.
    pub open_max: u64,
    /// Bytes of each stream that moved, for shares and fairness.
    pub streams: Vec<StreamBytes>,
}

/// Bytes of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamBytes {
    /// The stream's number in the whole run.
    pub stream: u32,
    /// Sent towards the target.
    pub up: u64,
    /// Received from it.
    pub down: u64,
}

impl Interval {
    pub(crate) fn new(worker: usize, second: u32) -> Self {
        Self {
            worker,
            second,
            corrected: histogram(),
            uncorrected: histogram(),
            lag: histogram(),
            due: 0,
            operations: 0,
            bytes_up: 0,
            bytes_down: 0,
            errors: ErrorCounts::default(),
            connection_errors: ErrorCounts::default(),
            open: 0,
            open_max: 0,
            streams: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_has_the_size_that_is_written_down() {
        assert_eq!(
            histogram::<u32>().distinct_values() * 4,
            INTERVAL_HISTOGRAM_SIZE
        );
    }

    #[test]
    fn an_hour_and_more_is_counted_as_an_hour() {
        let mut histogram = histogram::<u32>();
        histogram.saturating_record(LATENCY_MAX_NS * 3);
        assert!(histogram.max() >= LATENCY_MAX_NS, "{}", histogram.max());
    }
}
