//! What everything in a run shares: time, choices, the network, and the ends of connections with
//! what the reference model knows of them.

use super::application::{Application, Manner};
use super::bugs::Bug;
use super::dice::Dice;
use super::link::{Link, LinkId};
use super::profile::Profile;
use super::socket::{Socket, Told};
use crate::verifier::Transfer;
use adit_engine::tunnel::key::ConnectionKey;
use adit_proto::ids::Mode;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// All but the cores and their drivers.
pub(super) struct Scene {
    /// Simulated.
    pub(super) now: Instant,
    /// The run's choices.
    pub(super) dice: Dice,
    /// Those of a planted mistake: the run is the same up to its first one.
    pub(super) mischief: Dice,
    /// What the seed is like.
    pub(super) profile: Profile,
    /// The planted mistake.
    pub(super) bug: Option<Bug>,
    /// Links that somebody still has an end of.
    pub(super) links: BTreeMap<LinkId, Link>,
    /// Ends of connections by the number of their socket, the ended ones of this round included.
    pub(super) ends: BTreeMap<u32, End>,
    /// Applications neither sleep nor leave.
    pub(super) is_polite: bool,
    /// Somebody hostile was there in this round: later ends may be made up.
    pub(super) is_tainted: bool,
    /// Links lost and applications gone in this round.
    pub(super) breaks: u64,
    /// Connections that were refused in this round, at most.
    pub(super) refusals: u64,
    /// Grows with everything that happens.
    pub(super) moved: u64,
    /// Connections begun and transfers complete, bytes of applications.
    pub(super) tally: Tally,
    /// Of the run.
    pub(super) seed: u64,
    /// When it began.
    pub(super) start: Instant,
    last_socket: u32,
    last_link: u64,
    trace: Option<VecDeque<String>>,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Local connections of both sides.
    pub ends: u64,
    /// Transfers received to their end.
    pub complete: u64,
    /// Transfers that were cut, each for a reason that the model knows.
    pub cut: u64,
    /// Bytes that applications wrote and read.
    pub bytes: u64,
    /// Links lost, replaced or revoked.
    pub links_lost: u64,
    /// Tunnels that came to their end, of runs of days.
    pub tunnels: u64,
    /// Pings that reached the relay of those.
    pub pings: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.ends += other.ends;
        self.complete += other.complete;
        self.cut += other.cut;
        self.bytes += other.bytes;
        self.links_lost += other.links_lost;
        self.tunnels += other.tunnels;
        self.pings += other.pings;
    }
}

/// One end of one connection: socket, application, and what is known of it.
pub(super) struct End {
    /// Which proxy has it.
    pub(super) mode: Mode,
    /// Index of its service.
    pub(super) service: u32,
    /// The core's name for it.
    pub(super) key: ConnectionKey,
    /// Its socket.
    pub(super) socket: Socket,
    /// Its application.
    pub(super) app: Application,
    /// The end whose transfer this one receives.
    pub(super) partner: Option<u32>,
    /// The end that receives this one's transfer.
    pub(super) heard_by: Option<u32>,
    /// Why what it receives may be incomplete.
    pub(super) excuse: Option<&'static str>,
    /// What its partner receives may be incomplete.
    pub(super) spoils: bool,
    /// Nobody may ever hear of it.
    pub(super) is_lost: bool,
    /// What it receives may be made up.
    pub(super) is_tainted: bool,
    /// When it last took a byte.
    pub(super) taken_at: Instant,
    /// When the proxy read its end.
    pub(super) ended_at: Option<Instant>,
}

impl End {
    /// Whether the proxy still has it.
    #[must_use]
    pub(super) fn is_open(&self) -> bool {
        self.socket.told().is_none()
    }
}

