//! Plays the source: opens connections and offers load on them.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use adit_proto::message::{Kind as MessageKind, MessageView};
use anyhow::{Result, bail};

use super::compose::Route;
use super::lane::{Asked, Lane, Purpose};
use super::run::Load;
use super::session::{COMPOSE_MARK, End};
use crate::payload::{Kind, Message};
use crate::report::{ErrorKind, Recorder, StreamSlot};

/// Intended starts that wait for a free connection; further ones are skipped, and counted as that.
pub(super) const LATE_MAX: usize = 100_000;

/// The source's end.
pub(super) struct Source {
    load: Load,
    seed: u64,
    recorder: Recorder,
    /// Once the service has told its services.
    route: Option<Route>,
    lanes: HashMap<u32, Lane>,
    /// Connections that have something to send, in the order of their turns.
    turns: VecDeque<u32>,
    /// Connections for round trips that wait for one.
    idle: VecDeque<u32>,
    /// Round trips that should have begun.
    late: VecDeque<Instant>,
    /// The id of the connection opened last.
    last: u32,
    control: Vec<u8>,
    scratch: Vec<u8>,
    is_ending: bool,
    /// Connections on which a byte was wrong.
    pub(super) faults: u64,
    /// The first of them.
    pub(super) first_fault: Option<String>,
}

impl Source {
    pub(super) fn new(load: Load, seed: u64, recorder: Recorder) -> Self {
        Self {
            load,
            seed,
            recorder,
            route: None,
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            idle: VecDeque::new(),
            late: VecDeque::new(),
            last: 0,
            control: Vec::new(),
            scratch: Vec::new(),
            is_ending: false,
            faults: 0,
            first_fault: None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.route.is_some()
    }

    /// Opens the connections that stay open, and in the closed model begins.
    pub(super) fn begin(&mut self) {
        let now = Instant::now();
        for (count, purpose) in [
            (self.load.pushes, Purpose::Push),
            (self.load.pulls, Purpose::Pull),
            (self.load.asks, Purpose::Ask),
        ] {
            for _ in 0..count {
                let connection = self.open(purpose);
                match purpose {
                    Purpose::Ask => self.idle.push_back(connection),
                    Purpose::Push | Purpose::Pull | Purpose::Once => {}
                }
            }
        }
        if self.load.rate.is_none() {
            let count = self.load.asks + self.load.churns;
            self.late.extend(std::iter::repeat_n(now, count));
            self.dispatch(now);
        }
    }

    /// A round trip should begin at `intended`, which is now or was before: then the generator was late, for each start
    /// that it slept through.
    pub(super) fn fire(&mut self, intended: Instant, now: Instant) {
        self.recorder.due(1);
        self.recorder.woke(intended, now);
        if self.late.len() == LATE_MAX {
            self.recorder.error(ErrorKind::Skipped);
            return;
        }
        self.late.push_back(intended);
        self.dispatch(now);
    }

    pub(super) fn tick(&self, now: Instant) {
        self.recorder.tick(now);
    }

    /// The time is up: what is on its way comes to its end. What should have begun and has not is not begun any more: it
    /// would count as done in a time that was over.
    pub(super) fn finish(&mut self) {
        self.is_ending = true;
        self.skip_late();
        self.end_idle();
        let bulk: Vec<u32> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.asked.is_none())
            .map(|(connection, _)| *connection)
            .collect();
        for connection in bulk {
            if !self.idle.contains(&connection) {
                self.end(connection);
            }
        }
    }

    /// What has not come to its end is given up.
    pub(super) fn give_up(&mut self, kind: ErrorKind) {
        for (_, lane) in self.lanes.drain() {
            note_loss(&self.recorder, &lane, kind);
            self.recorder.closed();
        }
        self.skip_late();
        self.is_ending = true;
    }

    fn skip_late(&mut self) {
        for _ in self.late.drain(..) {
            self.recorder.error(ErrorKind::Skipped);
        }
    }

