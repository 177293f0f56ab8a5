//! All tunnels are cut at once: how long until each carries verified bytes again.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::probe::{Probe, ProbeError};
use super::recovery::{Attempts, Recoveries};
use super::reporting::Reporting;
use crate::account::{Accountant, SubjectSpec};
use crate::args;
use crate::exit::{Error, Verdict};
use crate::report::{ErrorKind, Model, Recorder};
use crate::settings::Output;
use crate::system::{LinkState, Side, System, SystemSettings};

/// How the tunnels are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Cut {
    /// The service's process is killed, and started again after --outage.
    #[default]
    Restart,
    /// Every link is reset, while the service goes on.
    Reset,
    /// Every link is closed without a close frame, while the service goes on.
    Close,
}

/// A storm.
#[derive(Debug)]
pub struct StormSettings {
    /// What is cut.
    pub system: SystemSettings,
    /// How.
    pub cut: Cut,
    /// How long the service is away, with [`Cut::Restart`].
    pub outage: Duration,
    /// How long tunnels may take to come back.
    pub patience: Duration,
    /// All bytes follow from it.
    pub seed: u64,
    /// What becomes of the figures.
    pub output: Output,
}

impl StormSettings {
    /// Checks what was typed.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn of(args: args::Storm) -> Result<Self, Error> {
        Ok(Self {
            system: SystemSettings::of(&args.parts, TUNNELS)?,
            cut: args.cut,
            outage: args.outage,
            patience: args.patience,
            seed: args.seed,
            output: Output::of(args.output)?,
        })
    }
}

/// Tunnels of a storm unless it is told.
const TUNNELS: usize = 100;

/// Tunnels that are probed at once.
const PROBES_MAX: usize = 16;

/// How long a probe may take: it is tried again then.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// Time between two looks at the links.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Bytes of a probe's request, and of its answer.
const SIZES: (usize, usize) = (1_000, 1_000);

/// Runs a storm from start to end.
///
/// # Errors
/// The system does not start, or fails otherwise than by its tunnels.
pub fn storm(settings: StormSettings) -> Result<Verdict, Error> {
    let mut system = System::start(SystemSettings {
        resets_links: settings.cut == Cut::Reset,
        ..settings.system.clone()
    })
    .map_err(anyhow::Error::from)?;
    prove_all(&system, settings.seed)?;
    let parameters = [
        ("cut", format!("{:?}", settings.cut).to_lowercase()),
        ("outage", format!("{:?}", settings.outage)),
    ];
    let (reporting, mut recorders) = Reporting::start(
        ("storm", Model::Event),
        &settings.system,
        settings.seed,
        settings.patience,
        &parameters,
        1,
        &settings.output,
    )?;
    let recorder = recorders.pop().context("one recorder was asked for")?;
    let accountant = accounts(&system.subjects())?;

    let before = [Side::Source, Side::Destination].map(|side| system.links(side));
    drop(system.take_attempts());
    let cut = match settings.cut {
        Cut::Restart => system.restart_service(settings.outage),
        Cut::Reset | Cut::Close => system.cut_links(),
    }
    .map_err(anyhow::Error::from)?;
    // The service that was started again is another process.
    let restarted = match settings.cut {
        Cut::Restart => Some(accounts(&[system.service_subject()])?),
        Cut::Reset | Cut::Close => None,
    };
    let mut watch = Watch::new(&system, &before, cut, settings.seed);
    watch.run(cut + settings.patience, &recorder)?;
    let Watch {
        tunnels, retries, ..
    } = watch;
    let measured = reporting.begun().elapsed();
    drop(recorder);

    let attempts = Attempts::of(&system.take_attempts(), cut);
    let back: Vec<&Back> = tunnels.iter().filter_map(Progress::back).collect();
    let is_back = back.len();
    let figures = figures(&attempts, &back, cut, retries);
    let mut warnings = Vec::new();
    if is_back < tunnels.len() {
        let (all, time) = (tunnels.len(), settings.patience);
        warnings.push(format!(
            "only {is_back} of {all} tunnels are back within {time:?}"
        ));
    }
    let mut windows = accountant.finish();
    windows.extend(restarted.into_iter().flat_map(Accountant::finish));
    reporting.finish(
        &windows,
        figures,
        warnings,
        measured,
        is_back == tunnels.len(),
        &settings.output,
    )
}

