//! Plays the source: opens connections and offers load on them.

mod end;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use adit_proto::message::Kind as MessageKind;
use adit_verify::{Kind, Message};

use super::compose::Route;
use super::desk::Desk;
use super::lane::{Asked, Lane, Purpose};
use super::load::Load;
use super::stall::Stall;
use super::starts::Start;
use crate::profile::{self, RoundTrip, Windows, idle};
use crate::report::{ErrorKind, Recorder, StreamSlot};

/// The source's end.
pub(super) struct Source {
    load: Load,
    seed: u64,
    recorder: Recorder,
    route: Route,
    lanes: HashMap<u32, Lane>,
    /// Connections that have something to send, in the order of their turns.
    turns: VecDeque<u32>,
    desk: Desk,
    /// When the next round trips begin of places whose last one failed, in the closed model. At most one for each place.
    pauses: VecDeque<Instant>,
    stall: Option<Stall>,
    /// Connections that are held and not proved yet.
    unproved: VecDeque<u32>,
    /// Connections that are being proved.
    proving: usize,
    /// Connections that were proved to be whole.
    held: u64,
    /// The id of the connection opened last.
    last: u32,
    control: Vec<u8>,
    scratch: Vec<u8>,
    is_ending: bool,
    /// When no more load was offered: the time was up, or the tunnel had ended before.
    offered_until: Option<Instant>,
    has_given_up: bool,
    /// Why the tunnel ended before the source, if it did.
    pub(super) cut_short: Option<String>,
    /// Connections on which a byte was wrong.
    pub(super) faults: u64,
    /// The first of them.
    pub(super) first_fault: Option<String>,
}

impl Source {
    pub(super) fn new(load: Load, seed: u64, recorder: Recorder, route: Route) -> Self {
        Self {
            load,
            seed,
            recorder,
            route,
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            desk: Desk::new(&load, seed),
            pauses: VecDeque::new(),
            stall: None,
            unproved: VecDeque::new(),
            proving: 0,
            held: 0,
            last: 0,
            control: Vec::new(),
            scratch: Vec::new(),
            is_ending: false,
            offered_until: None,
            has_given_up: false,
            cut_short: None,
            faults: 0,
            first_fault: None,
        }
    }

    /// Opens the connections that stay open, and in the closed model begins. The run is from `start` on for `duration`.
    /// In a tunnel that has ended before it nothing begins.
    pub(super) fn begin(&mut self, start: Instant, duration: Duration) {
        if self.is_ending {
            return;
        }
        let load = self.load;
        let open = |source: &mut Self, count, purpose| -> Vec<u32> {
            (0..count).map(|_| source.open(purpose)).collect()
        };
        open(self, load.pushes, Purpose::Push);
        let pulls = open(self, load.pulls, Purpose::Pull);
        if load.stalls
            && let Some((victim, others)) = pulls.split_first()
        {
            let windows = Windows::new(start, duration);
            self.stall = Some(Stall::new(windows, *victim, others.iter().copied()));
        }
        self.unproved = open(self, load.holds, Purpose::Hold).into();
        for place in 0..self.desk.places() {
            if load.churns == 0 {
                self.open_for(place, Purpose::Ask);
            }
            self.desk.free(place);
        }
        if load.rate.is_none() {
            let at_once = Start {
                intended: start,
                place: None,
            };
            for _ in 0..self.desk.places() {
                self.want(at_once);
            }
            self.dispatch(start);
        }
    }

    /// A round trip should begin now, or should have before: then the generator was late, for each start that it slept
    /// through. In a tunnel that has ended nothing begins.
    pub(super) fn fire(&mut self, start: Start, now: Instant) {
        if self.is_ending {
            return;
        }
        self.recorder.due(1);
        self.recorder.woke(start.intended, now);
        self.want(start);
        self.dispatch(now);
    }

