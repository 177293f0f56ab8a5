//! The middle of a tunnel: what it takes from one side, checks, and hands to the other.
//!
//! Follow a message: [`Relay::handle_input`] finds it, `exchange` checks it (`label`, `table`,
//! `link`) and asks the state machine of its service (`service`, `from_source`,
//! `from_destination`) what the other side is to see; `run` notes where those bytes are.
//!
//! *Not* here: sockets, TLS, queues of data, who may connect. The relay keeps no application data
//! but one message in pieces and what it had to rewrite for a peer of another dialect.

mod counters;
mod exchange;
mod forward;
mod from_destination;
mod from_source;
mod label;
mod link;
mod quota;
mod run;
mod service;
mod table;
#[cfg(test)]
pub(super) mod tests;

pub use counters::Counters;
pub use forward::{Composer, Frames};
pub use quota::Quotas;
pub use run::{Run, RunPlace};

use super::error::PeerError;
use super::flow::Flow;
use super::inbound::Item;
use super::outbox::Outbox;
use adit_proto::ids::{Mode, ServiceId, Subprotocol};
use adit_proto::limits::MAX_SERVICE_IDS;
use adit_proto::websocket::CloseCode;
use exchange::{Bytes, Exchange, control};
use label::Label;
use link::{Phase, Side};
use quota::Quota;
use run::Runs;
use std::sync::Arc;
use std::time::Instant;
use table::Table;

/// One tunnel at the relay (specification 8.4 and 12).
///
/// Contract of the driver:
/// - After every [`Self::handle_input`], whatever it returned, take [`Self::runs`] and then
///   [`Self::clear_runs`], before any other call. On an error they are what came before it.
/// - Towards one side, what its [`Self::outbox`] holds leaves before the runs that are taken after
///   it was put there, and behind the runs taken before: a reset must not overtake data.
/// - Tell it the time by [`Self::tick`] before input, without which there are no quotas, and with them read
///   [`Self::poll_timeout`] before waiting.
/// - A side is read only while the bytes taken for the other one are within the driver's bound.
///
/// Memory: per side one partial message (65,537 bytes) and the outbox; 64 KiB and one message of
/// rewritten bytes; under 100 bytes for each service. Nothing for each connection.
pub struct Relay {
    table: Table,
    source: Side,
    destination: Side,
    runs: Runs,
    /// Whose input the runs are, to find an assembled message.
    runs_from: Mode,
    quota: Quota,
}

impl Relay {
    /// A tunnel that nobody has connected to.
    ///
    /// The control plane opens none with more than [`MAX_SERVICE_IDS`] services; the sides would
    /// not be told of more.
    pub fn new(services: Arc<[ServiceId]>) -> Self {
        debug_assert!(
            services.len() <= MAX_SERVICE_IDS,
            "{} services",
            services.len()
        );
        Self {
            table: Table::new(services),
            source: Side::default(),
            destination: Side::default(),
            runs: Runs::default(),
            runs_from: Mode::Source,
            quota: Quota::default(),
        }
    }

    /// Sets what the tunnel may carry from now on; at first it is as much as comes.
    pub fn limit(&mut self, quotas: Quotas) {
        self.quota.set(quotas);
    }

    /// Whether the tunnel has services.
    pub fn has_services(&self) -> bool {
        self.table.has_names()
    }

    /// Time goes on; see [`Self::poll_timeout`]. It never goes backwards.
    pub fn tick(&mut self, now: Instant) {
        self.quota.told(now);
    }

