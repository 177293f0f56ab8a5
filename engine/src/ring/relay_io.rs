//! Drives one [`Relay`]: two WebSockets, each record opened, checked, and sealed into the other
//! side's.

mod leaving;
mod side;

use self::leaving::Leaving;
use self::side::Side;
use super::backend::Ready;
use super::handle::{Admitted, LinkEnd};
use super::io::{Io, Owner};
use super::link_io::{LinkFault, LinkIo, Received};
use super::socket;
use crate::failpoint::failpoint;
use crate::link::{Grant, Link};
use crate::tls::MAX_PLAINTEXT;
use crate::tunnel::error::PeerError;
use crate::tunnel::flow::Flow;
use crate::tunnel::relay::{Quotas, Relay};
use adit_proto::ids::{Mode, ServiceId, Subprotocol, TunnelId};
use adit_proto::websocket::CloseCode;
use std::sync::Arc;
use std::time::Instant;

/// Times that one turn reads one side (256 KiB each) before others get theirs.
const READS_PER_TURN: usize = 2;

/// Output that one opened record can cause on the other side: one message of several records
/// (65,537 bytes), what else the record holds, as much again for longer headers, and frame headers.
const ROOM_PER_RECORD: usize = 65_537 + 2 * MAX_PLAINTEXT;

/// One tunnel at the relay.
pub(super) struct RelayIo {
    tunnel: u32,
    id: TunnelId,
    relay: Relay,
    /// Source, destination.
    sides: [Option<Side>; 2],
    /// The link of each that was ended last, if something still waits for it.
    leaving: [Option<Leaving>; 2],
}

const SIDES: [Mode; 2] = [Mode::Source, Mode::Destination];

const fn index_of(mode: Mode) -> usize {
    match mode {
        Mode::Source => 0,
        Mode::Destination => 1,
    }
}

impl RelayIo {
    pub(super) fn new(tunnel: u32, id: TunnelId, services: Arc<[ServiceId]>) -> Self {
        Self {
            tunnel,
            id,
            relay: Relay::new(services),
            sides: [None, None],
            leaving: [None, None],
        }
    }

    pub(super) fn id(&self) -> &TunnelId {
        &self.id
    }

    /// Without a side it holds nothing worth keeping but what waits for those that leave: streams end
    /// with their sides.
    pub(super) fn is_over(&self) -> bool {
        self.side_count() == 0 && self.leaving.iter().all(Option::is_none)
    }

