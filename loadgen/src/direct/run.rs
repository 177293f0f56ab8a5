//! Both ends, each on a thread of its own, for the time of a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use super::compose::Route;
use super::destination::{Destination, FarCounts};
use super::link::{self, LinkReader, LinkSettings, LinkWriter};
use super::load::Load;
use super::services::await_route;
use super::session::Session;
use super::source::Source;
use super::starts::Starts;
use super::timer::Timer;
use crate::profile;
use crate::report::{ErrorKind, Recorder};

/// How long a service may take to tell its services.
const SERVICES_TIMEOUT: Duration = Duration::from_secs(20);

const UNTOLD: &str = "the service does not tell its services";

/// Time between two looks whether something has come about.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Time between two ticks of the recorder.
const TICK_INTERVAL: Duration = Duration::from_millis(100);

/// A run.
#[derive(Clone)]
pub struct DirectSettings {
    /// The end that offers load.
    pub source: LinkSettings,
    /// The end that answers; `None`: somebody else's, with a verifying server behind it.
    pub destination: Option<LinkSettings>,
    /// What is offered.
    pub load: Load,
    /// How long.
    pub duration: Duration,
    /// How long answers are waited for once the time is up.
    pub grace: Duration,
    /// All bytes follow from it.
    pub seed: u64,
    /// Set when the run is to end before its time.
    pub stop: Arc<AtomicBool>,
}

/// How a run ended; the figures are with the recorder.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Why the tunnel ended before its time, if it did.
    pub cut_short: Option<String>,
    /// How long load was offered: the time of the run, unless it was cut short or stopped.
    pub offered: Duration,
    /// Connections on which a wrong byte came, at either end.
    pub faults: u64,
    /// The first of them at the source.
    pub first_fault: Option<String>,
    /// Connections that the destination's end saw.
    pub far_connections: u64,
    /// Bytes that it found right.
    pub far_received: u64,
    /// Connections that it saw end before their trailer.
    pub far_cut: u64,
    /// What only its profile knows.
    pub profile: profile::Outcome,
}

/// A tunnel whose ends are connected.
pub struct Tunnel {
    settings: DirectSettings,
    runtime: tokio::runtime::Runtime,
    source: (LinkReader, LinkWriter),
    route: Route,
    far: Option<Far>,
    counts: Arc<FarCounts>,
}

/// Connects: the destination's end first, if it is played, so that somebody answers. Both ends know the tunnel's
/// services then, and nothing is left to wait for once load is offered.
///
/// # Errors
/// A link cannot be had, or the service does not tell its services.
pub fn connect(settings: DirectSettings) -> Result<Tunnel> {
    let counts = Arc::new(FarCounts::default());
    let far = settings.destination.clone();
    let far = far.map(|link| Far::start(link, Arc::clone(&counts)));
    let far = far.transpose()?;
    let runtime = runtime()?;
    let (source, route) = runtime.block_on(async {
        let (mut reader, mut writer) = link::connect(&settings.source).await?;
        let told = tokio::time::timeout(SERVICES_TIMEOUT, await_route(&mut reader, &mut writer));
        let route = told.await.unwrap_or_else(|_| bail!(UNTOLD))?;
        anyhow::Ok(((reader, writer), route))
    })?;
    Ok(Tunnel {
        settings,
        runtime,
        source,
        route,
        far,
        counts,
    })
}

impl Tunnel {
    /// Offers load from `start` on, for the time of the run.
    ///
    /// # Errors
    /// A peer breaks the protocol, or the destination's link ends before the source is done.
    pub fn run(self, recorder: Recorder, start: Instant) -> Result<Outcome> {
        let (load, seed) = (self.settings.load, self.settings.seed);
        let source = Source::new(load, seed, recorder, self.route);
        let offered = offer(&self.settings, self.source, source, start);
        let source = self.runtime.block_on(offered)?;
        let mut outcome = Outcome {
            cut_short: source.cut_short.clone(),
            offered: source.offered(start),
            first_fault: source.first_fault.clone(),
            profile: source.outcome(),
            ..Outcome::default()
        };
        let faults = source.faults;
        // Its last interval is not to wait for the far end.
        drop(source);
        if let Some(far) = self.far
            && let Err(fault) = far.finish()
        {
            outcome.cut_short.get_or_insert(format!("{fault:#}"));
        }
        let counts = &self.counts;
        outcome.faults = faults + counts.faults.load(Ordering::Relaxed);
        outcome.far_connections = counts.connections.load(Ordering::Relaxed);
        outcome.far_received = counts.received.load(Ordering::Relaxed);
        outcome.far_cut = counts.cut.load(Ordering::Relaxed);
        Ok(outcome)
    }
}

impl Outcome {
    /// By name, each name ending in its unit: the profile's, and those of the far end where it was played.
    #[must_use]
    pub fn figures(&self, has_far_end: bool) -> BTreeMap<String, f64> {
        let far = [
            ("far_end_connections_count", self.far_connections),
            ("far_end_received_bytes", self.far_received),
            ("far_end_cut_connections_count", self.far_cut),
        ];
        let told = far.into_iter().filter(|_| has_far_end);
        let mut figures = self.profile.figures();
        figures.extend(told.map(|(name, value)| (name.to_owned(), value as f64)));
        figures
    }
}

