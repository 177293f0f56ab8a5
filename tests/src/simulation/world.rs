//! A tunnel with everything around it, moved on step by step.

use super::application::Manner;
use super::bugs::Bug;
use super::dice::Dice;
use super::gate::{Gate, Ticket, at};
use super::hostile::Hostile;
use super::link::{Link, LinkId};
use super::middle::{Middle, SIDES};
use super::scene::{Scene, Tally};
use super::side::{RETRY_MAX, Side};
use adit_proto::ids::Mode;
use adit_service::clock::Timestamp;
use anyhow::Result;
use std::time::{Duration, Instant};

/// All of one run.
pub(super) struct World {
    pub(super) scene: Scene,
    pub(super) gate: Gate,
    pub(super) places: [Place; 2],
    pub(super) middle: Middle,
    pub(super) hostile: Option<Hostile>,
    /// Links that were admitted and have not reached the relay.
    pub(super) arriving: Vec<LinkId>,
}

/// Where a proxy runs: the proxy, and how it comes to its links.
pub(super) struct Place {
    pub(super) side: Side,
    pub(super) ticket: Ticket,
    pub(super) connect_at: Instant,
    /// A handshake that the proxy has not seen the end of.
    pub(super) coming: Option<LinkId>,
}

impl World {
    /// The world of a seed.
    ///
    /// # Errors
    /// The store refuses a tunnel.
    pub(super) fn new(seed: u64, bug: Option<Bug>, has_trace: bool) -> Result<Self> {
        // Some instant to start from; only its distance to later ones counts.
        let start = Instant::now();
        let mut scene = Scene::new(seed, bug, start, has_trace);
        let epoch = Dice::new(seed, 3).pick(&EPOCHS);
        let gate = Gate::new(start, Timestamp::from_millis(epoch), bug)?;
        let places = SIDES.map(|mode| Place {
            side: Side::new(mode, &mut scene),
            ticket: gate.ticket(mode),
            connect_at: start,
            coming: None,
        });
        Ok(Self {
            middle: Middle::new(&scene),
            scene,
            gate,
            places,
            hostile: None,
            arriving: Vec::new(),
        })
    }

    /// What was done so far.
    #[must_use]
    pub(super) fn tally(&self) -> Tally {
        self.scene.tally
    }

    /// What happened last, where a trace is kept.
    pub(super) fn trace(&self) -> impl Iterator<Item = &String> {
        self.scene.trace()
    }

    /// One step: some acts, whichever the dice say, and an accident if they say so.
    ///
    /// # Errors
    /// Something happened that must not.
    pub(super) fn step(&mut self) -> Result<()> {
        for _ in 0..1 + self.scene.dice.below(ACTS_MAX) {
            self.act()?;
        }
        self.accident()
    }

    fn act(&mut self) -> Result<()> {
        let mode = self.scene.dice.pick(&SIDES);
        match self.scene.dice.below(100) {
            0..=7 => self.connect_client(None).map(drop),
            8..=33 => self.act_some(),
            34..=43 => self.places[at(mode)].side.events(&mut self.scene),
            44..=53 => self.receive(mode),
            54..=63 => self.send(mode),
            64..=67 => self.places[1].side.finish_dial(&mut self.scene),
            68..=77 => self.relay(mode),
            78..=87 => self.middle.send(&mut self.scene, mode),
            88..=89 => self.connect(mode),
            90..=91 => self.arrive(),
            92..=97 => self.pass_time(),
            _ => self.act_hostile(),
        }
    }

    fn send(&mut self, mode: Mode) -> Result<()> {
        let frames = self.scene.dice.size(8);
        self.places[at(mode)].side.send(&mut self.scene, frames)
    }

    /// A client connects to some service, or to the first one with a given manner. False: not now.
    pub(super) fn connect_client(&mut self, manner: Option<(u32, Manner)>) -> Result<bool> {
        let sources = self.scene.ends.values();
        let open = sources.filter(|end| end.mode == Mode::Source && end.is_open());
        if open.count() >= self.scene.profile.people.clients_max
            || !self.places[0].side.is_running()
        {
            return Ok(false);
        }
        let (service, manner) = match manner {
            Some((service, manner)) => (service, Some(manner)),
            None => {
                let count = self.scene.profile.service_count();
                (self.scene.dice.below(count) as u32, None)
            }
        };
        self.places[0].side.accept(&mut self.scene, service, manner)
    }

