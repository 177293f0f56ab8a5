//! Intervals of all workers put together: seconds, and the whole.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::{
    error_kind::{ErrorCounts, ErrorKind},
    interval::{Interval, histogram},
    own_cpu::Cpu,
    summary::{SECONDS_MAX, Second, Share},
};

/// Everything a run has counted so far.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Latencies from the intended start, nanoseconds, over the whole run.
    pub(crate) corrected: Histogram<u64>,
    /// Latencies from the actual start.
    pub(crate) uncorrected: Histogram<u64>,
    /// Scheduling lag.
    pub(crate) lag: Histogram<u64>,
    /// Intended starts that came due.
    pub(crate) due: u64,
    /// Operations that ended well.
    pub(crate) operations: u64,
    /// Bytes towards the target.
    pub(crate) bytes_up: u64,
    /// Bytes from it.
    pub(crate) bytes_down: u64,
    /// Operations that went wrong.
    pub(crate) errors: ErrorCounts,
    /// Connections that did, outside of any operation.
    pub(crate) connection_errors: ErrorCounts,
    /// The seconds that are over, at most [`SECONDS_MAX`].
    pub(crate) series: Vec<Second>,
    streams: BTreeMap<u32, Share>,
    /// Connections of each worker, as it said last, and the most it had.
    open: Vec<u64>,
    peaks: Vec<u64>,
    /// Seconds that are not over yet: the next one to close and, for a moment, the one after it.
    pending: BTreeMap<u32, Interval>,
    next_second: u32,
}