    /// Time has passed; called ten times a second.
    pub(super) fn tick(&mut self, now: Instant) {
        self.recorder.tick(now);
        while self.pauses.pop_front_if(|until| *until <= now).is_some() {
            self.want(Start {
                intended: now,
                place: None,
            });
        }
        self.dispatch(now);
    }

    /// The time is up: what is on its way comes to its end. What should have begun and has not is not begun any more: it
    /// would count as done in a time that was over.
    pub(super) fn finish(&mut self) {
        self.is_ending = true;
        self.offered_until.get_or_insert_with(Instant::now);
        self.pauses.clear();
        self.skip_late();
        if let Some((victim, aside)) = self.stall.as_mut().map(Stall::end) {
            self.data(victim, &aside);
        }
        let is_bulk = |lane: &Lane| matches!(lane.purpose, Purpose::Push | Purpose::Pull);
        let bulk = self.lanes.iter().filter(|(_, lane)| is_bulk(lane));
        let mut over: Vec<u32> = bulk.map(|(connection, _)| *connection).collect();
        over.extend(self.desk.idle());
        over.into_iter().for_each(|connection| self.end(connection));
        self.prove();
    }

    /// The tunnel has ended. While load is offered this is a failure of its own: where no connection is open at the time,
    /// no operation tells of it.
    pub(super) fn lose(&mut self, kind: ErrorKind, why: String) {
        if self.offered_until.is_none() {
            self.offered_until = Some(Instant::now());
            self.recorder.connection_error(ErrorKind::Tunnel);
        }
        self.cut_short.get_or_insert(why);
        self.give_up(kind);
    }

    /// How long load was offered, of a run that began at `start`.
    pub(super) fn offered(&self, start: Instant) -> Duration {
        let until = self.offered_until.unwrap_or_else(Instant::now);
        until.saturating_duration_since(start)
    }

    /// What has not come to its end is given up.
    pub(super) fn give_up(&mut self, kind: ErrorKind) {
        for (_, lane) in self.lanes.drain() {
            note_loss(&self.recorder, &lane, kind);
            self.recorder.closed();
        }
        self.pauses.clear();
        self.skip_late();
        self.is_ending = true;
        self.has_given_up = true;
    }

    /// What only the profile knows.
    pub(super) fn outcome(&self) -> profile::Outcome {
        profile::Outcome {
            notes: Vec::new(),
            held: (self.load.holds > 0).then_some(self.held),
            stall: self.stall.as_ref().map(Stall::outcome),
        }
    }

    fn want(&mut self, start: Start) {
        if !self.desk.want(start) {
            self.recorder.error(ErrorKind::Skipped);
        }
    }

    /// What waits is not begun. Where nothing was due, as in the closed model, nothing was missed either.
    fn skip_late(&mut self) {
        let skipped = self.desk.skip();
        if self.load.rate.is_some() {
            (0..skipped).for_each(|_| self.recorder.error(ErrorKind::Skipped));
        }
    }

    /// Begins what is late on what is free.
    fn dispatch(&mut self, now: Instant) {
        while let Some((place, intended)) = self.desk.next() {
            let connection = self.desk.connection(place);
            let connection = connection.unwrap_or_else(|| match self.load.churns {
                0 => self.open_for(place, Purpose::Ask),
                _ => self.open_for(place, Purpose::Once),
            });
            let (trip, is_last) = self.desk.draw(place);
            if let Some(lane) = self.lanes.get_mut(&connection) {
                lane.is_last = is_last;
            }
            self.ask(connection, Asked::new(intended, now, trip));
        }
    }

    /// Proves connections that were held: some at a time, or it would measure the far end's queue.
    fn prove(&mut self) {
        while self.proving < idle::AT_ONCE
            && let Some(connection) = self.unproved.pop_front()
        {
            if self.lanes.contains_key(&connection) {
                self.proving += 1;
                let (now, size) = (Instant::now(), idle::SIZE);
                self.ask(
                    connection,
                    Asked::new(now, now, RoundTrip { size, reply: size }),
                );
            }
        }
    }

