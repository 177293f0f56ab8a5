//! Gathers what the workers hand over, shows it once a second, and makes the summary.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    error_kind::ErrorKind,
    hlog::IntervalLog,
    latency::Latency,
    lines::Lines,
    own_cpu::OwnCpu,
    recorder::Recorder,
    screen::Screen,
    self_check,
    summary::{Generator, ProcessUse, Program, RunFacts, SCHEMA_VERSION, Second, Shares, Summary},
    tally::Tally,
    terminal,
    view::{Sink, View},
};
use crate::{machine::Machine, threshold::Threshold};

/// Intervals of one worker that may wait for the reporter. More, and the worker goes on with
/// the one it has. Memory: three histograms each, so 64 workers hold 52 MB at the very most.
pub const INTERVALS_WAITING_MAX: usize = 2;

/// What is shown while a run goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Show {
    /// A live screen on a terminal, lines otherwise.
    #[default]
    Auto,
    /// A line each second.
    Lines,
    /// Nothing until the end.
    Nothing,
}

/// What the reporter needs to know beforehand.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is run.
    pub facts: RunFacts,
    /// When load begins to be offered; all times are from here.
    pub start: Instant,
    /// Workers, each with a recorder.
    pub workers: usize,
    /// What is shown meanwhile, on standard error.
    pub show: Show,
    /// Directory for the interval log, if files are wanted.
    pub directory: Option<PathBuf>,
}

/// What is only known afterwards.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// How long load was offered; rates are over this time. `None`: until now.
    pub measured: Option<Duration>,
    /// What the processes under test used.
    pub processes: Vec<ProcessUse>,
    /// Figures of the profile, by name.
    pub figures: BTreeMap<String, f64>,
    /// What the reader should know.
    pub warnings: Vec<String>,
    /// Whether the run was stopped before its time.
    pub is_interrupted: bool,
}

/// A run that is being reported.
///
/// Contract: a [`Recorder`] for each worker, all of them finished or dropped before
/// [`Reporter::finish`], which waits for them.
#[derive(Debug)]
pub struct Reporter {
    plan: Plan,
    machine: Machine,
    sender: SyncSender<super::Interval>,
    thread: JoinHandle<Gathered>,
    recorders: usize,
}

/// What the thread has at its end.
struct Gathered {
    tally: Tally,
    own: OwnCpu,
    began: Instant,
    ended: Instant,
    /// Why something could not be shown or written, once for each place.
    troubles: Vec<String>,
}

impl Reporter {
    /// Begins to report.
    ///
    /// # Errors
    /// The directory cannot be written to, or the system gives no thread.
    pub fn start(plan: Plan) -> io::Result<Self> {
        let machine = Machine::read();
        let (sender, receiver) = sync_channel(plan.workers.max(1) * INTERVALS_WAITING_MAX);
        let sinks = sinks(&plan)?;
        let (facts, start) = (plan.facts.clone(), plan.start);
        let thread = std::thread::Builder::new().name("report".to_owned());
        let thread = thread.spawn(move || Gatherer::new(facts, start, sinks).run(&receiver))?;
        Ok(Self {
            plan,
            machine,
            sender,
            thread,
            recorders: 0,
        })
    }

    /// A recorder for the next worker.
    pub fn recorder(&mut self) -> Recorder {
        let worker = self.recorders;
        self.recorders += 1;
        Recorder::new(worker, self.plan.start, self.sender.clone())
    }

    /// Waits for the last interval of every worker, and makes the summary. Thresholds are judged here.
    ///
    /// # Panics
    /// The reporting thread has panicked.
    #[must_use]
    pub fn finish(self, ending: Ending, thresholds: &[Threshold]) -> Summary {
        let until_now = self.plan.start.elapsed();
        drop(self.sender);
        let gathered = self
            .thread
            .join()
            .expect("the reporting thread has said why it panicked");
        let measured = ending.measured.unwrap_or(until_now);
        let mut summary = summary(self.plan.facts, self.machine, &gathered, measured);
        summary.run.is_interrupted = ending.is_interrupted;
        summary.processes = ending.processes;
        summary.figures = ending.figures;
        summary.warnings.extend(ending.warnings);
        summary.warnings.extend(gathered.troubles);
        summary.series = gathered.tally.series;
        summary.thresholds = thresholds
            .iter()
            .map(|threshold| threshold.judge(&summary))
            .collect();
        summary
    }
}