/// By name, each name ending in its unit: how hard was tried, and when tunnels were back after `cut`.
fn figures(
    attempts: &Attempts,
    back: &[&Back],
    cut: Instant,
    retries: u64,
) -> BTreeMap<String, f64> {
    let times = |of: fn(&Back) -> Instant| {
        let times = back.iter().map(|it| of(it).duration_since(cut));
        Recoveries::new(times.collect())
    };
    let mut figures = attempts.figures();
    figures.extend(times(|it| it.linked).figures("both_links_back"));
    figures.extend(times(|it| it.carried).figures("bytes_flow"));
    figures.insert("tunnels_back_count".to_owned(), back.len() as f64);
    figures.insert("failed_probes_count".to_owned(), retries as f64);
    figures
}

fn accounts(subjects: &[SubjectSpec]) -> Result<Accountant, Error> {
    let subjects: Result<Vec<_>, _> = subjects.iter().map(SubjectSpec::find).collect();
    let subjects = subjects.map_err(anyhow::Error::from)?;
    Ok(Accountant::start(subjects).context("no thread for the accounts")?)
}

/// Every tunnel carries a verified round trip, or there is nothing to recover.
fn prove_all(system: &System, seed: u64) -> Result<(), Error> {
    for (index, target) in system.targets().into_iter().enumerate() {
        let carried = Probe::connect(target, seed, index as u64, PROBE_PATIENCE)
            .and_then(|mut probe| probe.round_trip(SIZES.0, SIZES.1).map(|()| probe))
            .and_then(Probe::end);
        carried.with_context(|| format!("tunnel {index} does not work before the storm"))?;
    }
    Ok(())
}

/// When a tunnel was back.
#[derive(Clone, Copy, Debug)]
struct Back {
    /// Both sides could be used.
    linked: Instant,
    /// Verified bytes had gone through and come back.
    carried: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Progress {
    /// Its links are not both new and in use.
    Down,
    Probing {
        linked: Instant,
    },
    Back(Back),
}

impl Progress {
    fn back(&self) -> Option<&Back> {
        match self {
            Self::Back(back) => Some(back),
            Self::Down | Self::Probing { .. } => None,
        }
    }
}

type Answer = (usize, Result<Instant, ProbeError>);

/// Waits for every tunnel.
struct Watch<'a> {
    system: &'a System,
    before: &'a [Vec<LinkState>; 2],
    cut: Instant,
    seed: u64,
    tunnels: Vec<Progress>,
    /// Probes that did not come back although both links were up.
    retries: u64,
}

impl<'a> Watch<'a> {
    fn new(system: &'a System, before: &'a [Vec<LinkState>; 2], cut: Instant, seed: u64) -> Self {
        Self {
            system,
            before,
            cut,
            seed,
            tunnels: vec![Progress::Down; before[0].len()],
            retries: 0,
        }
    }

    /// Until `end` at most. What is not back then is told to the recorder.
    fn run(&mut self, end: Instant, recorder: &Recorder) -> Result<(), Error> {
        let targets = self.system.targets();
        let (ask, asked) = channel();
        let (answer, answers) = channel();
        let asked = Mutex::new(asked);
        let streams = self.tunnels.len() as u64;
        thread::scope(|scope| {
            for _ in 0..PROBES_MAX.min(self.tunnels.len()) {
                let (targets, asked, answer, seed) = (&targets, &asked, answer.clone(), self.seed);
                scope.spawn(move || probe_some(targets, asked, &answer, seed, streams));
            }
            let outcome = self.follow(end, recorder, &ask, &answers);
            // The threads end with it.
            drop(ask);
            outcome
        })?;
        for _ in self.tunnels.iter().filter(|it| it.back().is_none()) {
            recorder.error(ErrorKind::TimedOut);
        }
        Ok(())
    }

    fn follow(
        &mut self,
        end: Instant,
        recorder: &Recorder,
        ask: &Sender<usize>,
        answers: &Receiver<Answer>,
    ) -> Result<(), Error> {
        while self.tunnels.iter().any(|it| it.back().is_none()) && Instant::now() < end {
            if let Some(fault) = self.system.fault() {
                return Err(anyhow!(fault).into());
            }
            self.look(ask);
            let first = answers.recv_timeout(LOOK_INTERVAL).ok();
            for (tunnel, answer) in first.into_iter().chain(answers.try_iter()) {
                self.take(tunnel, answer, recorder);
            }
            recorder.tick(Instant::now());
        }
        Ok(())
    }

