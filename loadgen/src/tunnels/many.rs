//! Many tunnels on one relay, some of them active: what the others cost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::ledger::Ledger;
use super::probe::{Probe, ProbeError};
use super::reporting::Reporting;
use crate::account::{Accountant, Subject};
use crate::args;
use crate::exit::{Error, Verdict};
use crate::report::{Model, Recorder};
use crate::settings::{Output, within};
use crate::system::{System, SystemSettings};

/// The most tunnels that are active, each with a thread of the generator.
pub const ACTIVE_MAX: usize = 64;

/// Many tunnels, some of them active.
#[derive(Debug)]
pub struct ManySettings {
    /// The system with all tunnels.
    pub system: SystemSettings,
    /// Tunnels that are active, 1 to [`ACTIVE_MAX`], and fewer than there are.
    pub active: usize,
    /// Rounds: in each the active tunnels are driven alone, and beside the idle ones.
    pub rounds: usize,
    /// Time of all rounds together.
    pub duration: Duration,
    /// Bytes of a request.
    pub size: usize,
    /// Bytes of its answer.
    pub reply_size: usize,
    /// All bytes follow from it.
    pub seed: u64,
    /// What becomes of the figures.
    pub output: Output,
}

impl ManySettings {
    /// Checks what was typed.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn of(args: args::ManyTunnels) -> Result<Self, Error> {
        let system = SystemSettings::of(&args.parts, TUNNELS)?;
        let idle_or_not = system.tunnels.saturating_sub(1).clamp(1, ACTIVE_MAX);
        within("--active", args.active, idle_or_not)?;
        within("--rounds", args.rounds, ROUNDS_MAX)?;
        check_slice(args.duration, args.rounds)?;
        Ok(Self {
            system,
            active: args.active,
            rounds: args.rounds,
            duration: args.duration,
            size: args.size,
            reply_size: args.reply_size,
            seed: args.seed,
            output: Output::of(args.output)?,
        })
    }
}

/// In each round the active tunnels are driven twice, and a slice has to have room for a round trip.
fn check_slice(duration: Duration, rounds: usize) -> Result<(), Error> {
    let least = SLICE_MIN * 2 * rounds as u32;
    if duration >= least {
        return Ok(());
    }
    Err(Error::usage(
        format!("--duration {duration:?} is too short for {rounds} rounds"),
        format!("they take {least:?} at the least; or give fewer --rounds"),
    ))
}

/// The least time that a half of a round is driven.
const SLICE_MIN: Duration = Duration::from_millis(10);

/// Tunnels unless it is told.
const TUNNELS: usize = 1_000;

/// The most rounds of a run.
const ROUNDS_MAX: usize = 1_000;

/// How long a round trip may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Drives as many tunnels by themselves, in a system of their own, and beside idle ones, in turns: what
/// the machine does meanwhile meets both.
///
/// # Errors
/// A system does not start.
pub fn many(settings: ManySettings) -> Result<Verdict, Error> {
    let start = |tunnels| {
        let settings = SystemSettings {
            tunnels,
            connections: tunnels,
            ..settings.system.clone()
        };
        System::start(settings).map_err(anyhow::Error::from)
    };
    let alone = start(settings.active)?;
    let crowd = start(settings.system.tunnels)?;
    // At least one, as was checked; but settings can also be made by hand.
    let idle = settings
        .system
        .tunnels
        .saturating_sub(settings.active)
        .max(1);
    let mut figures = memory_per_tunnel(&alone, &crowd, idle)?;

    let parameters = [
        ("active", settings.active.to_string()),
        ("rounds", settings.rounds.to_string()),
        ("size", settings.size.to_string()),
        ("reply-size", settings.reply_size.to_string()),
    ];
    let (reporting, mut recorders) = Reporting::start(
        ("many-tunnels", Model::Closed),
        &settings.system,
        settings.seed,
        settings.duration,
        &parameters,
        settings.active,
        &settings.output,
    )?;
    let accountant = Accountant::start(subjects(&crowd)?).context("no thread for the accounts")?;
    let mut ledgers = [
        Ledger::new(subjects(&alone)?),
        Ledger::new(subjects(&crowd)?),
    ];
    let mut driver = Driver {
        settings: &settings,
        slice: settings.duration / (2 * settings.rounds as u32),
        next_stream: 0,
        notes: Vec::new(),
    };
    let rounds = driver.take_turns([&alone, &crowd], &mut recorders, &mut ledgers);
    let fault = alone.fault().or(crowd.fault());
    driver.notes.extend(fault);
    drop(recorders);
    figures.extend(compare(&rounds));
    figures.extend(costs(&ledgers));
    let measured = driver.slice * settings.rounds as u32;
    let passed = driver.notes.is_empty();
    let windows = accountant.finish().into_iter();
    let windows: Vec<_> = windows.map(|it| ledgers[1].while_driven(it)).collect();
    let mut notes = driver.notes;
    notes.push(PROCESSES.to_owned());
    reporting.finish(&windows, figures, notes, measured, passed, &settings.output)
}