    fn ask(&mut self, connection: u32, asked: Asked) {
        if let Some(lane) = self.lanes.get_mut(&connection) {
            lane.ask(asked);
            self.queue(connection);
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
        self.route.control(kind, connection, &mut self.control);
        let mut lane = Lane::new(purpose, self.seed, connection.into());
        if matches!(purpose, Purpose::Push | Purpose::Pull) {
            lane.slot = Some(self.recorder.stream(connection));
        }
        self.lanes.insert(connection, lane);
        self.recorder.opened();
        self.queue(connection);
        connection
    }

    /// Opens the connection of a place.
    fn open_for(&mut self, place: usize, purpose: Purpose) -> u32 {
        let connection = self.open(purpose);
        if let Some(lane) = self.lanes.get_mut(&connection) {
            lane.place = Some(place);
        }
        self.desk.connect(place, Some(connection));
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
        if let Some(stall) = self.stall.as_mut()
            && self.lanes.contains_key(&connection)
            && stall.holds_up(connection, now)
        {
            if !stall.put_aside(input) {
                self.close(connection);
            }
            return;
        }
        loop {
            // Each message may end the lane.
            let Some(lane) = self.lanes.get_mut(&connection) else {
                return self.stray(connection, input);
            };
            match lane.next(&mut input) {
                Ok(Some(message)) => self.take_message(connection, message, now),
                Ok(None) => return,
                Err(fault) => return self.fault(connection, fault.to_string()),
            }
        }
    }

    /// Bytes behind a trailer, or for a connection that was never opened. Where connections were reset from here, as after
    /// a fault or beyond the stall's bound, the other side may not know yet.
    fn stray(&mut self, connection: u32, bytes: &[u8]) {
        let stall = self.stall.as_ref();
        let may_be_late = self.has_given_up
            || self.faults > 0
            || stall.is_some_and(|it| it.is_victim(connection));
        if !bytes.is_empty() && !may_be_late {
            let text = format!("{} bytes for a connection that is none", bytes.len());
            self.fault(connection, text);
        }
    }

    fn take_message(&mut self, connection: u32, message: Message, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&connection) else {
            return;
        };
        match message.kind {
            Kind::Reply => self.answered(connection, message.size, now),
            Kind::Receipt if lane.purpose == Purpose::Push => {
                let (more, slot) = (lane.note_receipt(message.numbers[0]), lane.slot);
                self.carried(slot, more, 0);
            }
            Kind::Data => {
                let (slot, size) = (lane.slot, message.size as u64);
                if let Some(stall) = self.stall.as_mut().filter(|_| !self.is_ending) {
                    stall.count(connection, now, size);
                }
                self.carried(slot, 0, size);
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

    /// An answer has come, each byte of it right.
    fn answered(&mut self, connection: u32, size: usize, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&connection) else {
            return;
        };
        let asked = lane.asked.as_mut().filter(|it| !it.is_answered);
        let Some(asked) = asked.filter(|it| it.trip.reply == size) else {
            let text = format!("an answer of {size} bytes that nobody asked for");
            return self.fault(connection, text);
        };
        asked.is_answered = true;
        let (asked, place, is_last) = (*asked, lane.place, lane.is_last);
        if lane.purpose != Purpose::Ask {
            // The end belongs to it.
            return;
        }
        lane.asked = None;
        self.note(asked, now);
        match place {
            Some(place) if !self.is_ending && !is_last => self.desk.free(place),
            _ => self.end(connection),
        }
        self.go_on(now);
    }

    /// The far end has said all on this connection, and every byte was right.
    fn ended(&mut self, connection: u32, now: Instant) {
        let Some(lane) = self.close(connection) else {
            return;
        };
        debug_assert!(lane.has_ended());
        match (lane.purpose, lane.asked) {
            (Purpose::Once, Some(asked)) if asked.is_answered => {
                self.note(asked, now);
                self.go_on(now);
            }
            (Purpose::Hold, Some(asked)) if asked.is_answered => self.held += 1,
            // It should have answered before.
            (_, Some(_)) => {
                self.recorder.error(ErrorKind::Closed);
                self.missed(&lane, now);
            }
            (Purpose::Ask, None) if !self.is_ending => {
                if let Some(place) = lane.place {
                    self.open_for(place, Purpose::Ask);
                }
            }
            // What was to go on until it is told to end was cut, however well that verifies.
            (Purpose::Push | Purpose::Pull | Purpose::Hold, None) if !lane.has_said_end() => {
                self.recorder.error(ErrorKind::Closed);
            }
            (_, None) => {}
        }
        self.vacate(&lane, now);
    }

    /// A connection is none any more, and somebody else may have its turn.
    fn vacate(&mut self, lane: &Lane, now: Instant) {
        match (lane.purpose, lane.place) {
            (Purpose::Hold, _) if lane.asked.is_some() => {
                self.proving -= 1;
                self.prove();
            }
            (_, Some(place)) => {
                self.desk.free(place);
                self.dispatch(now);
            }
            _ => {}
        }
    }

    /// A connection went and took its round trip along. In the closed model its place begins the next one all the same,
    /// or every failure would leave less load until the end: after a pause, as the far end may fail each at once.
    fn missed(&mut self, lane: &Lane, now: Instant) {
        let is_asked = lane.place.is_some() && lane.asked.is_some();
        if is_asked && self.load.rate.is_none() && !self.is_ending {
            self.pauses.push_back(now + PAUSE);
        }
    }

    fn note(&self, asked: Asked, now: Instant) {
        let (up, down) = (asked.trip.size as u64, asked.trip.reply as u64);
        self.recorder
            .ok(asked.intended, asked.started, now, up, down);
    }

    /// A round trip is over: the next one of the closed model, or one that is late.
    fn go_on(&mut self, now: Instant) {
        if self.load.rate.is_none() && !self.is_ending {
            self.want(Start {
                intended: now,
                place: None,
            });
        }
        self.dispatch(now);
    }

    fn fault(&mut self, connection: u32, text: String) {
        self.faults += 1;
        self.recorder.error(ErrorKind::Mismatch);
        let text = format!("connection {connection}: {text}");
        self.first_fault.get_or_insert(text);
        if let Some(lane) = self.close(connection) {
            let now = Instant::now();
            self.missed(&lane, now);
            self.vacate(&lane, now);
        }
    }

    /// Takes a connection out and tells the other side.
    fn close(&mut self, connection: u32) -> Option<Lane> {
        let lane = self.remove(connection)?;
        let kind = MessageKind::ConnectionReset;
        self.route.control(kind, connection, &mut self.control);
        Some(lane)
    }

    fn remove(&mut self, connection: u32) -> Option<Lane> {
        let lane = self.lanes.remove(&connection)?;
        self.recorder.closed();
        if let Some(place) = lane.place {
            self.desk.connect(place, None);
        }
        Some(lane)
    }

    /// The other side has ended a connection before its time.
    fn cut(&mut self, connection: u32) {
        let Some(lane) = self.remove(connection) else {
            return;
        };
        let now = Instant::now();
        match self.stall.as_mut() {
            Some(stall) if stall.may_cut(connection, now) => stall.cut(),
            _ => note_loss(&self.recorder, &lane, ErrorKind::Reset),
        }
        self.missed(&lane, now);
        self.vacate(&lane, now);
    }
}

/// A connection that waits for its next round trip takes no operation with it.
fn note_loss(recorder: &Recorder, lane: &Lane, kind: ErrorKind) {
    match (lane.purpose, lane.asked) {
        (Purpose::Ask, None) => recorder.connection_error(kind),
        _ => recorder.error(kind),
    }
}

/// Before the next round trip of a place whose last one failed, as over TCP before a connection that failed is opened
/// anew. It is over with the first tick behind it.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