/// The source, once all was said or given up.
async fn offer(
    settings: &DirectSettings,
    (reader, writer): (LinkReader, LinkWriter),
    source: Source,
    start: Instant,
) -> Result<Source> {
    let session = Session::new(source);
    let mut ended = None;
    tokio::select! {
        link = session.run(reader, writer) => ended = link?,
        clock = keep_time(&session, settings, start) => clock?,
    }
    if let Some(how) = ended {
        session.with(|it| it.lose(ErrorKind::Tunnel, how));
    }
    Ok(session.into_end())
}

/// Begins, fires on schedule, and ends: the session ends by itself then, or is given up.
async fn keep_time(
    session: &Session<Source>,
    settings: &DirectSettings,
    start: Instant,
) -> Result<()> {
    let end = start + settings.duration;
    let mut timer = Timer::new()?;
    timer.until(start).await;
    session.with(|source| source.begin(start, settings.duration));
    let mut tick = start + TICK_INTERVAL;
    let mut starts = Starts::new(&settings.load, settings.seed, start);
    loop {
        let next = starts.peek().map_or(tick, |due| due.min(tick)).min(end);
        timer.until(next).await;
        let now = Instant::now();
        while let Some(due) = starts.take(now, end) {
            session.with(|source| source.fire(due, now));
        }
        if now >= tick {
            session.with(|source| source.tick(now));
            tick = now + TICK_INTERVAL;
        }
        if now >= end || settings.stop.load(Ordering::Relaxed) {
            break;
        }
    }
    session.with(Source::finish);
    let patience = Instant::now() + settings.grace;
    while Instant::now() < patience {
        tokio::time::sleep(TICK_INTERVAL).await;
        session.with(|source| source.tick(Instant::now()));
    }
    session.with(|source| source.give_up(ErrorKind::TimedOut));
    Ok(())
}

/// Waits until the service has told the destination its services.
async fn await_services(session: &Session<Destination>) -> Result<()> {
    let end = Instant::now() + SERVICES_TIMEOUT;
    while !session.with(|end| end.is_running()) {
        if Instant::now() >= end {
            bail!(UNTOLD);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// The destination's end on its thread.
struct Far {
    stop: tokio::sync::oneshot::Sender<()>,
    thread: thread::JoinHandle<Result<()>>,
}

impl Far {
    /// Starts it and waits until the service knows it.
    fn start(link: LinkSettings, counts: Arc<FarCounts>) -> Result<Self> {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::Builder::new().name("destination".to_owned());
        let thread = thread.spawn(move || {
            runtime()?.block_on(async {
                let session = Session::new(Destination::new(counts));
                answer(&link, &session, ready, async {
                    // Also completes when nobody holds the other end any more.
                    let _ = stopped.await;
                })
                .await
            })
        })?;
        match is_ready.recv() {
            Ok(()) => Ok(Self { stop, thread }),
            // It has ended, and knows why.
            Err(_) => Err(joined(thread).err().unwrap_or_else(|| anyhow!("it ended"))),
        }
    }

    fn finish(self) -> Result<()> {
        let _ = self.stop.send(());
        joined(self.thread).context("the destination's end")
    }
}

fn joined(thread: thread::JoinHandle<Result<()>>) -> Result<()> {
    let ended = thread.join();
    ended.unwrap_or_else(|_| bail!("the thread of the destination's end panicked"))
}

/// Answers until `stop`, and then what is still open for [`FAREWELL`].
async fn answer(
    link: &LinkSettings,
    session: &Session<Destination>,
    ready: mpsc::Sender<()>,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let (reader, writer) = link::connect(link).await?;
    let clock = async {
        await_services(session).await?;
        let _ = ready.send(());
        stop.await;
        session.with(Destination::finish);
        tokio::time::sleep(FAREWELL).await;
        anyhow::Ok(())
    };
    tokio::select! {
        ended = session.run(reader, writer) => match ended? {
            Some(how) => bail!("the tunnel's link ended: {how}"),
            None => Ok(()),
        },
        clock = clock => clock,
    }
}

/// Answers as the destination of a tunnel, for `adit-loadgen serve`. `ready` is called once
/// connections can come. Returns when the link has ended.
///
/// # Errors
/// Always: why there is no link any more, or never was.
pub fn serve<E>(link: &LinkSettings, ready: impl FnOnce() -> Result<(), E>) -> Result<()>
where
    E: Into<anyhow::Error>,
{
    let counts = Arc::new(FarCounts::default());
    let far = Far::start(link.clone(), counts)?;
    ready().map_err(Into::into)?;
    let Far { stop, thread } = far;
    let ended = joined(thread);
    drop(stop);
    ended
}

/// How long the destination's end waits for what is open when the source is done.
const FAREWELL: Duration = Duration::from_secs(2);

fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().context("no runtime")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::assert_directions;

    #[test]
    fn it_is_known_of_each_figure_which_way_is_better() {
        let higher = ["far_end_connections_count", "far_end_received_bytes"];
        let lower = ["far_end_cut_connections_count"];
        assert_directions(&Outcome::default().figures(true), &higher, &lower);
    }
}
