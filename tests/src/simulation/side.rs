//! A proxy: the real core, and a driver that does what the product's does, on simulated sockets.

mod local;

use self::local::Reader;
use super::bugs::Bug;
use super::input::Input;
use super::link::LinkId;
use super::numbers::Way;
use super::pipe::Got;
use super::queue::Queue;
use super::scene::Scene;
use super::verdict::{Cause, judge};
use adit_engine::tunnel::bulk::BULK_BUFFER_SIZE;
use adit_engine::tunnel::flow::Flow;
use adit_engine::tunnel::key::ConnectionKey;
use adit_engine::tunnel::limits::{Limits, MAX_RECORD_PLAINTEXT};
use adit_engine::tunnel::mapping::Mapping;
use adit_engine::tunnel::pool::CHUNK_SIZE;
use adit_engine::tunnel::proxy::{Action, Proxy, ProxySettings};
use adit_proto::ids::Mode;
use adit_proto::websocket::CloseCode;
use anyhow::{Context, Result, bail, ensure};
use std::ops::Range;
use std::time::{Duration, Instant};

/// A proxy and its end of the link.
pub(super) struct Side {
    mode: Mode,
    proxy: Proxy,
    knows_credit: bool,
    link: Option<LinkId>,
    input: Option<Input>,
    /// When there was nothing to read, last.
    read_until: Instant,
    out: Queue,
    /// The start of a message that is being renumbered.
    partial: Vec<u8>,
    /// Where frames are composed.
    area: Vec<u8>,
    dials: Vec<(ConnectionKey, u32)>,
    /// As of the last look.
    refused: u64,
    stalled: u64,
    /// Planted mistakes.
    is_deaf: bool,
    late: Duration,
}

impl Side {
    /// A proxy that was just started.
    #[must_use]
    pub(super) fn new(mode: Mode, scene: &mut Scene) -> Self {
        let profile = &scene.profile;
        let names = profile.services.iter();
        let items: Vec<String> = names.map(|name| format!("{name}=1")).collect();
        let mapping = match (mode, items.is_empty()) {
            (Mode::Source, _) => Ok(Mapping::default()),
            (Mode::Destination, true) => Mapping::parse("1", mode),
            (Mode::Destination, false) => Mapping::parse(&items.join(","), mode),
        };
        let mut limits = profile.limits;
        if scene.bug == Some(Bug::BoundOfQueues) {
            limits.connection_buffer *= 2;
            limits.tunnel_buffer *= 2;
        }
        let settings = ProxySettings {
            mode,
            mapping: mapping.expect("a mapping of the profile's services"),
            dialect: (mode == Mode::Source).then_some(profile.dialect),
            limits,
        };
        let mut seed = [0; 32];
        scene.dice.fill(&mut seed);
        Self {
            mode,
            proxy: Proxy::new(settings, seed),
            knows_credit: scene.dice.chance(scene.profile.credit),
            link: None,
            input: None,
            read_until: scene.now,
            out: Queue::default(),
            partial: Vec::new(),
            area: vec![0; BULK_BUFFER_SIZE],
            dials: Vec::new(),
            refused: 0,
            stalled: 0,
            is_deaf: false,
            late: match scene.bug {
                Some(Bug::LateTimers) => Duration::from_millis(300),
                _ => Duration::ZERO,
            },
        }
    }

    /// Its link, while it has one.
    #[must_use]
    pub(super) fn link(&self) -> Option<LinkId> {
        self.link
    }

    /// Whether connections are possible.
    #[must_use]
    pub(super) fn is_running(&self) -> bool {
        self.proxy.is_running()
    }

    /// Bytes that wait for its link.
    #[must_use]
    pub(super) fn unsent(&self) -> usize {
        self.out.size()
    }

    /// Whether nothing is left of any connection.
    #[must_use]
    pub(super) fn is_idle(&self) -> bool {
        let is_empty = self.proxy.connection_count() == 0 && self.proxy.queued_size() == 0;
        is_empty && self.input.is_none() && self.out.size() == 0 && self.dials.is_empty()
    }