impl Scene {
    /// The scene of a seed.
    #[must_use]
    pub(super) fn new(seed: u64, bug: Option<Bug>, start: Instant, has_trace: bool) -> Self {
        let profile = Profile::draw(&mut Dice::new(seed, 1));
        let trace = has_trace.then(|| VecDeque::from([format!("{profile:?}")]));
        Self {
            now: start,
            dice: Dice::new(seed, 0),
            mischief: Dice::new(seed, 2),
            profile,
            bug,
            links: BTreeMap::new(),
            ends: BTreeMap::new(),
            is_polite: false,
            is_tainted: false,
            breaks: 0,
            refusals: 0,
            moved: 0,
            tally: Tally::default(),
            seed,
            start,
            last_socket: 0,
            last_link: 0,
            trace,
        }
    }

    /// Whether the planted mistake is this one and happens now, so many times in a thousand.
    pub(super) fn errs(&mut self, bug: Bug, per_mille: u32) -> bool {
        self.bug == Some(bug) && self.mischief.chance(per_mille)
    }

    /// Remembers what happened, where a trace is wanted.
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE_MAX {
                // The first one is the profile.
                trace.remove(1);
            }
            let time = self.now - self.start;
            trace.push_back(format!("{:9.3} {}", time.as_secs_f64(), what()));
        }
    }

    /// What was remembered, oldest first.
    pub(super) fn trace(&self) -> impl Iterator<Item = &String> {
        self.trace.iter().flatten()
    }

    /// What one read of a link takes, at most.
    pub(super) fn read_size(&mut self) -> usize {
        let most = self.profile.network.read_size;
        match self.is_polite {
            true => most,
            false => self.dice.size(most),
        }
    }

    /// A number for a socket.
    pub(super) fn next_socket(&mut self) -> u32 {
        self.last_socket += 1;
        self.last_socket
    }

    /// Adds a link.
    pub(super) fn add_link(&mut self, link: Link) -> LinkId {
        self.last_link += 1;
        let id = LinkId(self.last_link);
        self.links.insert(id, link);
        id
    }

    /// A link that somebody has an end of.
    pub(super) fn link(&mut self, id: LinkId) -> &mut Link {
        self.links.get_mut(&id).expect("a link that is held exists")
    }

    /// Adds an end with an application.
    pub(super) fn add_end(
        &mut self,
        socket: u32,
        mode: Mode,
        service: u32,
        key: ConnectionKey,
        manner: Option<Manner>,
    ) {
        let people = &self.profile.people;
        let drawn = match mode {
            Mode::Source => Manner::of_client(&mut self.dice, people),
            Mode::Destination => Manner::of_server(&mut self.dice, people),
        };
        let transfer = Transfer {
            id: u64::from(socket),
            length: self.dice.size(people.length) as u64 - 1,
            seed: self.seed,
        };
        let manner = manner.unwrap_or(drawn);
        self.note(|| {
            format!("{mode} {socket} begins in service {service}: {manner:?}, {transfer}")
        });
        let end = End {
            mode,
            service,
            key,
            socket: Socket::new(self.profile.people.room),
            app: Application::new(transfer, manner),
            partner: None,
            heard_by: None,
            excuse: None,
            spoils: false,
            is_lost: false,
            is_tainted: self.is_tainted,
            taken_at: self.now,
            ended_at: None,
        };
        self.ends.insert(socket, end);
        self.tally.ends += 1;
        self.moved += 1;
    }

    /// An application does what it does.
    ///
    /// # Errors
    /// It received what it must not.
    pub(super) fn act(&mut self, id: u32) -> Result<()> {
        let Some(end) = self.ends.get_mut(&id) else {
            return Ok(());
        };
        let people = &self.profile.people;
        let before = (end.app.is_complete(), end.partner.is_some());
        let acted = end.app.act(
            self.now,
            &mut self.dice,
            people,
            &mut end.socket,
            self.is_polite,
        );
        let acted = match acted {
            Ok(acted) => acted,
            Err(_) if end.is_tainted => {
                // It was told something made up and leaves.
                end.socket.app_turns(super::socket::Use::Reset);
                super::application::Acted {
                    has_left: true,
                    has_turned: true,
                    ..Default::default()
                }
            }
            Err(error) => {
                let mode = end.mode;
                return Err(error).with_context(|| format!("{mode} {id} received wrong bytes"));
            }
        };
        self.moved += acted.moved as u64 + u64::from(acted.has_turned);
        self.tally.bytes += acted.moved as u64;
        self.tally.complete += u64::from(!before.0 && end.app.is_complete());
        if acted.has_left {
            end.excuse.get_or_insert("its application left");
            end.spoils = true;
            self.breaks += 1;
        }
        if acted.has_turned {
            let (mode, app, left) = (end.mode, end.socket.app(), acted.has_left);
            self.note(|| format!("{mode} {id}'s application turns to {app:?}, early: {left}"));
        }
        if !before.1 {
            self.meet(id)?;
        }
        Ok(())
    }

    /// Notes whom an end hears, which is one end of the other side that nobody else hears.
    fn meet(&mut self, id: u32) -> Result<()> {
        let end = &self.ends[&id];
        let (mode, service) = (end.mode, end.service);
        let Some(transfer) = end.app.hears().filter(|_| !end.is_tainted) else {
            return Ok(());
        };
        let partner = u32::try_from(transfer.id).ok();
        let partner = partner.and_then(|id| Some((id, self.ends.get_mut(&id)?)));
        let (other_id, other) = partner
            .with_context(|| format!("{mode} {id} hears {transfer}, which nobody of now sends"))?;
        ensure!(
            other.mode != mode,
            "{mode} {id} hears {other_id} of its own side"
        );
        ensure!(
            other.service == service,
            "{mode} {id} of service {service} hears {other_id} of {}",
            other.service
        );
        let heard_by = other.heard_by.replace(id);
        ensure!(
            heard_by.is_none(),
            "{heard_by:?} and {id} both hear {other_id}"
        );
        let back = other.partner;
        ensure!(
            back.is_none_or(|back| back == id),
            "{id} hears {other_id}, which hears {back:?}"
        );
        if let Some(end) = self.ends.get_mut(&id) {
            end.partner = Some(other_id);
            let back = end.heard_by;
            ensure!(
                back.is_none_or(|back| back == other_id),
                "{id} hears {other_id} and is heard by {back:?}"
            );
        }
        self.note(|| format!("{mode} {id} hears {other_id}"));
        Ok(())
    }

    /// A link of `mode` was lost: what its partners have not received yet may never come.
    pub(super) fn lost(&mut self, mode: Mode) {
        self.breaks += 1;
        self.tally.links_lost += 1;
        self.moved += 1;
        for end in self.ends.values_mut() {
            if end.mode != mode && end.is_open() {
                end.excuse.get_or_insert("the other side's link was lost");
            }
            // What nobody has heard yet may have waited for the link, or have been under way.
            end.is_lost |= end.heard_by.is_none();
            if end.mode == mode && end.heard_by.is_none() {
                end.spoils = true;
                if mode == Mode::Source {
                    end.excuse.get_or_insert("nobody may have learned of it");
                }
            }
        }
    }

    /// Somebody hostile takes the place of `mode`. Whoever has met its partner is in a stream that
    /// is over; the others may be told anything.
    pub(super) fn taint(&mut self) {
        self.is_tainted = true;
        self.breaks += 1;
        for end in self.ends.values_mut() {
            end.is_tainted |= end.is_open() && end.partner.is_none() && end.heard_by.is_none();
        }
    }

    /// Numbers of the ends that have something left to do, of both sides.
    #[must_use]
    pub(super) fn active(&self) -> Vec<u32> {
        let active = self.ends.iter().filter(|(_, end)| !end.socket.is_over());
        active.map(|(id, _)| *id).collect()
    }

    /// Records how the proxy ended a socket.
    pub(super) fn end(&mut self, id: u32, told: Told) {
        let end = self.ends.get_mut(&id).expect("the number of a socket");
        end.socket.end(told);
        let mode = end.mode;
        self.moved += 1;
        self.note(|| format!("{mode} {id} is ended: {told:?}"));
    }
}

const TRACE_MAX: usize = 400;
