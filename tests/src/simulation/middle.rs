//! The relay: the real core, and a driver that does what the product's does.

mod seat;

use self::seat::{FRAME, Seat};
use super::bugs::Bug;
use super::gate::at;
use super::input::Input;
use super::link::LinkId;
use super::pipe::Got;
use super::scene::Scene;
use super::tamper::Tamper;
use adit_engine::tunnel::compose::{End, finish_frame};
use adit_engine::tunnel::flow::Flow;
use adit_engine::tunnel::relay::{Counters, Relay};
use adit_proto::ids::Mode;
use adit_proto::websocket::CloseCode;
use anyhow::{Context, Result, ensure};
use std::time::Instant;

/// Both sides.
pub(super) const SIDES: [Mode; 2] = [Mode::Source, Mode::Destination];

/// Output that one record of the other side can cause: as `ROOM_PER_RECORD` of the product's driver,
/// and frame headers.
const ROOM: usize = 65_537 + 2 * FRAME + 1_000;

/// One tunnel at the relay.
pub(super) struct Middle {
    relay: Relay,
    sides: [Option<Seat>; 2],
    tamper: Tamper,
    /// What became of the source's messages, as of the last look.
    counted: Counters,
    /// Planted mistakes: links that were replaced, and what was not read of the last one.
    ghosts: [Option<LinkId>; 2],
    leftover: [Vec<u8>; 2],
}

impl Middle {
    /// A tunnel that nobody has connected to.
    #[must_use]
    pub(super) fn new(scene: &Scene) -> Self {
        let services = scene.profile.services.iter().cloned().collect();
        Self {
            relay: Relay::new(services),
            sides: [None, None],
            tamper: Tamper::new(scene.bug),
            counted: Counters::default(),
            ghosts: [None, None],
            leftover: Default::default(),
        }
    }

    /// The link of a side.
    #[must_use]
    pub(super) fn link(&self, mode: Mode) -> Option<LinkId> {
        self.sides[at(mode)].as_ref().map(|seat| seat.link)
    }

    /// Whether nothing waits.
    #[must_use]
    pub(super) fn is_idle(&mut self) -> bool {
        SIDES.into_iter().all(|mode| {
            let is_silent = !self.relay.outbox(mode).is_waiting();
            let seat = self.sides[at(mode)].as_ref();
            is_silent && seat.is_none_or(|seat| seat.input.is_none() && seat.out.size() == 0)
        })
    }

    /// What is left, for people.
    pub(super) fn state(&self) -> String {
        let seats = self.sides.iter().flatten().map(|seat| {
            let unread = seat.input.as_ref().is_some_and(Input::has_more);
            format!(
                "{:?}, unread {unread}, {} bytes unsent",
                seat.link,
                seat.out.size()
            )
        });
        seats.collect::<Vec<_>>().join(", ")
    }

    /// Bytes that wait for the links.
    pub(super) fn unsent(&self) -> usize {
        let seats = self.sides.iter().flatten();
        seats.map(|seat| seat.out.size()).sum()
    }