fn sinks(plan: &Plan) -> io::Result<Vec<Box<dyn Sink>>> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    match plan.show {
        Show::Auto if terminal::can_show() => {
            sinks.push(Box::new(Screen::new(terminal::wants_colour())?))
        }
        Show::Auto | Show::Lines => sinks.push(Box::new(Lines::new(io::stderr()))),
        Show::Nothing => {}
    }
    if let Some(directory) = &plan.directory {
        Summary::forget(directory)?;
        sinks.push(Box::new(IntervalLog::create(directory, &plan.facts)?));
    }
    Ok(sinks)
}

fn summary(run: RunFacts, machine: Machine, gathered: &Gathered, measured: Duration) -> Summary {
    let tally = &gathered.tally;
    let seconds = measured.as_secs_f64().max(1e-9);
    let generator = generator(gathered);
    let mut warnings = self_check::run(&generator);
    warnings.extend(self_check::shortfall(
        &generator,
        tally.errors.of(ErrorKind::Skipped),
        tally.due,
    ));
    if !Program::this().is_optimised {
        warnings.push("this is a debug build: its figures are not worth keeping".to_owned());
    }
    let per_second = |count: u64| count as f64 / seconds;
    Summary {
        schema_version: SCHEMA_VERSION,
        program: Program::this(),
        run,
        machine,
        elapsed_s: seconds,
        operations: tally.operations,
        due: tally.due,
        achieved_rate: per_second(tally.operations),
        bytes_up: tally.bytes_up,
        bytes_down: tally.bytes_down,
        up_bits_per_second: per_second(tally.bytes_up) * 8.0,
        down_bits_per_second: per_second(tally.bytes_down) * 8.0,
        open_max: tally.open_max(),
        errors: tally.errors.iter().collect(),
        connection_errors: tally.connection_errors.iter().collect(),
        corrected: Latency::of(&tally.corrected),
        uncorrected: Latency::of(&tally.uncorrected),
        shares: Shares::of(tally.streams().collect()),
        generator,
        warnings,
        ..Summary::default()
    }
}

fn generator(gathered: &Gathered) -> Generator {
    let (own, lag) = (&gathered.own, &gathered.tally.lag);
    let time = gathered
        .ended
        .saturating_duration_since(gathered.began)
        .as_secs_f64();
    let at = |percentile| {
        if lag.is_empty() {
            0
        } else {
            lag.value_at_percentile(percentile).min(lag.max())
        }
    };
    let generator = Generator {
        cpu_s: own.total().as_secs_f64(),
        cpu_cores: own.total().as_secs_f64() / time.max(1e-9),
        cpu_busiest_thread: own.busiest(),
        busiest_wanted: own.busiest_wanted(),
        wakes: lag.len(),
        lag_p50_ns: at(50.0),
        lag_p99_ns: at(99.0),
        lag_max_ns: lag.max(),
        is_bottleneck: false,
    };
    Generator {
        is_bottleneck: self_check::is_bottleneck(&generator),
        ..generator
    }
}

/// The thread that takes intervals.
struct Gatherer {
    facts: RunFacts,
    start: Instant,
    sinks: Vec<Box<dyn Sink>>,
    gathered: Gathered,
}

impl Gatherer {
    fn new(facts: RunFacts, start: Instant, sinks: Vec<Box<dyn Sink>>) -> Self {
        let now = Instant::now();
        let mut own = OwnCpu::new();
        own.sample(now);
        let gathered = Gathered {
            tally: Tally::new(),
            own,
            began: now,
            ended: now,
            troubles: Vec::new(),
        };
        Self {
            facts,
            start,
            sinks,
            gathered,
        }
    }