impl Tally {
    /// Nothing yet.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            corrected: histogram(),
            uncorrected: histogram(),
            lag: histogram(),
            due: 0,
            operations: 0,
            bytes_up: 0,
            bytes_down: 0,
            errors: ErrorCounts::default(),
            connection_errors: ErrorCounts::default(),
            series: Vec::new(),
            streams: BTreeMap::new(),
            open: Vec::new(),
            peaks: Vec::new(),
            pending: BTreeMap::new(),
            next_second: 0,
        }
    }

    /// Takes what a worker handed over. What belongs to a second that is over already is told with
    /// the next one: late in the series, but not lost.
    pub(crate) fn add(&mut self, interval: Interval) {
        if self.open.len() <= interval.worker {
            self.open.resize(interval.worker + 1, 0);
            self.peaks.resize(interval.worker + 1, 0);
        }
        self.open[interval.worker] = interval.open;
        let peak = &mut self.peaks[interval.worker];
        *peak = interval.open_max.max(*peak);
        for stream in &interval.streams {
            let share = self.streams.entry(stream.stream).or_default();
            share.stream = stream.stream;
            share.bytes_up += stream.up;
            share.bytes_down += stream.down;
        }
        let second = interval.second.max(self.next_second);
        match self.pending.get_mut(&second) {
            None => drop(self.pending.insert(second, interval)),
            Some(pending) => merge(pending, &interval),
        }
    }

    /// The next second is over, in which the generator used `cpu`: adds it to the whole and to the series, and gives back its
    /// figures and histograms.
    pub(crate) fn close(&mut self, cpu: Cpu) -> (Second, Interval) {
        let (second, over) = self.take_over(cpu);
        self.append(&second);
        (second, over)
    }

    /// The same of what came after the load, in much less than a second: no share of a core is told, and only what
    /// brought anything becomes a part of the series.
    pub(crate) fn close_rest(&mut self) -> Option<(Second, Interval)> {
        let (second, over) = self.take_over(Cpu::default());
        let moved = second.operations + second.bytes_up + second.bytes_down;
        let failed = second.errors_total() + second.connection_errors;
        (moved + failed > 0).then(|| {
            self.append(&second);
            (second, over)
        })
    }

    fn take_over(&mut self, cpu: Cpu) -> (Second, Interval) {
        let number = self.next_second;
        self.next_second += 1;
        let over = self
            .pending
            .remove(&number)
            .unwrap_or_else(|| Interval::new(0, number));
        let second = self.second(number, &over, cpu);
        pour(&over.corrected, &mut self.corrected);
        pour(&over.uncorrected, &mut self.uncorrected);
        pour(&over.lag, &mut self.lag);
        self.due += over.due;
        self.operations += over.operations;
        self.bytes_up += over.bytes_up;
        self.bytes_down += over.bytes_down;
        self.errors.merge(&over.errors);
        self.connection_errors.merge(&over.connection_errors);
        (second, over)
    }

    fn append(&mut self, second: &Second) {
        if self.series.len() < SECONDS_MAX {
            self.series.push(second.clone());
        }
    }

    /// Most connections that were open at once: of several workers at most, since their peaks need not coincide.
    #[must_use]
    pub(crate) fn open_max(&self) -> u64 {
        self.peaks.iter().sum()
    }

    /// Whether anything waits for its second to close.
    #[must_use]
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Bytes of each stream that moved anything, in the order of their numbers.
    pub(crate) fn streams(&self) -> impl Iterator<Item = Share> + '_ {
        self.streams.values().copied()
    }

    /// The second that is closed next.
    #[must_use]
    pub(crate) fn next_second(&self) -> u32 {
        self.next_second
    }

    fn second(&self, number: u32, over: &Interval, cpu: Cpu) -> Second {
        let at = |percentile| match over.corrected.len() {
            0 => 0,
            _ => over
                .corrected
                .value_at_percentile(percentile)
                .min(over.corrected.max()),
        };
        Second {
            second: number,
            due: over.due,
            operations: over.operations,
            bytes_up: over.bytes_up,
            bytes_down: over.bytes_down,
            open: self.open.iter().sum(),
            errors: over.errors.iter().collect::<BTreeMap<ErrorKind, u64>>(),
            connection_errors: over.connection_errors.total(),
            p50_ns: at(50.0),
            p90_ns: at(90.0),
            p99_ns: at(99.0),
            p999_ns: at(99.9),
            max_ns: over.corrected.max(),
            uncorrected_max_ns: over.uncorrected.max(),
            lag_p99_ns: if over.lag.is_empty() {
                0
            } else {
                over.lag.value_at_percentile(99.0)
            },
            generator_cpu: cpu.all,
            generator_cpu_busiest: cpu.busiest,
        }
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

fn merge(into: &mut Interval, from: &Interval) {
    let same = "all histograms of a report have the same bounds";
    into.corrected.add(&from.corrected).expect(same);
    into.uncorrected.add(&from.uncorrected).expect(same);
    into.lag.add(&from.lag).expect(same);
    into.due += from.due;
    into.operations += from.operations;
    into.bytes_up += from.bytes_up;
    into.bytes_down += from.bytes_down;
    into.errors.merge(&from.errors);
    into.connection_errors.merge(&from.connection_errors);
}

/// Counters of a second are of 32 bits, those of the whole of 64.
fn pour(from: &Histogram<u32>, into: &mut Histogram<u64>) {
    for value in from.iter_recorded() {
        into.saturating_record_n(value.value_iterated_to(), u64::from(value.count_at_value()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(worker: usize, second: u32, latencies: &[u64]) -> Interval {
        let mut interval = Interval::new(worker, second);
        for latency in latencies {
            interval.corrected.saturating_record(*latency);
            interval.operations += 1;
        }
        interval.open = worker as u64 + 1;
        interval.open_max = interval.open;
        interval
    }

    #[test]
    fn workers_are_put_together_second_by_second() {
        let mut tally = Tally::new();
        tally.add(interval(0, 0, &[1_000, 2_000]));
        tally.add(interval(1, 0, &[9_000]));
        tally.add(interval(0, 1, &[5_000]));
        let (first, histograms) = tally.close(Cpu::default());
        assert_eq!(
            (first.operations, first.max_ns / 1_000, first.open),
            (3, 9, 3)
        );
        assert_eq!(histograms.corrected.len(), 3);
        let (second, _) = tally.close(Cpu::default());
        assert_eq!(
            (second.second, second.operations, second.p50_ns / 1_000),
            (1, 1, 5)
        );
        assert!(!tally.has_pending());
        assert_eq!(
            (tally.operations, tally.corrected.len(), tally.series.len()),
            (4, 4, 2)
        );
        assert_eq!(tally.open_max(), 3);
    }

    #[test]
    fn what_comes_late_is_told_with_the_next_second() {
        let mut tally = Tally::new();
        assert_eq!(tally.close(Cpu::default()).0.operations, 0);
        tally.add(interval(0, 0, &[1_000]));
        assert_eq!(tally.close(Cpu::default()).0.operations, 1);
        assert_eq!(tally.operations, 1);
    }

    #[test]
    fn what_comes_after_the_load_is_told_if_it_brings_anything() {
        let mut tally = Tally::new();
        tally.add(interval(0, 0, &[1_000]));
        tally.close(Cpu::default());
        tally.add(interval(0, 1, &[]));
        assert!(tally.close_rest().is_none());
        tally.add(interval(0, 2, &[1_000]));
        let (rest, _) = tally.close_rest().expect("an operation ended");
        assert_eq!((rest.operations, rest.generator_cpu_busiest), (1, 0.0));
        assert_eq!((tally.operations, tally.series.len()), (2, 2));
    }

    #[test]
    fn the_whole_has_the_very_values_of_its_parts() {
        let mut tally = Tally::new();
        let values: Vec<u64> = (0..2_000).map(|i| 1 + i * i * 997).collect();
        tally.add(interval(0, 0, &values));
        let (_, over) = tally.close(Cpu::default());
        for percentile in [1.0, 50.0, 99.0, 99.9, 100.0] {
            assert_eq!(
                tally.corrected.value_at_percentile(percentile),
                over.corrected.value_at_percentile(percentile)
            );
        }
        assert_eq!(
            (tally.corrected.min(), tally.corrected.max()),
            (over.corrected.min(), over.corrected.max())
        );
    }
}
