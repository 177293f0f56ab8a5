//! The end of a round: nothing new begins, everybody is polite, and what is under way comes to its
//! end. Then every application must have seen what the reference model says, nothing may be left
//! over, and the tunnel must work.

use super::application::Manner;
use super::gate::at;
use super::middle::SIDES;
use super::verdict::check_round;
use super::world::World;
use adit_proto::ids::Mode;
use anyhow::{Result, bail, ensure};
use std::time::{Duration, Instant};

/// How long nothing may happen before somebody must have been forgotten. Longer than the longest
/// time-out of a core that can be under way then: the flush of an ended connection needs an
/// application that does not read, and here all do.
const PATIENCE: Duration = Duration::from_secs(150);

/// Rounds of everything, a bound of the time that one run may take.
const ROUNDS_MAX: usize = 200_000;

/// Bytes that are there for pings and pongs alone, at most.
const PINGS: usize = 1_000;

impl World {
    /// Ends a round.
    ///
    /// # Errors
    /// Something is left over, was lost, or does not work.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.scene.note(|| "the round ends".to_owned());
        self.scene.is_polite = true;
        self.run_out()?;
        self.check_round()?;
        for service in 0..self.scene.profile.service_count() {
            self.probe(service as u32)?;
        }
        let links = [0, 1].map(|index| self.places[index].side.link());
        self.scene.links.retain(|id, _| links.contains(&Some(*id)));
        self.scene.is_polite = false;
        Ok(())
    }

    /// One connection, both ways, which must work now.
    fn probe(&mut self, service: u32) -> Result<()> {
        let is_taken = self.connect_client(Some((service, Manner::PATIENT)))?;
        ensure!(is_taken, "a client is not let in although nothing is open");
        self.run_out()?;
        let ends = self.scene.ends.values();
        let complete = ends.filter(|end| end.app.is_complete()).count();
        ensure!(complete == 2, "service {service} does not work any more");
        self.check_round()
    }

    pub(super) fn check_round(&mut self) -> Result<()> {
        let is_calm = self.scene.breaks == 0 && self.scene.refusals == 0;
        self.scene.refusals += self.middle.take_refusals(is_calm);
        check_round(&mut self.scene)
    }

    fn run_out(&mut self) -> Result<()> {
        self.end_what_only_a_host_notices();
        let (mut progress, mut since) = (self.progress(), self.scene.now);
        let mut least = self.unread();
        for _ in 0..ROUNDS_MAX {
            let moved = self.scene.moved;
            self.turn_all()?;
            if self.is_settled() {
                return Ok(());
            }
            // Pings come and go, and go on for ever.
            let has_drained = self.unread() + PINGS < least;
            if self.progress() != progress || has_drained {
                (progress, since) = (self.progress(), self.scene.now);
                least = self.unread();
            }
            if self.scene.moved > moved {
                continue;
            }
            let next = self.next_event().unwrap_or(self.scene.now + PATIENCE);
            ensure!(next <= since + PATIENCE, "{}", self.left_over());
            self.advance(next.max(self.scene.now + Duration::from_millis(1)))?;
        }
        bail!("it does not come to an end: {}", self.left_over());
    }

    /// Whoever is hostile leaves, and links of which nothing is left are reset: one that never answered
    /// a ping is not missed by a core.
    pub(super) fn end_what_only_a_host_notices(&mut self) {
        if let Some(hostile) = self.hostile.take() {
            self.scene.link(hostile.link).reset();
        }
        for link in self.scene.links.values_mut() {
            if link.up.is_vanished() || link.down.is_vanished() {
                link.reset();
            }
        }
    }

    /// Changes with everything that brings the end closer, but for what nobody waits for.
    fn progress(&self) -> impl PartialEq + use<> {
        let tally = self.scene.tally;
        let begun = tally.links_lost + tally.ends;
        (tally.bytes, begun, self.scene.active().len())
    }

    /// Bytes between the proxies, pings included.
    fn unread(&self) -> usize {
        let links = self.scene.links.values();
        let under_way: usize = links.map(|link| link.up.size() + link.down.size()).sum();
        let unsent = self.places.iter().map(|place| place.side.unsent());
        under_way + self.middle.unsent() + unsent.sum::<usize>()
    }

    fn turn_all(&mut self) -> Result<()> {
        self.act_all()?;
        self.turn_network()
    }

    /// Each application does something.
    pub(super) fn act_all(&mut self) -> Result<()> {
        for id in self.scene.active() {
            self.scene.act(id)?;
        }
        Ok(())
    }

    /// All but the applications do what there is to do.
    pub(super) fn turn_network(&mut self) -> Result<()> {
        for mode in SIDES {
            self.connect(mode)?;
            self.arrive()?;
            let side = &mut self.places[at(mode)].side;
            side.events(&mut self.scene)?;
            side.receive(&mut self.scene)?;
            side.finish_dial(&mut self.scene)?;
            side.send(&mut self.scene, 16)?;
        }
        for mode in SIDES {
            self.middle.receive(&mut self.scene, mode)?;
        }
        for mode in SIDES {
            self.middle.send(&mut self.scene, mode)?;
        }
        Ok(())
    }

    fn is_settled(&mut self) -> bool {
        let links = SIDES.map(|mode| self.places[at(mode)].side.link());
        let is_linked = SIDES
            .into_iter()
            .all(|mode| links[at(mode)].is_some() && self.middle.link(mode) == links[at(mode)]);
        let scene = &self.scene;
        is_linked
            && self.arriving.is_empty()
            && scene.active().is_empty()
            && links.iter().flatten().all(|id| {
                let link = &scene.links[id];
                link.up.is_quiet() && link.down.is_quiet()
            })
            && self
                .places
                .iter()
                .all(|place| place.side.is_idle() && place.side.is_running())
            && self.middle.is_idle()
    }

    pub(super) fn next_event(&self) -> Option<Instant> {
        let pipes = self.scene.links.values();
        let arrivals = pipes.flat_map(|link| [link.up.next_arrival(), link.down.next_arrival()]);
        let now = self.scene.now;
        let arrivals = arrivals.flatten().filter(|at| *at > now);
        let timeouts = self
            .places
            .iter()
            .filter_map(|place| place.side.next_timeout());
        arrivals
            .chain(timeouts)
            .chain(self.middle.next_timeout())
            .min()
    }

    pub(super) fn left_over(&self) -> String {
        let active = self.scene.active();
        let ends = active.iter().map(|id| {
            let end = &self.scene.ends[id];
            format!(
                "{} {id}: socket {:?}, application {:?}, complete {}, written {}",
                end.mode,
                end.socket.told(),
                end.socket.app(),
                end.app.is_complete(),
                end.app.is_written()
            )
        });
        let ends: Vec<String> = ends.collect();
        let sides = SIDES.map(|mode: Mode| self.places[at(mode)].side.state());
        let held = self.places.iter().filter_map(|place| place.side.link());
        let links: Vec<String> = held
            .map(|id| format!("{id:?} {:?}", self.scene.links[&id]))
            .collect();
        format!(
            "something is left over: {}; {}; relay: {}; {}",
            sides.join("; "),
            links.join("; "),
            self.middle.state(),
            ends.join("; ")
        )
    }
}