    /// Begins what is late on what is free.
    fn dispatch(&mut self, now: Instant) {
        while let Some(&intended) = self.late.front() {
            let connection = if self.load.churns > 0 {
                match self.lanes.len() < self.load.churns {
                    true => self.open(Purpose::Once),
                    false => return,
                }
            } else {
                match self.idle.pop_front() {
                    Some(connection) => connection,
                    None => return,
                }
            };
            self.late.pop_front();
            let asked = Asked {
                intended,
                started: now,
            };
            if let Some(lane) = self.lanes.get_mut(&connection) {
                lane.ask(asked, self.load.size, self.load.reply_size);
                self.queue(connection);
            }
        }
        if self.is_ending {
            self.end_idle();
        }
    }

    /// Ends connections that wait for a round trip, when none will come.
    fn end_idle(&mut self) {
        if self.late.is_empty() {
            for connection in std::mem::take(&mut self.idle) {
                self.end(connection);
            }
        }
    }

    fn end(&mut self, connection: u32) {
        if let Some(lane) = self.lanes.get_mut(&connection) {
            lane.say_end();
            self.queue(connection);
        }
    }

    fn open(&mut self, purpose: Purpose) -> u32 {
        // A run would have to go on for days to come round.
        self.last = self.last.wrapping_add(1).max(1);
        let connection = self.last;
        let kind = match connection {
            1 => MessageKind::StreamStart,
            _ => MessageKind::ConnectionStart,
        };
        if let Some(route) = &self.route {
            route.control(kind, connection, &mut self.control);
        }
        let mut lane = Lane::new(purpose, self.seed, connection.into());
        if matches!(purpose, Purpose::Push | Purpose::Pull) {
            lane.slot = Some(self.recorder.stream(connection));
        }
        self.lanes.insert(connection, lane);
        self.recorder.opened();
        self.queue(connection);
        connection
    }

    fn queue(&mut self, connection: u32) {
        if let Some(lane) = self.lanes.get_mut(&connection)
            && !std::mem::replace(&mut lane.has_turn, true)
        {
            self.turns.push_back(connection);
        }
    }

    fn data(&mut self, connection: u32, mut input: &[u8]) {
        let now = Instant::now();
        loop {
            // Each message may end the lane.
            let Some(lane) = self.lanes.get_mut(&connection) else {
                return;
            };
            match lane.next(&mut input) {
                Ok(Some(message)) => self.take_message(connection, message, now),
                Ok(None) => return,
                Err(fault) => return self.fault(connection, fault.to_string()),
            }
        }
    }