/// What the table of processes is about.
const PROCESSES: &str = "latencies, and processor time and memory of the processes, are those of the system with idle \
     tunnels; processor time is that of the slices in which it was driven";

/// What a round trip costs with and without idle tunnels, and what those cost by themselves.
fn costs([alone, crowd]: &[Ledger; 2]) -> BTreeMap<String, f64> {
    let each = [("alone", alone), ("beside_idle", crowd)];
    let each = each.into_iter().filter_map(|(name, ledger)| {
        let cost = ledger.cpu_per_operation_ns()?;
        Some((format!("{name}_cpu_per_operation_ns"), cost))
    });
    let idle = ("all_idle_cpu_share".to_owned(), crowd.idle_cores());
    each.chain([idle]).collect()
}

fn subjects(system: &System) -> Result<Vec<Subject>, Error> {
    let found: Result<Vec<_>, _> = system.subjects().iter().map(|it| it.find()).collect();
    Ok(found.map_err(anyhow::Error::from)?)
}

/// User memory that each part has more with the idle tunnels than without, for each of them.
fn memory_per_tunnel(
    alone: &System,
    crowd: &System,
    idle: usize,
) -> Result<BTreeMap<String, f64>, Error> {
    let memory = |system: &System| -> Result<BTreeMap<&str, f64>, Error> {
        let mut sums = BTreeMap::new();
        for subject in subjects(system)? {
            let usage = subject.usage().map_err(anyhow::Error::from)?;
            // A side may be several processes.
            let part = ["service", "source", "destination"];
            let part = part.into_iter().find(|it| subject.name().starts_with(it));
            if let (Some(part), Some(bytes)) = (part, usage.user_memory) {
                *sums.entry(part).or_default() += bytes as f64;
            }
        }
        Ok(sums)
    };
    Ok(more_memory(&memory(alone)?, &memory(crowd)?, idle))
}

/// By part, of a few tunnels and of all.
fn more_memory(
    few: &BTreeMap<&str, f64>,
    all: &BTreeMap<&str, f64>,
    idle: usize,
) -> BTreeMap<String, f64> {
    let more = |(part, bytes): (&&str, &f64)| {
        let name = format!("{part}_user_memory_per_idle_tunnel_bytes");
        Some((name, (bytes - few.get(part)?) / idle as f64))
    };
    all.iter().filter_map(more).collect()
}

/// As many of them, evenly over all.
fn spread(targets: &[SocketAddr], count: usize) -> Vec<SocketAddr> {
    (0..count)
        .map(|index| targets[index * targets.len() / count])
        .collect()
}

/// Rates by round: alone, and beside idle ones.
fn compare(rounds: &[(f64, f64)]) -> BTreeMap<String, f64> {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        }
    };
    let kept: Vec<f64> = rounds
        .iter()
        .map(|(alone, beside)| beside / alone.max(1e-9))
        .collect();
    let least = kept.iter().copied().fold(f64::INFINITY, f64::min);
    let most = kept.iter().copied().fold(0.0, f64::max);
    [
        (
            "alone_per_second",
            median(rounds.iter().map(|it| it.0).collect()),
        ),
        (
            "beside_idle_per_second",
            median(rounds.iter().map(|it| it.1).collect()),
        ),
        ("kept_share", median(kept)),
        ("kept_least_share", least),
        ("kept_most_share", most),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

struct Driver<'a> {
    settings: &'a ManySettings,
    slice: Duration,
    next_stream: u64,
    /// What went wrong, the first of each slice.
    notes: Vec<String>,
}

