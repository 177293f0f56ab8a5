//! Days in which not much happens: what only a long time shows.
//!
//! One tunnel after the other, each as long as it may live or shorter, each with a profile of its
//! own. A day of it is short spells of what happens in any run, and long silences between them: with
//! nothing open, with connections on which nobody says anything, without a link, without a tunnel.
//! What the reference model wants holds at the end of each spell. Beyond that:
//!
//! * in a silence each side pings the relay on time, and no link is lost that was not broken;
//! * a broken link is noticed and replaced within minutes, by pings alone if need be;
//! * minutes after the last connection the cores have no entry of any;
//! * a tunnel ends when its lifetime is over and not before, and its proxies learn of it, whatever
//!   is open; nobody is let in any more;
//! * the store keeps what is open and what ended in the last hours, and nothing else.

use super::dice::Dice;
use super::gate::at;
use super::middle::{Middle, SIDES};
use super::numbers::Numbers;
use super::profile::Profile;
use super::side::{RETRY_MAX, Side};
use super::world::{Place, World};
use adit_proto::ids::Mode;
use adit_service::tunnels::Lifetime;
use anyhow::{Context, Result, bail, ensure};
use std::time::{Duration, Instant};

impl World {
    /// Lives for so many days; `day` is how many are over.
    ///
    /// # Errors
    /// Something happened that must not.
    pub(super) fn live(&mut self, days: u64, day: &mut u64) -> Result<()> {
        let end = self.scene.start + days as u32 * DAY;
        let mut dice = Dice::new(self.scene.seed, FIRST_TUNNEL);
        let dialect = self.scene.profile.dialect;
        self.scene.profile.numbers = Numbers::draw(&mut dice, dialect);
        loop {
            self.live_tunnel(end, day)?;
            if self.scene.now >= end {
                return Ok(());
            }
            let pause = self.draw_time(&[Duration::ZERO, MINUTE, 8 * HOUR]);
            self.advance(self.scene.now + pause)?;
            self.gate.sweep(self.scene.now)?;
            self.open_tunnel()?;
        }
    }

    fn open_tunnel(&mut self) -> Result<()> {
        let now = self.scene.now;
        let scene = &mut self.scene;
        let number = scene.tally.tunnels;
        let mut dice = Dice::new(scene.seed, FIRST_TUNNEL + number);
        scene.profile = Profile::draw(&mut dice);
        scene.profile.numbers = Numbers::draw(&mut dice, scene.profile.dialect);
        let is_short = scene.dice.chance(200);
        let minutes = match is_short {
            true => scene.dice.size(720),
            false => 720,
        };
        let lifetime = Lifetime::from_minutes(minutes as i64).context("a lifetime")?;
        let trace = format!(
            "tunnel {number} lives for {minutes} minutes: {:?}",
            scene.profile
        );
        scene.note(|| trace);
        self.gate.open(now, lifetime)?;
        self.middle = Middle::new(scene);
        self.places = SIDES.map(|mode| Place {
            side: Side::new(mode, scene),
            ticket: self.gate.ticket(mode),
            connect_at: now + scene.dice.pause(RETRY_MAX),
            coming: None,
        });
        Ok(())
    }

    fn live_tunnel(&mut self, end: Instant, day: &mut u64) -> Result<()> {
        let ends = self.gate.ends().context("a tunnel is open")?;
        let is_closed = self.scene.dice.chance(300);
        let until = match is_closed {
            true => self.scene.now + self.scene.dice.pause(ends - self.scene.now),
            false => ends,
        };
        while self.scene.now < until && self.scene.now < end {
            *day = (self.scene.now - self.scene.start).as_secs() / DAY.as_secs();
            self.spell(until)?;
        }
        self.end_tunnel(self.scene.now < ends)
    }

    /// Something happens, and then nothing for a while. Time does not go on beyond `until`.
    fn spell(&mut self, until: Instant) -> Result<()> {
        let is_last = until - self.scene.now < SPELL_MAX;
        for _ in 0..1 + self.scene.dice.below(STEPS_MAX) {
            // Time may go on by half a minute in one act.
            if self.scene.now + 5 * MINUTE >= until {
                break;
            }
            self.step()?;
        }
        if is_last {
            // It ends with whatever is open.
            return self.silence(until);
        }
        if self.scene.dice.chance(300) {
            let time = self.draw_time(&[MINUTE, 20 * MINUTE, 8 * HOUR]);
            let latest = until - SPELL_MAX;
            self.silence((self.scene.now + time).min(latest))?;
        }
        self.settle()?;
        self.gate.sweep(self.scene.now)?;
        self.accident_in_silence(until)?;
        let time = self.draw_time(&[20 * MINUTE, 2 * HOUR, 6 * HOUR]);
        self.quiet((self.scene.now + time).min(until))
    }

    /// A link is broken, a peer replaced, a token rotated while nobody uses the tunnel; then all is well
    /// again.
    fn accident_in_silence(&mut self, until: Instant) -> Result<()> {
        let mode = self.scene.dice.pick(&SIDES);
        match self.scene.dice.below(12) {
            0 => self.lose_link(),
            1 => self.hold_link(),
            2 => self.restart(mode)?,
            3 => self.rotate()?,
            4 => {
                let id = self.places[at(mode)].side.link().context("it has a link")?;
                self.scene.note(|| format!("{mode}'s link vanishes"));
                self.scene.link(id).vanish();
            }
            5 => self.stay_away(mode, until)?,
            _ => return Ok(()),
        }
        self.silence((self.scene.now + RECOVERY).min(until))
    }

