//! What a worker notes while it drives.

use std::{
    cell::RefCell,
    sync::mpsc::{SyncSender, TrySendError},
    time::{Duration, Instant},
};

use super::{
    error_kind::ErrorKind,
    interval::{Interval, StreamBytes},
};

/// One worker's notebook. Belongs to one thread and takes no lock; share it among the tasks of
/// that thread by `Rc`.
///
/// Contract: [`Recorder::tick`] at least once a second, also when nothing happens, so that idle
/// seconds are reported; [`Recorder::finish`] (or drop) at the end, so that the last one is.
/// Neither ever waits: where the reporter is behind, the interval goes on and is handed over later.
#[derive(Debug)]
pub struct Recorder {
    inner: RefCell<Inner>,
}

/// One stream of a recorder, as [`Recorder::stream`] gave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSlot(usize);

#[derive(Debug)]
struct Inner {
    start: Instant,
    /// When the current interval is due to be handed over.
    boundary: Instant,
    interval: Interval,
    open: u64,
    /// Bytes of each slot since the last hand-over.
    streams: Vec<StreamBytes>,
    sender: SyncSender<Interval>,
}

impl Recorder {
    /// The recorder of worker number `worker` of a run that begins (or began) at `start`, which hands
    /// its intervals to `sender`. [`Reporter::recorder`](super::Reporter::recorder) makes them.
    #[must_use]
    pub fn new(worker: usize, start: Instant, sender: SyncSender<Interval>) -> Self {
        Self {
            inner: RefCell::new(Inner {
                start,
                boundary: start + SECOND,
                interval: Interval::new(worker, 0),
                open: 0,
                streams: Vec::new(),
                sender,
            }),
        }
    }

    /// An operation ended well at `ended`. It should have begun at `intended` and did begin at
    /// `started`; in a closed model both are the same. Bytes are payload, as seen from here.
    pub fn ok(
        &self,
        intended: Instant,
        started: Instant,
        ended: Instant,
        bytes_up: u64,
        bytes_down: u64,
    ) {
        let mut inner = self.inner.borrow_mut();
        inner.advance(ended);
        let interval = &mut inner.interval;
        interval
            .corrected
            .saturating_record(nanoseconds(ended.saturating_duration_since(intended)));
        interval
            .uncorrected
            .saturating_record(nanoseconds(ended.saturating_duration_since(started)));
        interval.operations += 1;
        interval.bytes_up += bytes_up;
        interval.bytes_down += bytes_down;
    }

    /// A connection failed outside of any operation: while it was opened anew, or ended in order.
    pub fn connection_error(&self, kind: ErrorKind) {
        let errors = &mut self.inner.borrow_mut().interval.connection_errors;
        errors.add(kind, 1);
    }

    /// An operation did not end well.
    pub fn error(&self, kind: ErrorKind) {
        self.inner.borrow_mut().interval.errors.add(kind, 1);
    }

    /// `count` intended starts came due (open model), whether or not they could be made.
    pub fn due(&self, count: u64) {
        self.inner.borrow_mut().interval.due += count;
    }

    /// A timer was to wake the worker at `intended`, and did at `woke`: the scheduling lag, by
    /// which the generator judges itself.
    pub fn woke(&self, intended: Instant, woke: Instant) {
        let lag = nanoseconds(woke.saturating_duration_since(intended));
        self.inner.borrow_mut().interval.lag.saturating_record(lag);
    }

    /// Bytes that moved without ending an operation (bulk beside something else).
    pub fn bytes(&self, up: u64, down: u64) {
        let mut inner = self.inner.borrow_mut();
        inner.interval.bytes_up += up;
        inner.interval.bytes_down += down;
    }

    /// A slot for stream number `stream` of the run, whose share of the bytes shall be reported.
    /// Call once for each stream.
    pub fn stream(&self, stream: u32) -> StreamSlot {
        let mut inner = self.inner.borrow_mut();
        inner.streams.push(StreamBytes {
            stream,
            up: 0,
            down: 0,
        });
        StreamSlot(inner.streams.len() - 1)
    }

    /// Bytes of one stream that moved. Counts towards the share of the stream alone: the total
    /// is told by [`Recorder::bytes`] or [`Recorder::ok`].
    pub fn share(&self, slot: StreamSlot, up: u64, down: u64) {
        let mut inner = self.inner.borrow_mut();
        let stream = &mut inner.streams[slot.0];
        stream.up += up;
        stream.down += down;
    }