    /// When a side may be read again that a quota holds back: call [`Self::tick`] then and
    /// [`Self::handle_input`] again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sides = [Mode::Source, Mode::Destination].into_iter();
        let present = sides.filter(|side| self.is_present(*side));
        present.filter_map(|side| self.quota.over_until(side)).min()
    }

    /// A WebSocket of `side` was admitted. The first thing it gets is the list of services.
    ///
    /// If it replaces another, the driver calls [`Self::lost`] first (specification 12, item 10).
    pub fn connected(&mut self, side: Mode, offered: Subprotocol) {
        debug_assert!(!self.is_present(side), "a replaced WebSocket is lost first");
        self.lost(side);
        let link = match side {
            Mode::Source => &mut self.source.link,
            Mode::Destination => &mut self.destination.link,
        };
        link.begin(offered);
        // Specification 19: a V1 client does not know the message, but a reference client that was
        // told to offer 1.0 needs it.
        let ignorable = offered == Subprotocol::V1;
        let ids = self.table.ids().iter().take(MAX_SERVICE_IDS);
        link.outbox.push_service_ids(ids, ignorable);
    }

    /// The peer of `side`, just connected, is of one of AWS's SDKs. They offer 3.0 always, and keep to the form in which
    /// the first stream is started: their Device Client answers in none but that of V1 (control plane specification 13.3),
    /// so nothing is added to that.
    pub fn adapt_to_sdk(&mut self, side: Mode) {
        let link = match side {
            Mode::Source => &mut self.source.link,
            Mode::Destination => &mut self.destination.link,
        };
        link.adapt_to_sdk();
    }

    /// The WebSocket of `side` is gone: every stream is over, and the other side is told
    /// (specification 8.4). Runs not taken are void.
    pub fn lost(&mut self, side: Mode) {
        self.runs.clear();
        let (own, other) = match side {
            Mode::Source => (&mut self.source, &mut self.destination.link),
            Mode::Destination => (&mut self.destination, &mut self.source.link),
        };
        own.inbound.reset();
        let is_named = own.link.names_services();
        own.link.forget();
        for index in 0..self.table.count() {
            let ended = self.table.service(index).on_lost(side);
            // No STREAM_RESET in front of a close frame: a reference source stops reading at the
            // reset (specification 17, Q-05) and would not learn that the tunnel is over.
            if let Some(stream) = ended
                && other.is_open()
            {
                let is_named = other.wants_names().unwrap_or(is_named);
                let name = self.table.name(index, is_named);
                other
                    .outbox
                    .push(&control(Label::stream_reset(stream), name));
            }
        }
    }

    /// Whether `side` has a WebSocket, be it one that is being closed.
    pub fn is_present(&self, side: Mode) -> bool {
        self.side(side).link.phase != Phase::Absent
    }

    /// Reads decrypted WebSocket bytes, `buffer[*position..]`, that came from `from`.
    ///
    /// Unless it is [`Flow::Done`], call again with the same bytes, unmoved: after
    /// [`Flow::Deliver`] when the runs are taken, after [`Flow::Paused`] when the outbox of `from`
    /// has drained, or at [`Self::poll_timeout`]. After an error or [`Flow::Closed`] whatever still comes is thrown away.
    ///
    /// # Errors
    /// The peer broke the protocol. Nothing from the offending message on was passed on. Call
    /// [`Self::close`] with its code and reason, and [`Self::lost`] once that has left.
    pub fn handle_input(
        &mut self,
        from: Mode,
        buffer: &mut [u8],
        position: &mut usize,
    ) -> Result<Flow, PeerError> {
        self.runs_from = from;
        let result = self.read(from, buffer, position);
        if result.is_err() {
            self.side_mut(from).link.phase = Phase::Failed;
        }
        result
    }

    /// What goes to the other side than the one `handle_input` was called for, in order.
    pub fn runs(&self) -> &[Run] {
        self.runs.as_slice()
    }

    /// The bytes of a run; `buffer` is the one `handle_input` was called with.
    pub fn run_bytes<'a>(&'a self, run: &Run, buffer: &'a [u8]) -> &'a [u8] {
        match &run.place {
            RunPlace::Buffer(range) => &buffer[range.clone()],
            RunPlace::Assembled => self.side(self.runs_from).inbound.assembled_with_prefix(),
            RunPlace::Rewritten(range) => &self.runs.scratch()[range.clone()],
        }
    }

    /// The runs were taken.
    pub fn clear_runs(&mut self) {
        self.runs.clear();
    }

    /// Control messages, pongs and the close frame for `side`.
    pub fn outbox(&mut self, side: Mode) -> &mut Outbox {
        &mut self.side_mut(side).link.outbox
    }

    /// Ends the WebSocket of `side` with a close frame. Its peer is not told before
    /// [`Self::lost`], so that a tunnel can be closed on both sides.
    pub fn close(&mut self, side: Mode, code: CloseCode, reason: &'static str) {
        let link = &mut self.side_mut(side).link;
        match link.phase {
            Phase::Absent => return,
            Phase::Open(_) => link.phase = Phase::Closing,
            Phase::Closing | Phase::Failed => {}
        }
        link.outbox.close(code, reason);
    }

    /// What became of the messages of `side`.
    pub fn counters(&self, side: Mode) -> &Counters {
        &self.side(side).link.counters
    }

    fn read(
        &mut self,
        from: Mode,
        buffer: &mut [u8],
        position: &mut usize,
    ) -> Result<Flow, PeerError> {
        let (Side { inbound, link }, other) = match from {
            Mode::Source => (&mut self.source, &self.destination.link),
            Mode::Destination => (&mut self.destination, &self.source.link),
        };
        loop {
            match link.phase {
                Phase::Open(_) if self.runs.is_full() => return Ok(Flow::Deliver),
                // A message is answered with one message at most, so this bounds the outbox.
                Phase::Open(_) if link.outbox.is_full() => return Ok(Flow::Paused),
                Phase::Open(_) if self.quota.over_until(from).is_some() => {
                    return Ok(Flow::Paused);
                }
                Phase::Open(_) | Phase::Closing => {}
                Phase::Absent | Phase::Failed => {
                    *position = buffer.len();
                    return Ok(Flow::Done);
                }
            }
            let start = *position;
            let item = inbound.next(buffer, position)?;
            self.quota.received(*position - start);
            let Some(item) = item else {
                let idle_frames = inbound.take_idle_frames();
                if idle_frames > 0
                    && let Some(now) = self.quota.now()
                {
                    link.chatter.heard(now, idle_frames)?;
                }
                return Ok(Flow::Done);
            };
            let is_closing = link.phase == Phase::Closing;
            match item {
                Item::Close(code, _) => {
                    // RFC 6455 §5.5.1: answered, unless it is the answer.
                    link.outbox.close(CloseCode::Normal, "");
                    link.phase = Phase::Failed;
                    return Ok(Flow::Closed(code));
                }
                Item::Message(_) | Item::Ping(_) if is_closing => {}
                Item::Message(place) => {
                    let mut exchange = Exchange {
                        from,
                        table: &mut self.table,
                        own: link,
                        other,
                        runs: &mut self.runs,
                        quota: &mut self.quota,
                    };
                    exchange.handle(Bytes {
                        buffer,
                        assembled: inbound.assembled(),
                        place: &place,
                    })?;
                }
                Item::Ping(payload) => {
                    link.counters.pings += 1;
                    link.outbox.pong(payload);
                }
                // Specification 2.1: the service ignores it.
                Item::Pong(_) => {}
            }
        }
    }

    fn side(&self, side: Mode) -> &Side {
        match side {
            Mode::Source => &self.source,
            Mode::Destination => &self.destination,
        }
    }

    fn side_mut(&mut self, side: Mode) -> &mut Side {
        match side {
            Mode::Source => &mut self.source,
            Mode::Destination => &mut self.destination,
        }
    }
}