    fn run(mut self, receiver: &Receiver<super::Interval>) -> Gathered {
        loop {
            let wait = self.due().saturating_duration_since(Instant::now());
            match receiver.recv_timeout(wait) {
                Ok(interval) => self.gathered.tally.add(interval),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while self.due() <= Instant::now() {
                let cpu = self.gathered.own.sample(Instant::now());
                let (second, interval) = self.gathered.tally.close(cpu);
                self.show(&second, &interval);
            }
        }
        self.gathered.own.sample(Instant::now());
        while self.gathered.tally.has_pending() {
            if let Some((second, interval)) = self.gathered.tally.close_rest() {
                self.show(&second, &interval);
            }
        }
        for sink in &mut self.sinks {
            if let Err(error) = sink.end() {
                self.gathered
                    .troubles
                    .push(format!("the report could not be ended: {error}"));
            }
        }
        self.gathered.ended = Instant::now();
        self.gathered
    }

    /// When the next second is closed: once the workers have had time to hand it over.
    fn due(&self) -> Instant {
        let seconds = u64::from(self.gathered.tally.next_second()) + 1;
        self.start + Duration::from_secs(seconds) + HAND_OVER_TIME
    }

    fn show(&mut self, second: &Second, interval: &super::Interval) {
        let view = View {
            facts: &self.facts,
            tally: &self.gathered.tally,
            second,
            interval,
        };
        let troubles = &mut self.gathered.troubles;
        // A place that failed once is left alone: the run matters more than its display.
        self.sinks.retain_mut(|sink| match sink.second(&view) {
            Ok(()) => true,
            Err(error) => {
                troubles.push(format!(
                    "a second could not be shown or written, nor those after it: {error}"
                ));
                false
            }
        });
    }
}

/// Workers hand a second over with their first event after it, or at their next tick.
const HAND_OVER_TIME: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(directory: Option<PathBuf>) -> Plan {
        let facts = RunFacts {
            profile: "latency".to_owned(),
            duration_s: 1.0,
            ..RunFacts::default()
        };
        Plan {
            facts,
            start: Instant::now(),
            workers: 2,
            show: Show::Nothing,
            directory,
        }
    }

    #[test]
    fn a_run_that_does_not_end_leaves_no_summary_of_another() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        crate::report::sample::summary().save(path).expect("files");
        let reporter = Reporter::start(plan(Some(path.to_owned()))).expect("a reporter");
        // As it is found if the run is killed.
        let is_there = Summary::load(path).is_ok();
        assert!(!is_there, "beside the log of the new run");
        let _ = reporter.finish(Ending::default(), &[]);
    }

    #[test]
    fn what_workers_note_is_what_the_summary_says() {
        let mut reporter = Reporter::start(plan(None)).expect("a reporter");
        let start = reporter.plan.start;
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let recorder = reporter.recorder();
                std::thread::spawn(move || {
                    let slot = recorder.stream(worker);
                    recorder.opened();
                    for millisecond in 0..100 {
                        let ended = start + Duration::from_millis(millisecond * 20);
                        recorder.ok(start, ended, ended, 10, 20);
                        recorder.share(slot, 10, 20);
                    }
                    recorder.error(ErrorKind::Reset);
                    recorder.finish();
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("a worker");
        }
        let ending = Ending {
            measured: Some(Duration::from_secs(2)),
            ..Ending::default()
        };
        let thresholds = ["errors>1", "p99<1s"].map(|text| text.parse().expect("a threshold"));
        let summary = reporter.finish(ending, &thresholds);
        assert_eq!(
            (summary.operations, summary.bytes_up, summary.bytes_down),
            (200, 2_000, 4_000)
        );
        assert!((summary.achieved_rate - 100.0).abs() < 1e-9);
        assert_eq!(summary.errors, BTreeMap::from([(ErrorKind::Reset, 2)]));
        assert_eq!(summary.corrected.count, 200);
        assert_eq!(summary.uncorrected.max_ns, 0);
        assert_eq!(
            summary
                .series
                .iter()
                .map(|second| second.operations)
                .sum::<u64>(),
            200
        );
        assert_eq!(
            summary
                .shares
                .as_ref()
                .map(|shares| (shares.count, shares.jain)),
            Some((2, 1.0))
        );
        assert_eq!(
            summary
                .thresholds
                .iter()
                .map(|it| it.is_crossed)
                .collect::<Vec<_>>(),
            [true, false]
        );
    }
}