impl Driver<'_> {
    /// Drives both systems, the one without and the one with idle tunnels, in turns. Gives round trips a second of both
    /// in each round.
    fn take_turns(
        &mut self,
        [alone, crowd]: [&System; 2],
        recorders: &mut [Recorder],
        ledgers: &mut [Ledger; 2],
    ) -> Vec<(f64, f64)> {
        let (rounds, seconds) = (0..self.settings.rounds, self.slice.as_secs_f64());
        let targets = [
            alone.targets(),
            spread(&crowd.targets(), self.settings.active),
        ];
        let mut measure = |which: usize| {
            ledgers.iter_mut().for_each(Ledger::begin);
            let operations = self.drive(&targets[which], recorders, which == 1);
            for (index, ledger) in ledgers.iter_mut().enumerate() {
                ledger.end((index == which).then_some(operations));
            }
            operations as f64 / seconds
        };
        // Neither always comes first.
        let round = |round: usize| {
            let first = measure(round % 2);
            let second = measure((round + 1) % 2);
            match round % 2 {
                0 => (first, second),
                _ => (second, first),
            }
        };
        rounds.map(round).collect()
    }

    /// Drives each target on a thread of its own for a slice of time; gives round trips.
    fn drive(&mut self, targets: &[SocketAddr], recorders: &mut [Recorder], records: bool) -> u64 {
        let barrier = Barrier::new(targets.len());
        let first = self.next_stream;
        self.next_stream += targets.len() as u64;
        let (settings, slice) = (self.settings, self.slice);
        let counts: Vec<_> = thread::scope(|scope| {
            let mut threads = Vec::new();
            for (stream, (target, recorder)) in (first..).zip(targets.iter().zip(recorders)) {
                let (target, barrier) = (*target, &barrier);
                threads.push(scope.spawn(move || {
                    let probe = Probe::connect(target, settings.seed, stream, PATIENCE);
                    barrier.wait();
                    let lent = Lent { recorder, records };
                    one_tunnel(probe, settings, slice, &lent)
                }));
            }
            let joined = threads.into_iter().map(|it| it.join());
            joined
                .map(|it| it.unwrap_or((0, Some("a thread panicked".to_owned()))))
                .collect()
        });
        let fault = counts.iter().find_map(|(_, fault)| fault.clone());
        self.notes.extend(fault);
        counts.iter().map(|it| it.0).sum()
    }
}

/// A recorder, and whether what happens is recorded or only the time told.
struct Lent<'a> {
    recorder: &'a mut Recorder,
    records: bool,
}

/// Round trips one after the other for a slice of time; how many, and what went wrong.
fn one_tunnel(
    probe: Result<Probe, ProbeError>,
    settings: &ManySettings,
    slice: Duration,
    lent: &Lent<'_>,
) -> (u64, Option<String>) {
    let end = Instant::now() + slice;
    let mut count = 0;
    let outcome = probe.and_then(|mut probe| {
        while Instant::now() < end {
            let started = Instant::now();
            probe.round_trip(settings.size, settings.reply_size)?;
            let ended = Instant::now();
            count += 1;
            if lent.records {
                let (up, down) = (settings.size as u64, settings.reply_size as u64);
                lent.recorder.ok(started, started, ended, up, down);
            } else {
                lent.recorder.tick(ended);
            }
        }
        probe.end()
    });
    let fault = outcome.err().map(|fault| {
        lent.recorder.error(fault.kind());
        fault.to_string()
    });
    (count, fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::assert_directions;

    #[test]
    fn shares_are_of_the_same_round() {
        let figures = compare(&[(100.0, 90.0), (10.0, 10.0), (50.0, 40.0)]);
        assert_eq!(figures["kept_share"], 0.9);
        assert_eq!(figures["kept_least_share"], 0.8);
        assert_eq!(figures["kept_most_share"], 1.0);
        assert_eq!(figures["alone_per_second"], 50.0);
        assert_eq!(compare(&[(1.0, 1.0), (1.0, 0.5)])["kept_share"], 0.75);
    }

    #[test]
    fn it_is_known_of_each_figure_which_way_is_better() {
        let mut figures = compare(&[(1.0, 1.0)]);
        let driven = || {
            let mut ledger = Ledger::new(Vec::new());
            ledger.begin();
            ledger.end(Some(1));
            ledger
        };
        figures.extend(costs(&[driven(), driven()]));
        let memory = ["service", "source", "destination"].map(|part| (part, 1.0));
        figures.extend(more_memory(&memory.into(), &memory.into(), 1));
        let higher = [
            "alone_per_second",
            "beside_idle_per_second",
            "kept_least_share",
            "kept_most_share",
            "kept_share",
        ];
        let lower = [
            "all_idle_cpu_share",
            "alone_cpu_per_operation_ns",
            "beside_idle_cpu_per_operation_ns",
            "destination_user_memory_per_idle_tunnel_bytes",
            "service_user_memory_per_idle_tunnel_bytes",
            "source_user_memory_per_idle_tunnel_bytes",
        ];
        assert_directions(&figures, &higher, &lower);
    }

    #[test]
    fn active_tunnels_are_spread_over_all() {
        let targets: Vec<SocketAddr> = (1..=10).map(|port| ([127, 0, 0, 1], port).into()).collect();
        let ports: Vec<u16> = spread(&targets, 4).iter().map(SocketAddr::port).collect();
        assert_eq!(ports, [1, 3, 6, 8]);
    }
}