    /// A connection is open now.
    pub fn opened(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.open += 1;
        inner.interval.open_max = inner.interval.open_max.max(inner.open);
    }

    /// A connection that was [`opened`](Self::opened) is open no longer.
    pub fn closed(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.open = inner.open.saturating_sub(1);
    }

    /// Tells the time: hands over what is due.
    pub fn tick(&self, now: Instant) {
        self.inner.borrow_mut().advance(now);
    }

    /// Hands over the rest. Waits for the reporter, which is ending too and takes everything.
    pub fn finish(self) {}
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let inner = self.inner.get_mut();
        let last = inner.take(u32::MAX);
        // An error means that the reporter has gone, and with it anybody who wants to know.
        let _ = inner.sender.send(last);
    }
}

impl Inner {
    fn advance(&mut self, now: Instant) {
        if now < self.boundary {
            return;
        }
        let elapsed = now.saturating_duration_since(self.start);
        let second = u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX);
        self.boundary = self.start + Duration::from_secs(u64::from(second) + 1);
        let full = self.take(second);
        if let Err(TrySendError::Full(back)) = self.sender.try_send(full) {
            self.put_back(back);
        }
    }

    fn take(&mut self, next_second: u32) -> Interval {
        let next = Interval::new(self.interval.worker, next_second);
        let mut full = std::mem::replace(&mut self.interval, next);
        full.open = self.open;
        self.interval.open_max = self.open;
        full.streams = self
            .streams
            .iter()
            .copied()
            .filter(|stream| stream.up + stream.down > 0)
            .collect();
        for stream in &mut self.streams {
            (stream.up, stream.down) = (0, 0);
        }
        full
    }

    /// The reporter is behind: what it did not take goes on.
    fn put_back(&mut self, back: Interval) {
        // Those that moved are in the order of the slots, so one walk finds them all.
        let mut slots = self.streams.iter_mut();
        for moved in &back.streams {
            let slot = slots.find(|slot| slot.stream == moved.stream);
            let slot = slot.expect("slots are never removed");
            (slot.up, slot.down) = (moved.up, moved.down);
        }
        self.interval = back;
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    fn at(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn latency_counts_from_the_intended_and_from_the_actual_start() {
        let (sender, receiver) = sync_channel(8);
        let start = Instant::now();
        let recorder = Recorder::new(0, start, sender);
        recorder.ok(at(start, 100), at(start, 400), at(start, 500), 64, 64);
        recorder.finish();
        let interval = receiver.recv().expect("the last interval");
        assert!((400_000_000..=400_300_000).contains(&interval.corrected.max()));
        assert!((100_000_000..=100_100_000).contains(&interval.uncorrected.max()));
        assert_eq!(
            (interval.operations, interval.bytes_up, interval.bytes_down),
            (1, 64, 64)
        );
    }

    #[test]
    fn an_interval_ends_with_its_second() {
        let (sender, receiver) = sync_channel(8);
        let start = Instant::now();
        let recorder = Recorder::new(0, start, sender);
        recorder.opened();
        recorder.ok(start, start, at(start, 999), 1, 0);
        recorder.ok(start, start, at(start, 1_000), 1, 0);
        recorder.tick(at(start, 5_500));
        recorder.closed();
        drop(recorder);
        let seen: Vec<_> = receiver
            .iter()
            .map(|i| (i.second, i.operations, i.open))
            .collect();
        assert_eq!(seen, [(0, 1, 1), (1, 1, 1), (5, 0, 0)]);
    }

    #[test]
    fn a_reporter_that_is_behind_loses_nothing_and_holds_up_nobody() {
        let (sender, receiver) = sync_channel(1);
        let start = Instant::now();
        let recorder = Recorder::new(0, start, sender);
        let stream = recorder.stream(7);
        for second in 0..10 {
            recorder.ok(start, start, at(start, second * 1_000 + 500), 10, 0);
            recorder.share(stream, 10, 0);
            recorder.error(ErrorKind::Reset);
        }
        let taker = std::thread::spawn(move || receiver.iter().collect::<Vec<_>>());
        recorder.finish();
        let intervals = taker.join().expect("taker");
        assert!(intervals.len() < 10);
        assert_eq!(intervals.iter().map(|i| i.operations).sum::<u64>(), 10);
        assert_eq!(intervals.iter().map(|i| i.errors.total()).sum::<u64>(), 10);
        let up: u64 = intervals
            .iter()
            .flat_map(|i| &i.streams)
            .map(|s| s.up)
            .sum();
        assert_eq!(up, 100);
    }
}