    /// Some applications, one after the other, do something.
    fn act_some(&mut self) -> Result<()> {
        let active = self.scene.active();
        for _ in 0..self.scene.profile.people.hurry.min(active.len()) {
            let id = active[self.scene.dice.below(active.len())];
            self.scene.act(id)?;
        }
        Ok(())
    }

    /// A few times, so that what is full gets full.
    fn receive(&mut self, mode: Mode) -> Result<()> {
        for _ in 0..self.scene.dice.size(8) {
            self.places[at(mode)].side.receive(&mut self.scene)?;
        }
        Ok(())
    }

    fn relay(&mut self, mode: Mode) -> Result<()> {
        for _ in 0..self.scene.dice.size(8) {
            self.middle.receive(&mut self.scene, mode)?;
        }
        Ok(())
    }

    fn pass_time(&mut self) -> Result<()> {
        let longest = match self.scene.dice.below(200) {
            0 => Duration::from_secs(30),
            1..=4 => Duration::from_secs(3),
            _ => self.scene.profile.network.tick,
        };
        let time = self.scene.dice.pause(longest);
        self.advance(self.scene.now + time)
    }

    /// Moves time on, to each moment at which a proxy wants to look at it.
    pub(super) fn advance(&mut self, to: Instant) -> Result<()> {
        loop {
            let timeouts = self
                .places
                .iter()
                .filter_map(|place| place.side.next_timeout());
            let next = timeouts.min().filter(|at| *at < to);
            let next = next.filter(|_| self.scene.bug != Some(Bug::NoTimeouts));
            self.scene.now = self.scene.now.max(next.unwrap_or(to));
            for place in &mut self.places {
                place.side.timeouts(&mut self.scene)?;
            }
            if next.is_none() {
                return Ok(());
            }
        }
    }

    /// A proxy without a link comes one step closer to one.
    pub(super) fn connect(&mut self, mode: Mode) -> Result<()> {
        let place = &mut self.places[at(mode)];
        let now = self.scene.now;
        if place.side.link().is_some() {
            return Ok(());
        }
        if let Some(id) = place.coming.take() {
            if self.scene.is_polite || !self.scene.dice.chance(100) {
                place.connect_at = now + self.scene.dice.pause(RETRY_MAX);
                return place.side.link_up(&mut self.scene, id);
            }
            // It gives up before the answer; the relay learns of that when it reads the link.
            self.scene.link(id).up.finish();
            return Ok(());
        }
        if self.gate.ends().is_none() || (place.connect_at > now && !self.scene.is_polite) {
            return Ok(());
        }
        place.connect_at = now + self.scene.dice.pause(RETRY_MAX);
        let ticket = place.ticket.clone();
        match self.gate.admit(now, &ticket)? {
            Some(session) => {
                let id = self.add_link(mode, session);
                self.places[at(mode)].coming = Some(id);
            }
            // Sooner or later somebody tells it the new token.
            None if self.scene.is_polite || self.scene.dice.chance(300) => {
                self.places[at(mode)].ticket = self.gate.ticket(mode);
            }
            None => {}
        }
        self.scene.moved += 1;
        Ok(())
    }

    fn add_link(&mut self, mode: Mode, session: u64) -> LinkId {
        let scene = &mut self.scene;
        let offered = match mode {
            Mode::Source => scene.profile.source_offer(),
            Mode::Destination => scene.dice.pick(&scene.profile.offers),
        };
        let network = &scene.profile.network;
        let mut link = Link::new(mode, session, offered, network, &mut scene.dice);
        if scene.errs(Bug::DroppedByte, 500) {
            link.up.drops_at_cuts = true;
            link.down.drops_at_cuts = true;
        }
        let id = scene.add_link(link);
        self.arriving.push(id);
        id
    }

    /// Some admitted link reaches the relay; handshakes overtake each other.
    pub(super) fn arrive(&mut self) -> Result<()> {
        if self.arriving.is_empty() {
            return Ok(());
        }
        let at = self.scene.dice.below(self.arriving.len());
        let id = self.arriving.remove(at);
        let (mode, session) = (self.scene.link(id).mode, self.scene.link(id).session);
        self.middle.attach(&mut self.scene, id)?;
        self.scene.moved += 1;
        if !self.gate.connected(self.scene.now, mode, session)? {
            self.middle.end_side(&mut self.scene, mode, session)?;
        }
        Ok(())
    }