    /// When time alone gives it something to do.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let sides = self.sides.iter().flatten();
        let looks = sides.filter_map(|side| side.silence.check_at);
        let ends = self.leaving.iter().flatten().map(Leaving::until);
        looks.chain(self.relay.poll_timeout()).chain(ends).min()
    }

    /// `side`: the index of one, or of one that leaves behind those.
    pub(super) fn link_ready(&mut self, side: u8, ready: &Ready) {
        let index = usize::from(side);
        let link = match index.checked_sub(SIDES.len()) {
            None => self.sides[index].as_mut().map(|side| &mut side.link),
            Some(index) => self.leaving[index].as_mut().map(|it| &mut it.link),
        };
        if let Some(link) = link {
            link.ready(ready);
        }
    }

    /// Takes an admitted WebSocket; an earlier one of its side is closed (specification 12.10).
    pub(super) fn attach(&mut self, io: &mut Io, admitted: Admitted, link: Link) {
        let Grant {
            mode,
            session,
            bytes_per_second,
            connections_per_second,
            ref services,
            ..
        } = admitted.grant;
        let services = Arc::clone(services);
        let present = self.sides[index_of(mode)].as_ref();
        if present.is_some_and(|side| side.admitted.grant.session > session) {
            // Two handshakes overtook each other on the way here; the later admitted one stays.
            return;
        }
        if present.is_some() {
            self.relay
                .close(mode, CloseCode::Normal, "replaced by a newer connection");
            self.drop_side(io, mode, true);
        }
        if !self.relay.has_services() && !services.is_empty() {
            self.begin_anew(io, services);
        }
        let owner = Owner::Link {
            tunnel: self.tunnel,
            side: index_of(mode) as u8,
        };
        let socket = match io.insert(link.socket, owner) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(%error, "a link's socket cannot be watched");
                return;
            }
        };
        socket::keep_unsent_short(io.fd(socket));
        let link_io = LinkIo::new(
            socket,
            link.records,
            &link.opened,
            &link.unread,
            &mut io.buffers,
        );
        self.relay.limit(Quotas {
            bytes_per_second,
            connections_per_second,
        });
        admitted.attached();
        self.sides[index_of(mode)] = Some(Side::new(link_io, admitted));
        // What the server half has agreed on: the first that the client offered.
        let offered = Subprotocol::parse(&link.subprotocol).unwrap_or(Subprotocol::V3);
        self.relay.connected(mode, offered);
        if link.is_nameless {
            self.relay.adapt_to_sdk(mode);
        }
        // SERVICE_IDS is the first thing that it hears (specification 7.1).
        self.send(io, mode);
    }

    /// A rotation has brought services to a tunnel that had none (control plane specification 7). Whoever is there was told
    /// that there are none, which is not to be said twice (specification 7.1): cut off without a close frame, it comes back,
    /// unless it has no client token.
    fn begin_anew(&mut self, io: &mut Io, services: Arc<[ServiceId]>) {
        for mode in SIDES {
            self.drop_side(io, mode, false);
        }
        self.relay = Relay::new(services);
    }

    /// Closes one side, if its session is this one or an earlier one: its token was replaced, or the client is at another
    /// relay by now.
    pub(super) fn end_side(&mut self, io: &mut Io, mode: Mode, newest: u64) {
        let present = self.sides[index_of(mode)].as_ref();
        if present.is_none_or(|side| side.admitted.grant.session > newest) {
            return;
        }
        self.relay.close(
            mode,
            CloseCode::Normal,
            "access token rotated, or used elsewhere",
        );
        self.drop_side(io, mode, true);
    }

    /// Closes both sides: the tunnel is over.
    pub(super) fn end(&mut self, io: &mut Io) {
        // Both before either is dropped: a peer that is closing hears of no stream resets, which
        // would keep the reference from seeing the close frame (specification 17, Q-05).
        for mode in SIDES {
            self.relay
                .close(mode, CloseCode::Normal, "tunnel is closed");
        }
        for mode in SIDES {
            self.drop_side(io, mode, true);
        }
    }

    /// One turn: a bounded share of both directions. Returns whether more is to be done at once.
    pub(super) fn turn(&mut self, io: &mut Io) -> bool {
        failpoint("relay-turn", &self.id);
        let sides = self.side_count();
        for side in self.sides.iter_mut().flatten() {
            let fd = io.fd(side.link.socket);
            if side.silence.look(io.now, || socket::echo(fd)) {
                side.fault = Some(LinkFault::Silent);
            }
            side.link.way.look(io.now, fd);
        }
        self.relay.tick(io.now);
        let mut again = false;
        let mut was_held = [false; 2];
        for mode in SIDES {
            again |= self.receive(io, mode);
            was_held[index_of(mode)] = self.is_held(mode);
        }
        for mode in SIDES {
            again |= self.send(io, mode);
        }
        for mode in SIDES {
            again |= was_held[index_of(mode)] && !self.is_held(mode);
        }
        // A side that is over ended the other one's streams, and what it had no room for is void:
        // that one may have had its turn, and no event tells it.
        again |= self.side_count() < sides;
        for side in self.sides.iter_mut().flatten() {
            side.link.release(&mut io.buffers);
        }
        for place in &mut self.leaving {
            again |= place.as_mut().is_some_and(|leaving| leaving.turn(io));
            place.take_if(|leaving| leaving.end_if_over(io));
        }
        again
    }

    fn side_count(&self) -> usize {
        self.sides.iter().flatten().count()
    }

    /// Whether a side is not read because of what waits to be sent to itself. No event tells when
    /// that has left.
    fn is_held(&mut self, mode: Mode) -> bool {
        let side = self.sides[index_of(mode)].as_ref();
        self.relay.outbox(mode).is_full() || side.is_some_and(|side| side.link.is_held())
    }

    /// Reads one side. Returns whether the turn ended before its bytes did.
    fn receive(&mut self, io: &mut Io, from: Mode) -> bool {
        for _ in 0..READS_PER_TURN {
            match self.receive_once(io, from) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(end) => {
                    self.end_link(io, from, &end);
                    return false;
                }
            }
        }
        true
    }

    /// Carries out what is in the buffer, then reads once. `Ok(true)`: there may be more.
    fn receive_once(&mut self, io: &mut Io, from: Mode) -> Result<bool, LinkEnd> {
        if !self.forward_opened(io, from)? {
            return Ok(false);
        }
        let Some(side) = &mut self.sides[index_of(from)] else {
            return Ok(false);
        };
        match side.link.receive(io) {
            Ok(Received::Some) => self.forward_opened(io, from),
            Ok(Received::Nothing) => Ok(false),
            Ok(Received::Ended) => Err(LinkEnd::of(&LinkFault::Ended)),
            Err(error) => Err(LinkEnd::of(&LinkFault::Io(error))),
        }
    }

    /// Opens records and forwards them until the buffer is used up (`true`), or the other side
    /// has no room for what the next one may bring, or the answers to this side pile up.
    fn forward_opened(&mut self, io: &mut Io, from: Mode) -> Result<bool, LinkEnd> {
        loop {
            if !self.make_room(io, from.other()) {
                return Ok(false);
            }
            let Some(side) = &mut self.sides[index_of(from)] else {
                return Ok(false);
            };
            // Opening may make the record layer seal something of its own, with keys that it then
            // replaces: what was composed before is sealed before.
            side.finish(io);
            match side.link.open() {
                Ok(true) => {}
                Ok(false) => return Ok(true),
                Err(fault) => return Err(LinkEnd::of(&fault)),
            }
            let (buffer, position) = side.link.opened();
            let flow = self.relay.handle_input(from, buffer, position);
            self.forward_runs(io, from);
            match flow {
                Ok(Flow::Done) => {
                    if let Some(side) = &mut self.sides[index_of(from)] {
                        side.link.opened_done();
                    }
                }
                Ok(Flow::Deliver) => {}
                Ok(Flow::Paused) => return Ok(false),
                Ok(Flow::Closed(code)) => return Err(LinkEnd::Closed(code)),
                Err(error) => {
                    if error == PeerError::Chatter
                        && let Some(left_out) = io.complaints.admit(io.now)
                    {
                        tracing::warn!(
                            tunnel = %self.id,
                            side = from.as_str(),
                            reason = %error,
                            left_out,
                            "a link of a tunnel is closed"
                        );
                    }
                    self.relay
                        .close(from, error.close_code(), error.close_reason());
                    return Err(LinkEnd::Violation(error.to_string()));
                }
            }
        }
    }

    /// Whether the side can take what one more record of the other may bring, behind all that
    /// waits for it already: what was caused earlier goes earlier, or a reset of an old stream
    /// would follow the start of a new one. What was composed is offered to its socket if that is
    /// what it takes.
    fn make_room(&mut self, io: &mut Io, to: Mode) -> bool {
        loop {
            self.compose_outbox(io, to);
            let Some(side) = &mut self.sides[index_of(to)] else {
                return true;
            };
            let is_settled = !self.relay.outbox(to).is_waiting();
            if side.fault.is_some() || (is_settled && side.link.has_room_for(ROOM_PER_RECORD)) {
                return true;
            }
            // A socket that takes nothing is full, and tells when it is not.
            if !side.flush(io) {
                return side.fault.is_some();
            }
        }
    }

    fn forward_runs(&mut self, io: &mut Io, from: Mode) {
        let [source, destination] = &mut self.sides;
        let (side, other) = match from {
            Mode::Source => (source, destination),
            Mode::Destination => (destination, source),
        };
        if let (Some(side), Some(other)) = (side, other) {
            let buffer = side.link.input_bytes_mut();
            other.forward(io, &self.relay, buffer);
            failpoint("relay-forward", &self.id);
        }
        self.relay.clear_runs();
    }

    /// Composes the control messages and frames that wait for a side.
    fn compose_outbox(&mut self, io: &mut Io, to: Mode) {
        if let Some(side) = &mut self.sides[index_of(to)] {
            side.compose(io, self.relay.outbox(to));
        }
    }

    /// Sends what a side has waiting. Returns whether it is to be read at once, since it has failed.
    fn send(&mut self, io: &mut Io, to: Mode) -> bool {
        loop {
            self.compose_outbox(io, to);
            let Some(side) = &mut self.sides[index_of(to)] else {
                return false;
            };
            let has_sent = side.flush(io);
            match side.fault.take() {
                None => {}
                // Its peer is gone, but may have said all that it had to say, and the other side not have taken it yet.
                Some(LinkFault::Io(failure)) => {
                    side.link.deafen(failure);
                    return true;
                }
                Some(fault) => {
                    self.end_link(io, to, &LinkEnd::of(&fault));
                    return false;
                }
            }
            // Sending may have made the room that composing lacked, and a socket that took
            // everything reports no edge.
            if !has_sent || !self.relay.outbox(to).is_waiting() {
                return false;
            }
        }
    }

    fn end_link(&mut self, io: &mut Io, side: Mode, end: &LinkEnd) {
        tracing::debug!(side = side.as_str(), ?end, "a link of a tunnel ended");
        if let LinkEnd::Closed(_) = end {
            self.relay.close(side, CloseCode::Normal, "");
        }
        self.drop_side(io, side, !matches!(end, LinkEnd::Lost(_)));
    }

    /// Closes a side. `is_polite`: its peer may still listen, so it is told why, behind all that
    /// waits for it.
    fn drop_side(&mut self, io: &mut Io, mode: Mode, is_polite: bool) {
        let Some(mut side) = self.sides[index_of(mode)].take() else {
            return;
        };
        side.finish(io);
        let outbox = std::mem::take(self.relay.outbox(mode));
        self.relay.lost(mode);
        if is_polite && side.fault.is_none() {
            self.see_off(io, mode, Leaving::new(side.link, outbox, io.now));
        } else {
            // Best effort: an alert says what was wrong, to a peer that may be gone.
            let _ = side.link.flush(io);
            io.end(side.link.socket);
        }
        // The other side hears of it now, before anything newer reaches it.
        self.compose_outbox(io, mode.other());
    }

    /// Sends what waits for a link that was ended, and keeps it while there is more. One that its
    /// side still keeps from earlier is cut.
    fn see_off(&mut self, io: &mut Io, mode: Mode, mut leaving: Leaving) {
        let index = index_of(mode);
        leaving.turn(io);
        if leaving.end_if_over(io) {
            return;
        }
        let owner = Owner::Link {
            tunnel: self.tunnel,
            side: (SIDES.len() + index) as u8,
        };
        io.set_owner(leaving.link.socket, owner);
        if let Some(earlier) = self.leaving[index].replace(leaving) {
            io.end(earlier.link.socket);
        }
    }
}