    fn take_message(&mut self, connection: u32, message: Message, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&connection) else {
            return;
        };
        match message.kind {
            Kind::Reply => {
                if lane.purpose == Purpose::Ask
                    && let Some(asked) = lane.asked.take()
                {
                    self.note(asked, now);
                    self.idle.push_back(connection);
                    self.go_on(now);
                }
            }
            Kind::Receipt if lane.purpose == Purpose::Push => {
                let (more, slot) = (lane.note_receipt(message.numbers[0]), lane.slot);
                self.carried(slot, more, 0);
            }
            Kind::Data => {
                let slot = lane.slot;
                self.carried(slot, 0, message.size as u64);
            }
            Kind::End => self.ended(connection, now),
            Kind::Complaint => {
                let text = format!("the far end says: wrong at {}", message.numbers[0]);
                self.fault(connection, text);
            }
            // Receipts of other lanes count what their answers count; the rest only goes up.
            _ => {}
        }
    }

    /// Bulk that was verified. What comes after the time is up is not counted.
    fn carried(&self, slot: Option<StreamSlot>, up: u64, down: u64) {
        if self.is_ending {
            return;
        }
        self.recorder.bytes(up, down);
        slot.into_iter()
            .for_each(|it| self.recorder.share(it, up, down));
    }

    /// The far end has said all on this connection, and every byte was right.
    fn ended(&mut self, connection: u32, now: Instant) {
        let Some(lane) = self.close(connection) else {
            return;
        };
        debug_assert!(lane.has_ended());
        match (lane.purpose, lane.asked) {
            (Purpose::Once, Some(asked)) => {
                self.note(asked, now);
                self.go_on(now);
            }
            // It should have answered before.
            (_, Some(_)) => self.recorder.error(ErrorKind::Closed),
            (_, None) => {}
        }
    }

    fn note(&self, asked: Asked, now: Instant) {
        let (up, down) = (self.load.size as u64, self.load.reply_size as u64);
        self.recorder
            .ok(asked.intended, asked.started, now, up, down);
    }

    /// A round trip is over: the next one of the closed model, or one that is late.
    fn go_on(&mut self, now: Instant) {
        if self.load.rate.is_none() && !self.is_ending {
            self.late.push_back(now);
        }
        self.dispatch(now);
    }

    fn fault(&mut self, connection: u32, text: String) {
        self.faults += 1;
        self.recorder.error(ErrorKind::Mismatch);
        let text = format!("connection {connection}: {text}");
        self.first_fault.get_or_insert(text);
        self.close(connection);
    }

    /// Takes a connection out and tells the other side.
    fn close(&mut self, connection: u32) -> Option<Lane> {
        let lane = self.lanes.remove(&connection)?;
        self.recorder.closed();
        if let Some(route) = &self.route {
            let kind = MessageKind::ConnectionReset;
            route.control(kind, connection, &mut self.control);
        }
        Some(lane)
    }

    /// The other side has ended a connection before its time.
    fn cut(&mut self, connection: u32) {
        if let Some(lane) = self.lanes.remove(&connection) {
            self.idle.retain(|it| *it != connection);
            self.recorder.closed();
            note_loss(&self.recorder, &lane, ErrorKind::Reset);
            self.dispatch(Instant::now());
        }
    }

    fn services(&mut self, message: &MessageView<'_>) {
        let service = message.available_service_ids().next().unwrap_or_default();
        self.route.get_or_insert(Route {
            service: service.to_owned(),
            stream: 1,
        });
    }

    /// Whether a message is about the one stream of this end.
    fn is_ours(&self, message: &MessageView<'_>) -> bool {
        let route = self.route.as_ref();
        route.is_some_and(|it| it.service == message.service_id)
    }
}

/// A connection that waits for its next round trip takes no operation with it.
fn note_loss(recorder: &Recorder, lane: &Lane, kind: ErrorKind) {
    match (lane.purpose, lane.asked) {
        (Purpose::Ask, None) => recorder.connection_error(kind),
        _ => recorder.error(kind),
    }
}

impl End for Source {
    fn take(&mut self, message: MessageView<'_>) -> Result<()> {
        match message.kind {
            MessageKind::ServiceIds => self.services(&message),
            MessageKind::Data if self.is_ours(&message) => {
                self.data(message.connection_id, message.payload);
            }
            MessageKind::ConnectionReset if self.is_ours(&message) => {
                self.cut(message.connection_id);
            }
            MessageKind::StreamReset if self.is_ours(&message) => self.give_up(ErrorKind::Reset),
            MessageKind::SessionReset => self.give_up(ErrorKind::Reset),
            MessageKind::Data | MessageKind::ConnectionReset | MessageKind::StreamReset => {}
            MessageKind::StreamStart | MessageKind::ConnectionStart => {
                bail!("{} for a source", message.kind.name())
            }
            MessageKind::Unknown(_) if message.ignorable => {}
            MessageKind::Unknown(kind) => bail!("a message of the unknown type {kind}"),
        }
        Ok(())
    }

    fn compose(&mut self, out: &mut Vec<u8>) {
        let Some(route) = self.route.clone() else {
            return;
        };
        out.append(&mut self.control);
        while out.len() < COMPOSE_MARK {
            let Some(connection) = self.turns.pop_front() else {
                break;
            };
            let Some(lane) = self.lanes.get_mut(&connection) else {
                continue;
            };
            self.scratch.clear();
            lane.fill(&mut self.scratch);
            lane.has_turn = !self.scratch.is_empty();
            route.data(connection, &self.scratch, out);
            if lane.has_turn {
                self.turns.push_back(connection);
            }
        }
    }