    /// Whether its core has an entry about any connection left.
    #[must_use]
    pub(super) fn has_entries(&self) -> bool {
        self.proxy.entry_count() > 0
    }

    /// What is left, for people.
    #[must_use]
    pub(super) fn state(&self) -> String {
        format!(
            "{}: link {:?}, running {}, paused {}, {} connections, {} entries, {} bytes queued, {} unread, {} unsent, {} dials",
            self.mode,
            self.link,
            self.proxy.is_running(),
            self.proxy.is_paused(),
            self.proxy.connection_count(),
            self.proxy.entry_count(),
            self.proxy.queued_size(),
            self.input
                .as_ref()
                .map_or(0, |input| input.bytes.len() - input.position),
            self.out.size(),
            self.dials.len()
        )
    }

    /// When time alone gives it something to do.
    #[must_use]
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.proxy.poll_timeout().map(|at| at + self.late)
    }

    /// A link is there.
    ///
    /// # Errors
    /// The core does what it must not.
    pub(super) fn link_up(&mut self, scene: &mut Scene, link: LinkId) -> Result<()> {
        self.lose(scene, false)?;
        self.link = Some(link);
        self.proxy.link_up(scene.now);
        if self.knows_credit {
            self.proxy.use_credit();
        }
        let mode = self.mode;
        scene.moved += 1;
        scene.note(|| format!("{mode} has link {link:?}"));
        self.carry_out(scene, Cause::Other)
    }

    /// Looks at the time.
    ///
    /// # Errors
    /// The core does what it must not.
    pub(super) fn timeouts(&mut self, scene: &mut Scene) -> Result<()> {
        let is_early = || self.next_timeout().is_none_or(|at| at > scene.now);
        if scene.bug == Some(Bug::NoTimeouts) || (!self.late.is_zero() && is_early()) {
            return Ok(());
        }
        let read_until = self.read_until(scene);
        let told = match scene.errs(Bug::HastySilence, 300) {
            true => scene.now,
            false => read_until,
        };
        let now = match scene.bug {
            Some(Bug::ShortClock) => scene.now - wrapped(scene.now - scene.start),
            _ => scene.now,
        };
        self.proxy.handle_timeout(now, told);
        let next = self.proxy.poll_timeout();
        ensure!(next.is_none_or(|at| at > scene.now), "time does not go on");
        self.carry_out(scene, Cause::Timeout { read_until })
    }

    /// Up to when all that had come was read. What waits is taken to have come right after that.
    fn read_until(&mut self, scene: &mut Scene) -> Instant {
        let now = scene.now;
        let arrival = self.link.and_then(|id| scene.link(id).down.next_arrival());
        if self.input.is_none() && arrival.is_none_or(|at| at > now) {
            self.read_until = now;
        }
        self.read_until
    }

    /// Reads the link once.
    ///
    /// # Errors
    /// The core does what it must not.
    pub(super) fn receive(&mut self, scene: &mut Scene) -> Result<()> {
        let Some(id) = self.link else { return Ok(()) };
        if self.is_deaf || (self.proxy.is_paused() && self.input.is_none()) {
            return Ok(());
        }
        if self.input.is_none() {
            let max = scene.read_size();
            let now = scene.now;
            match scene.link(id).down.read(now, max) {
                Got::Bytes(bytes) => self.input = Some(Input::new(bytes)),
                Got::Nothing => return Ok(()),
                Got::Ended | Got::Reset => return self.lose(scene, false),
            }
            scene.moved += 1;
        }
        self.read(scene)
    }

    fn read(&mut self, scene: &mut Scene) -> Result<()> {
        let Some(mut input) = self.input.take() else {
            return Ok(());
        };
        while input.open(scene) {
            let (bytes, position) = (&mut input.bytes[..input.opened], &mut input.position);
            let before = *position;
            let flow = self.proxy.handle_input(scene.now, bytes, position);
            // Messages may be left in what it has passed over.
            let has_moved = *position > before || self.proxy.has_deliveries();
            scene.moved += u64::from(has_moved);
            let mode = self.mode;
            match flow.with_context(|| format!("the {mode} refuses what the relay says"))? {
                Flow::Done => {
                    ensure!(input.position == input.opened, "it has not read all");
                    input.is_open = false;
                    // Some deliveries are carried out after the next record only.
                    if scene.dice.chance(300) {
                        self.deliver(scene, &input.bytes)?;
                    }
                }
                Flow::Deliver => {
                    ensure!(self.proxy.has_deliveries(), "there is nothing to deliver");
                    self.deliver(scene, &input.bytes)?;
                }
                Flow::Paused => {
                    self.deliver(scene, &input.bytes)?;
                    if self.proxy.is_paused() {
                        self.is_deaf |= scene.errs(Bug::NeverResumed, 300);
                        self.input = Some(input);
                        return self.carry_out(scene, Cause::Input);
                    }
                }
                Flow::Closed(_) => {
                    self.deliver(scene, &input.bytes)?;
                    self.carry_out(scene, Cause::Input)?;
                    self.proxy.close(CloseCode::Normal, "");
                    return self.lose(scene, true);
                }
            }
        }
        self.deliver(scene, &input.bytes)?;
        self.carry_out(scene, Cause::Input)
    }

    /// Composes some frames, at most so many times, and offers them to the link.
    ///
    /// # Errors
    /// The core does what it must not.
    pub(super) fn send(&mut self, scene: &mut Scene, times: usize) -> Result<()> {
        let Some(id) = self.link else { return Ok(()) };
        for _ in 0..times {
            if self.out.size() >= scene.profile.network.output_mark || !self.proxy.wants_output() {
                break;
            }
            let composed = match self.proxy.bulk_ready() {
                Some(key) if scene.dice.chance(700) => self.compose_bulk(scene, key),
                Some(_) | None => self.compose(scene),
            };
            self.carry_out(scene, Cause::Send)?;
            if composed == 0 {
                break;
            }
            scene.moved += 1;
        }
        if self.link != Some(id) {
            return Ok(());
        }
        let (now, out) = (scene.now, self.out.waiting());
        let link = scene.links.get_mut(&id).context("its link exists")?;
        let count = link.up.write(now, &mut scene.dice, out);
        self.out.consume(count);
        scene.moved += count as u64;
        Ok(())
    }

    /// One frame. Returns its size.
    fn compose(&mut self, scene: &mut Scene) -> usize {
        let now = scene.now;
        let area = &mut self.area[..MAX_RECORD_PLAINTEXT];
        let size = self.proxy.compose(now, area, &mut Reader(scene));
        self.write(scene, 0..size);
        size
    }

    /// The frames of one read. Returns how many, and one for what a read without bytes has shown.
    fn compose_bulk(&mut self, scene: &mut Scene, key: ConnectionKey) -> usize {
        let now = scene.now;
        let mut count = 1;
        let read = self
            .proxy
            .read_bulk(now, key, &mut self.area, &mut Reader(scene));
        let Some(mut bulk) = read else { return count };
        while let Some(frame) = self.proxy.next_bulk_frame(&mut bulk, &mut self.area) {
            self.write(scene, frame);
            count += 1;
        }
        count
    }

    /// Frames that were composed go to the link.
    fn write(&mut self, scene: &Scene, frames: Range<usize>) {
        let frames = &self.area[frames];
        let numbers = scene.profile.numbers;
        match self.mode == Mode::Source && !numbers.is_ours() {
            true => {
                let partial = &mut self.partial;
                let renumbered = numbers.of_frames(Way::Up, scene.bug, frames, partial);
                self.out.push(&renumbered);
            }
            false => self.out.push(frames),
        }
    }

    /// The link is over. `is_polite`: its last words are offered first.
    ///
    /// # Errors
    /// The core does what it must not.
    pub(super) fn lose(&mut self, scene: &mut Scene, is_polite: bool) -> Result<()> {
        if self.link.is_none() {
            return Ok(());
        }
        if is_polite {
            self.send(scene, 2)?;
        }
        let Some(id) = self.link.take() else {
            return Ok(());
        };
        scene.link(id).up.finish();
        self.input = None;
        self.out.clear();
        self.partial.clear();
        self.proxy.link_lost();
        let mode = self.mode;
        scene.note(|| format!("{mode} loses link {id:?}"));
        self.carry_out(scene, Cause::Loss)?;
        scene.lost(mode);
        Ok(())
    }

    /// The process is killed: its sockets are reset.
    ///
    /// # Errors
    /// The core does what it must not.
    pub(super) fn kill(&mut self, scene: &mut Scene) -> Result<()> {
        if let Some(id) = self.link {
            scene.link(id).reset();
        }
        self.lose(scene, false)?;
        let mode = self.mode;
        scene.note(|| format!("{mode} is killed"));
        scene.lost(mode);
        self.proxy.abort_all();
        self.carry_out(scene, Cause::Kill)?;
        for (key, _) in std::mem::take(&mut self.dials) {
            self.proxy.dial_failed(key);
        }
        let left = self.proxy.connection_count();
        ensure!(left == 0, "{left} connections are left when all were cut");
        Ok(())
    }

    /// Carries out what the core has decided, and holds it to the bounds.
    fn carry_out(&mut self, scene: &mut Scene, cause: Cause) -> Result<()> {
        let counters = self.proxy.counters();
        let refused = counters.refused > self.refused;
        let stalled = counters.stalled - self.stalled;
        scene.refusals += counters.refused - self.refused + stalled;
        (self.refused, self.stalled) = (counters.refused, counters.stalled);
        while let Some(action) = self.proxy.poll_action() {
            match action {
                Action::Dial { key, service } => self.dials.push((key, service)),
                Action::CancelDial { key } => {
                    if scene.errs(Bug::ForgottenDial, 1000) {
                        self.dials.retain(|(dialled, _)| *dialled != key);
                    } else if scene.dice.chance(500)
                        && let Some(at) = self.dials.iter().position(|(dialled, _)| *dialled == key)
                    {
                        self.dials.remove(at);
                        self.proxy.dial_failed(key);
                    }
                }
                Action::End { io } => judge(scene, io, false, cause, refused)?,
                Action::Abort { io } => judge(scene, io, true, cause, refused)?,
                Action::LinkDead => {
                    let mode = self.mode;
                    scene.note(|| format!("{mode} takes its link for dead"));
                    return self.lose(scene, false);
                }
                Action::LinkSuspect { .. } => {
                    let is_gone = self.link.is_some_and(|id| scene.link(id).up.is_vanished());
                    if is_gone {
                        return self.lose(scene, false);
                    }
                }
                Action::Mismatch(mismatch) => bail!("the services do not fit: {mismatch}"),
                Action::Listen { .. } | Action::Unlisten => {}
                other => bail!("the simulator does not know {other:?}"),
            }
        }
        self.check(&scene.profile.limits)
    }

    fn check(&self, limits: &Limits) -> Result<()> {
        let (queued, count) = (self.proxy.queued_size(), self.proxy.connection_count());
        let count_max = limits.connections_max;
        // Queues are made of whole pages, of which the first and the last may be nearly empty.
        let of_all = limits.tunnel_buffer.next_multiple_of(CHUNK_SIZE);
        let of_each = limits.connection_buffer + 2 * CHUNK_SIZE;
        let queued_max = of_all.min(count * of_each);
        ensure!(
            queued <= queued_max,
            "{queued} bytes wait for the local sockets of {count} connections, {queued_max} is the bound"
        );
        ensure!(
            count <= count_max,
            "{count} connections, {count_max} is the bound"
        );
        let dials = self.dials.len();
        ensure!(
            dials <= count_max,
            "{dials} dials, {count_max} is the bound"
        );
        Ok(())
    }
}

/// A planted mistake: by how much a clock of so many milliseconds is behind. The machine has been
/// up for 49 days, so that it is all of them before the first one is over.
fn wrapped(time: Duration) -> Duration {
    let all = Duration::from_millis(1 << 32);
    match time + Duration::from_secs(49 * 86_400) < all {
        true => Duration::ZERO,
        false => all,
    }
}

/// How long after a loss a proxy connects again, at most.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(4);