    /// When a side may be read again.
    #[must_use]
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.relay.poll_timeout()
    }

    /// Connections that the relay may have refused since last asked, at most. `is_calm`: nothing was
    /// lost and nobody refused, so that nothing came too late either, unless the destination did.
    pub(super) fn take_refusals(&mut self, is_calm: bool) -> u64 {
        let now = *self.relay.counters(Mode::Source);
        let before = std::mem::replace(&mut self.counted, now);
        let absent = now.absent - before.absent;
        let certain = absent + (now.busy - before.busy) + (now.unable - before.unable);
        match is_calm && absent == 0 {
            true => certain,
            false => certain + (now.stale - before.stale),
        }
    }

    /// Takes an admitted link; an earlier one of its side is closed.
    ///
    /// # Errors
    /// The core does what it must not.
    pub(super) fn attach(&mut self, scene: &mut Scene, id: LinkId) -> Result<()> {
        let link = scene.link(id);
        let (mode, session, offered) = (link.mode, link.session, link.offered);
        let is_hostile = link.is_hostile;
        if let Some(seat) = &self.sides[at(mode)] {
            if seat.session > session {
                scene.note(|| format!("{mode}'s link {id:?} comes too late"));
                scene.link(id).reset();
                return Ok(());
            }
            if scene.bug == Some(Bug::ReplacedSpeaks) {
                self.ghosts[at(mode)] = Some(seat.link);
            }
            self.relay
                .close(mode, CloseCode::Normal, "replaced by a newer connection");
            self.drop_side(scene, mode, true)?;
        }
        scene.note(|| format!("{mode}'s link {id:?} is attached, session {session}, {offered:?}"));
        let leftover = std::mem::take(&mut self.leftover[at(mode)]);
        self.relay.limit(scene.profile.quotas);
        let mut seat = Seat::new(id, session, is_hostile);
        seat.input = (!leftover.is_empty()).then(|| Input::new(leftover));
        self.sides[at(mode)] = Some(seat);
        self.tamper.connected(mode);
        self.relay.connected(mode, offered);
        if is_hostile {
            scene.taint();
        }
        self.send(scene, mode)
    }

    /// Closes a side whose session is this one or an earlier one: its token was replaced.
    ///
    /// # Errors
    /// The core does what it must not.
    pub(super) fn end_side(&mut self, scene: &mut Scene, mode: Mode, newest: u64) -> Result<()> {
        let seat = self.sides[at(mode)].as_ref();
        if seat.is_none_or(|seat| seat.session > newest) {
            return Ok(());
        }
        self.relay.close(
            mode,
            CloseCode::Normal,
            "access token rotated, or used elsewhere",
        );
        self.drop_side(scene, mode, true)
    }

    /// Closes both sides: the tunnel is over.
    ///
    /// # Errors
    /// The core does what it must not.
    pub(super) fn end_tunnel(&mut self, scene: &mut Scene) -> Result<()> {
        for mode in SIDES {
            if scene.bug == Some(Bug::EternalLinks) || self.sides[at(mode)].is_none() {
                continue;
            }
            self.relay.close(mode, CloseCode::Normal, "tunnel closed");
            self.drop_side(scene, mode, true)?;
        }
        Ok(())
    }

    /// Pings that this side has sent so far, over all its links.
    #[must_use]
    pub(super) fn pings(&self, mode: Mode) -> u64 {
        self.relay.counters(mode).pings
    }

    /// Reads one side once.
    ///
    /// # Errors
    /// An honest peer is refused, or a bound does not hold.
    pub(super) fn receive(&mut self, scene: &mut Scene, from: Mode) -> Result<()> {
        self.relay.tick(scene.now);
        if !self.make_room(scene, from.other()) {
            return Ok(());
        }
        let Some(seat) = &mut self.sides[at(from)] else {
            return Ok(());
        };
        if seat.input.is_none() {
            let ghost = self.ghosts[at(from)].filter(|_| scene.mischief.chance(500));
            let id = ghost.filter(|id| scene.links.contains_key(id));
            let id = id.unwrap_or(seat.link);
            let max = scene.read_size();
            let now = scene.now;
            match scene.link(id).up.read(now, max) {
                Got::Bytes(bytes) => seat.input = Some(Input::new(bytes)),
                Got::Nothing => return Ok(()),
                Got::Ended | Got::Reset if id != seat.link => return Ok(()),
                Got::Ended | Got::Reset => return self.drop_side(scene, from, false),
            }
            scene.moved += 1;
        }
        self.read(scene, from)
    }

    fn read(&mut self, scene: &mut Scene, from: Mode) -> Result<()> {
        let Some(mut input) = self.sides[at(from)]
            .as_mut()
            .and_then(|seat| seat.input.take())
        else {
            return Ok(());
        };
        let is_hostile = self.sides[at(from)]
            .as_ref()
            .is_some_and(|seat| seat.is_hostile);
        while self.make_room(scene, from.other()) && input.open(scene) {
            let (bytes, position) = (&mut input.bytes[..input.opened], &mut input.position);
            let before = *position;
            let flow = self.relay.handle_input(from, bytes, position);
            scene.moved += (*position - before) as u64;
            self.forward(scene, from, &mut input.bytes)?;
            match flow {
                Ok(Flow::Done) => input.is_open = false,
                Ok(Flow::Deliver) => {}
                Ok(Flow::Paused) => break,
                Ok(Flow::Closed(_)) => {
                    self.relay.close(from, CloseCode::Normal, "");
                    return self.drop_side(scene, from, true);
                }
                Err(error) if is_hostile => {
                    self.relay
                        .close(from, error.close_code(), error.close_reason());
                    return self.drop_side(scene, from, true);
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("an honest {from} is refused"));
                }
            }
        }
        if input.has_more()
            && let Some(seat) = &mut self.sides[at(from)]
        {
            seat.input = Some(input);
        }
        Ok(())
    }

    /// Whether a side can take what one record of the other may bring, behind all that waits for it.
    fn make_room(&mut self, scene: &mut Scene, to: Mode) -> bool {
        if scene.bug == Some(Bug::BoundOfOutput) {
            return true;
        }
        self.compose_outbox(scene, to);
        let is_settled = !self.relay.outbox(to).is_waiting();
        let Some(seat) = &self.sides[at(to)] else {
            return true;
        };
        is_settled && seat.out.size() < scene.profile.network.output_mark
    }

    fn forward(&mut self, scene: &mut Scene, from: Mode, buffer: &mut [u8]) -> Result<()> {
        let to = from.other();
        let Some(seat) = &mut self.sides[at(to)] else {
            self.relay.clear_runs();
            return Ok(());
        };
        seat.forward(&self.relay, buffer, &mut self.tamper.towards(scene, to));
        self.relay.clear_runs();
        let size = seat.out.size();
        let max = scene.profile.network.output_mark + FRAME + ROOM;
        ensure!(
            size <= max,
            "{size} bytes wait for the {to}, {max} is the bound"
        );
        Ok(())
    }

    fn compose_outbox(&mut self, scene: &mut Scene, to: Mode) {
        let Some(seat) = &mut self.sides[at(to)] else {
            return;
        };
        let outbox = self.relay.outbox(to);
        if outbox.is_waiting() {
            seat.finish(&mut self.tamper.towards(scene, to));
        }
        while outbox.is_waiting() && seat.out.size() < scene.profile.network.output_mark {
            let mut frame = Vec::new();
            if outbox.write_frame(None, &mut frame) {
                seat.out.push(&frame);
                continue;
            }
            let mut area = vec![0; FRAME];
            let room = End::Server.header_room();
            let (size, _) = outbox.write_messages(&mut area[room..]);
            if size == 0 {
                return;
            }
            let size = finish_frame(&mut area, End::Server, size, [0; 4]);
            let mut way = self.tamper.towards(scene, to);
            seat.out.push(&way.renumber(&area[..size]));
        }
    }

    /// Offers to a side's link what waits for it.
    ///
    /// # Errors
    /// The core does what it must not.
    pub(super) fn send(&mut self, scene: &mut Scene, to: Mode) -> Result<()> {
        self.compose_outbox(scene, to);
        let Some(seat) = &mut self.sides[at(to)] else {
            return Ok(());
        };
        seat.finish(&mut self.tamper.towards(scene, to));
        let id = seat.link;
        let now = scene.now;
        let link = scene.links.get_mut(&id).context("its link exists")?;
        if link.down.is_reset() {
            return self.drop_side(scene, to, false);
        }
        let count = link.down.write(now, &mut scene.dice, seat.out.waiting());
        seat.out.consume(count);
        scene.moved += count as u64;
        Ok(())
    }

    fn drop_side(&mut self, scene: &mut Scene, mode: Mode, is_polite: bool) -> Result<()> {
        if is_polite {
            self.compose_outbox(scene, mode);
        }
        let Some(mut seat) = self.sides[at(mode)].take() else {
            return Ok(());
        };
        seat.finish(&mut self.tamper.towards(scene, mode));
        let now = scene.now;
        let link = scene.links.get_mut(&seat.link).context("its link exists")?;
        link.down.write(now, &mut scene.dice, seat.out.waiting());
        link.down.finish();
        if scene.bug == Some(Bug::LeftoverBytes)
            && let Some(input) = seat.input
        {
            self.leftover[at(mode)] = input.bytes[input.position..].to_vec();
        }
        let id = seat.link;
        scene.note(|| format!("the relay drops {mode}'s link {id:?}"));
        self.relay.lost(mode);
        if scene.errs(Bug::LostFarewell, 500) {
            let mut area = vec![0; FRAME];
            while self.relay.outbox(mode.other()).has_messages() {
                self.relay.outbox(mode.other()).write_messages(&mut area);
            }
        }
        self.compose_outbox(scene, mode.other());
        scene.lost(mode);
        Ok(())
    }
}