    /// A side has no network for hours. Whoever connects meanwhile is told.
    fn stay_away(&mut self, mode: Mode, until: Instant) -> Result<()> {
        let time = self.draw_time(&[MINUTE, HOUR, 8 * HOUR]);
        let back = (self.scene.now + time).min(until);
        let place = &mut self.places[at(mode)];
        place.connect_at = back;
        let id = place.side.link().context("it has a link")?;
        self.scene.link(id).reset();
        self.scene.note(|| format!("{mode} is without a network"));
        self.silence(back)
    }

    /// Nobody does anything, nothing is open, and nothing is broken.
    fn quiet(&mut self, until: Instant) -> Result<()> {
        let begin = self.scene.now;
        if begin + RECOVERY > until {
            return self.silence(until);
        }
        let links = SIDES.map(|mode| self.places[at(mode)].side.link());
        let pings = SIDES.map(|mode| self.middle.pings(mode));
        self.silence(until)?;
        for mode in SIDES {
            let side = &self.places[at(mode)].side;
            let is_well = side.link().is_some()
                && side.link() == links[at(mode)]
                && side.link() == self.middle.link(mode);
            ensure!(
                is_well && side.is_running(),
                "{mode} has not kept its link {:?}: {}",
                links[at(mode)],
                side.state()
            );
            ensure!(
                side.is_idle() && !side.has_entries(),
                "something is left of connections that ended: {}",
                side.state()
            );
            let count = self.middle.pings(mode) - pings[at(mode)];
            let time = until - begin;
            let interval = self.scene.profile.limits.ping_interval;
            let due = (time.as_secs_f64() / interval.as_secs_f64()).round() as u64;
            ensure!(
                count.abs_diff(due) <= 1,
                "{mode} sent {count} pings in {time:?}, and {due} were due"
            );
        }
        ensure!(self.middle.is_idle(), "relay: {}", self.middle.state());
        Ok(())
    }

    /// No application does anything; all the others do what there is to do.
    fn silence(&mut self, until: Instant) -> Result<()> {
        self.pass(until, false)
    }

    fn pass(&mut self, until: Instant, acts: bool) -> Result<()> {
        for _ in 0..TURNS_MAX {
            let now = self.scene.now;
            if now >= until {
                return Ok(());
            }
            let moved = self.scene.moved;
            if acts {
                self.act_all()?;
            }
            self.turn_network()?;
            if self.scene.moved > moved {
                continue;
            }
            let places = self.places.iter();
            let unlinked = places.filter(|place| place.side.link().is_none());
            let attempts = unlinked.map(|place| place.connect_at);
            let next = attempts.filter(|at| *at > now).chain(self.next_event());
            let next = next.min().unwrap_or(until);
            self.advance(next.max(now + TICK).min(until))?;
        }
        bail!("it does not get quiet: {}", self.left_over());
    }

    /// The tunnel is over, by a call or by its lifetime.
    fn end_tunnel(&mut self, is_closed: bool) -> Result<()> {
        let now = self.scene.now;
        let is_over = self.gate.sweep(now)?;
        ensure!(is_over != is_closed, "a tunnel is over when it must not");
        if is_closed {
            self.gate.close(now)?;
        }
        self.scene
            .note(|| format!("the tunnel is over, by a call: {is_closed}"));
        self.middle.end_tunnel(&mut self.scene)?;
        for mode in SIDES {
            let tickets = [self.places[at(mode)].ticket.clone(), self.gate.ticket(mode)];
            for ticket in tickets {
                let session = self.gate.admit(now, &ticket)?;
                ensure!(
                    session.is_none(),
                    "{mode} is let in to a tunnel that is over"
                );
            }
        }
        self.scene.tally.tunnels += 1;
        self.scene.is_polite = true;
        self.end_what_only_a_host_notices();
        self.pass(now + RECOVERY, true)?;
        for mode in SIDES {
            self.scene.tally.pings += self.middle.pings(mode);
            let side = &self.places[at(mode)].side;
            ensure!(
                side.link().is_none() && self.middle.link(mode).is_none() && side.is_idle(),
                "{mode} goes on in a tunnel that is over: {}",
                side.state()
            );
        }
        ensure!(self.scene.active().is_empty(), "{}", self.left_over());
        self.check_round()?;
        self.scene.links.clear();
        self.scene.is_polite = false;
        Ok(())
    }

    /// Up to one of these; each about as often.
    fn draw_time(&mut self, longest: &[Duration]) -> Duration {
        let longest = self.scene.dice.pick(longest);
        self.scene.dice.pause(longest)
    }
}

/// Of the choices that are a tunnel's. Those before it are others of a run.
const FIRST_TUNNEL: u64 = 16;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Least time that passes where nothing moves.
const TICK: Duration = Duration::from_millis(1);

/// Steps of one spell, at most.
const STEPS_MAX: usize = 200;

/// A spell comes to its end within that; else the tunnel would be over first.
const SPELL_MAX: Duration = Duration::from_secs(60 * 60);

/// How long it takes at most until a link that was broken is replaced: three pings, and a handshake
/// that may want a new token first. And until nothing is left in the cores of what has ended: they keep
/// that for five minutes.
const RECOVERY: Duration = Duration::from_secs(8 * 60);

/// Turns of one silence, a bound of the time that it may take.
const TURNS_MAX: usize = 1_000_000;