    fn may_read(&self) -> bool {
        // What comes is consumed at once, and begins no more than one round trip each.
        true
    }

    fn is_over(&self) -> bool {
        self.is_ending && self.lanes.is_empty() && self.late.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::time::Duration;

    use super::*;
    use crate::payload::{Direction, Track, Writer};
    use crate::report::Interval;

    fn source(load: Load) -> (Source, Receiver<Interval>) {
        let (sender, intervals) = sync_channel(8);
        let mut source = Source::new(load, SEED, Recorder::new(0, Instant::now(), sender));
        source.begin();
        (source, intervals)
    }

    /// The only interval.
    fn told(source: Source, intervals: &Receiver<Interval>) -> Interval {
        drop(source);
        intervals.recv().expect("the last interval")
    }

    const SEED: u64 = 7;
    const ASKS: Load = Load {
        asks: 1,
        pushes: 0,
        pulls: 0,
        churns: 0,
        size: 64,
        reply_size: 64,
        rate: Some(1000.0),
    };

    /// One connection that is busy with the first of three.
    #[test]
    fn what_is_late_when_the_time_is_up_is_skipped() {
        for load in [
            ASKS,
            Load {
                asks: 0,
                churns: 1,
                ..ASKS
            },
        ] {
            let (mut source, intervals) = source(load);
            for _ in 0..3 {
                source.fire(Instant::now(), Instant::now());
            }
            source.finish();
            assert!(!source.is_over(), "the first is on its way");
            // Its answer is its own: nothing is begun in its place.
            source.data(1, &answer());
            source.give_up(ErrorKind::TimedOut);
            let told = told(source, &intervals);
            assert_eq!((told.due, told.operations), (3, 1));
            assert_eq!(told.errors.of(ErrorKind::Skipped), 2);
            assert_eq!(told.errors.total(), 2);
        }
    }

    /// The far end of connection 1.
    fn far_end() -> Writer {
        Writer::new(Track {
            seed: SEED,
            stream: 1,
            direction: Direction::Down,
        })
    }

    #[test]
    fn bulk_that_comes_after_the_time_is_up_is_not_counted() {
        for (pushes, pulls, expected) in [(1, 0, (1_000, 0)), (0, 1, (0, 500))] {
            let (mut source, intervals) = source(Load {
                asks: 0,
                pushes,
                pulls,
                ..ASKS
            });
            let mut far_end = far_end();
            let mut say = |source: &mut Source, receipt| {
                let mut out = Vec::new();
                match pushes {
                    0 => far_end.seeded(Kind::Data, 0, 500, &mut out),
                    _ => far_end.numbers(Kind::Receipt, 0, [receipt, 0], &mut out),
                }
                source.data(1, &out);
            };
            say(&mut source, 1_000);
            source.finish();
            say(&mut source, 3_000);
            assert_eq!(source.faults, 0);
            let told = told(source, &intervals);
            assert_eq!((told.bytes_up, told.bytes_down), expected);
            let shared: u64 = told.streams.iter().map(|it| it.up + it.down).sum();
            assert_eq!(shared, expected.0 + expected.1);
        }
    }

    /// What it says to the first question, and its end.
    fn answer() -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = far_end();
        writer.seeded(Kind::Reply, 0, 64, &mut out);
        writer.end(&mut out);
        out
    }

    #[test]
    fn each_start_that_was_slept_through_was_late() {
        let (mut source, intervals) = source(ASKS);
        let first = Instant::now();
        let woke = first + Duration::from_millis(50);
        for milliseconds in [0, 10, 20] {
            source.fire(first + Duration::from_millis(milliseconds), woke);
        }
        let told = told(source, &intervals);
        assert_eq!(told.lag.len(), 3);
        assert!((29_900_000..30_100_000).contains(&told.lag.min()));
    }
}