    fn act_hostile(&mut self) -> Result<()> {
        if let Some(hostile) = &mut self.hostile
            && !hostile.act(&mut self.scene)
        {
            self.hostile = None;
        }
        Ok(())
    }

    /// What goes wrong, if anything does.
    fn accident(&mut self) -> Result<()> {
        let accidents = &self.scene.profile.accidents;
        let rates = [
            accidents.lost,
            accidents.held,
            accidents.killed,
            accidents.rotated,
            accidents.hostile,
        ];
        let mut roll = self.scene.dice.below(10_000) as u32;
        let which = rates.iter().position(|rate| match roll.checked_sub(*rate) {
            Some(rest) => {
                roll = rest;
                false
            }
            None => true,
        });
        let mode = self.scene.dice.pick(&SIDES);
        match which {
            None => Ok(()),
            Some(0) => {
                self.lose_link();
                Ok(())
            }
            Some(1) => {
                self.hold_link();
                Ok(())
            }
            Some(2) => self.restart(mode),
            Some(3) => self.rotate(),
            Some(_) => self.invite_hostile(mode),
        }
    }

    fn pick_link(&mut self) -> Option<LinkId> {
        let ids: Vec<LinkId> = self.scene.links.keys().copied().collect();
        let recent = &ids[ids.len().saturating_sub(3)..];
        (!recent.is_empty()).then(|| self.scene.dice.pick(recent))
    }

    pub(super) fn lose_link(&mut self) {
        let Some(id) = self.pick_link() else { return };
        let how = self.scene.dice.below(5);
        self.scene
            .note(|| format!("link {id:?} has accident {how}"));
        let link = self.scene.link(id);
        match how {
            0 | 1 => link.reset(),
            2 => link.vanish(),
            3 => link.up.finish(),
            _ => link.down.finish(),
        }
    }

    pub(super) fn hold_link(&mut self) {
        let Some(id) = self.pick_link() else { return };
        let until = self.scene.now + self.scene.dice.pause(Duration::from_secs(8));
        let is_up = self.scene.dice.chance(500);
        let link = self.scene.link(id);
        match is_up {
            true => link.up.hold(until),
            false => link.down.hold(until),
        }
    }

    pub(super) fn restart(&mut self, mode: Mode) -> Result<()> {
        let place = &mut self.places[at(mode)];
        place.side.kill(&mut self.scene)?;
        if let Some(id) = place.coming.take() {
            self.scene.link(id).reset();
        }
        place.side = Side::new(mode, &mut self.scene);
        Ok(())
    }

    pub(super) fn rotate(&mut self) -> Result<()> {
        let modes = match self.scene.dice.below(3) {
            0 => &SIDES[..1],
            1 => &SIDES[1..],
            _ => &SIDES[..],
        };
        let newest = self.gate.rotate(self.scene.now, modes)?;
        self.scene
            .note(|| format!("tokens of {modes:?} are rotated"));
        for mode in modes {
            self.middle.end_side(&mut self.scene, *mode, newest)?;
        }
        Ok(())
    }

    fn invite_hostile(&mut self, mode: Mode) -> Result<()> {
        if self.hostile.is_some() {
            return Ok(());
        }
        let ticket = self.gate.ticket(mode);
        if let Some(session) = self.gate.admit(self.scene.now, &ticket)? {
            let id = self.add_link(mode, session);
            self.scene
                .note(|| format!("somebody hostile is {mode} by {id:?}"));
            self.scene.link(id).is_hostile = true;
            self.hostile = Some(Hostile::new(id, &mut self.scene.dice));
        }
        Ok(())
    }
}

/// Acts of one step.
const ACTS_MAX: usize = 8;

/// When a run may begin: now or so, or half a year before seconds since 1970 need 32 or 33 bits.
const EPOCHS: [u64; 3] = [
    1_700_000_000_000,
    1000 * ((1 << 31) - 15_778_800),
    1000 * ((1 << 32) - 15_778_800),
];