    /// Has the tunnels probed whose links are both new and in use.
    fn look(&mut self, ask: &Sender<usize>) {
        let links = [Side::Source, Side::Destination].map(|side| self.system.links(side));
        for (index, progress) in self.tunnels.iter_mut().enumerate() {
            let is_new = |side: usize| {
                let link = &links[side][index];
                let since = link.changed_at?;
                let is_new = link.sessions > self.before[side][index].sessions;
                (link.is_running && is_new).then_some(since)
            };
            if let (Progress::Down, Some(source), Some(destination)) =
                (&*progress, is_new(0), is_new(1))
            {
                let linked = source.max(destination);
                *progress = Progress::Probing { linked };
                // The threads live as long as this end.
                let _ = ask.send(index);
            }
        }
    }

    fn take(&mut self, tunnel: usize, answer: Result<Instant, ProbeError>, recorder: &Recorder) {
        let Progress::Probing { linked } = self.tunnels[tunnel] else {
            return;
        };
        self.tunnels[tunnel] = match answer {
            Ok(carried) => {
                let (up, down) = (SIZES.0 as u64, SIZES.1 as u64);
                recorder.ok(self.cut, self.cut, carried, up, down);
                Progress::Back(Back { linked, carried })
            }
            Err(fault) => {
                if fault.is_fault() {
                    recorder.error(fault.kind());
                }
                self.retries += 1;
                Progress::Down
            }
        };
    }
}

/// Probes tunnels until nobody asks any more.
fn probe_some(
    targets: &[std::net::SocketAddr],
    asked: &Mutex<Receiver<usize>>,
    answer: &Sender<Answer>,
    seed: u64,
    streams: u64,
) {
    loop {
        let next = asked.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(tunnel) = next else { return };
        // Other bytes than before the storm.
        let stream = streams + tunnel as u64;
        let carried = Probe::connect(targets[tunnel], seed, stream, PROBE_PATIENCE)
            .and_then(|mut probe| probe.round_trip(SIZES.0, SIZES.1).map(|()| probe));
        let outcome = carried.and_then(|probe| {
            let carried = Instant::now();
            // Its end is not what is waited for: only a wrong byte counts there.
            match probe.end() {
                Err(fault) if fault.is_fault() => Err(fault),
                Ok(()) | Err(_) => Ok(carried),
            }
        });
        if answer.send((tunnel, outcome)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::assert_directions;
    use crate::tunnels::probe::tests::talkative;

    /// Once the tunnel is back, with the byte in a segment of its own.
    #[test]
    fn a_probe_that_gets_more_than_was_sent_is_a_fault() {
        let targets = [talkative(Some(Duration::from_millis(300)))];
        let (ask, asked) = channel();
        ask.send(0).unwrap();
        drop(ask);
        let (answer, answers) = channel();
        probe_some(&targets, &Mutex::new(asked), &answer, 7, 1);
        let (tunnel, outcome) = answers.recv().unwrap();
        assert_eq!(tunnel, 0);
        assert!(outcome.unwrap_err().is_fault());
    }

    #[test]
    fn it_is_known_of_each_figure_which_way_is_better() {
        let attempts = Attempts {
            by_second: vec![1],
            ..Attempts::default()
        };
        let cut = Instant::now();
        let back = Back {
            linked: cut,
            carried: cut,
        };
        let lower = [
            "attempts_count",
            "attempts_in_second_000_count",
            "attempts_max_per_second",
            "both_links_back_max_s",
            "both_links_back_p50_s",
            "both_links_back_p90_s",
            "both_links_back_p99_s",
            "bytes_flow_max_s",
            "bytes_flow_p50_s",
            "bytes_flow_p90_s",
            "bytes_flow_p99_s",
            "failed_attempts_count",
            "failed_probes_count",
        ];
        let figures = figures(&attempts, &[&back], cut, 1);
        assert_directions(&figures, &["tunnels_back_count"], &lower);
    }
}
