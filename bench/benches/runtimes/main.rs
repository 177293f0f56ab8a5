//! `cargo bench -p adit-bench --bench runtimes`: the source of a tunnel on adit's own loop, and the
//! same core on ready-made runtimes.
//!
//! Held fixed: relay, destination, service and client, as in the bench `path`, with the loops of
//! adit on epoll; only the source differs. On a ready-made runtime it is written as one would write
//! it there: a task for each direction of each connection, buffers that belong to the operation
//! (which is what io_uring runtimes ask for; tokio gets the same), composing in the task that writes
//! the link, so that all that is ready shares a record. Loopback TCP with `reno`.
//!
//! Compared is the processor time of the source's thread, in user space and kernel. Each figure is
//! the median of runs that took turns with those of the others, every one on a new tunnel.
//!
//! `-- bulk/` runs the scenarios whose name has that in it, `-- --runs 15` makes more runs than five.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod arguments;
mod core;
mod driver;
mod processor;
mod rivals;
mod signal;

use adit_bench::path::{Client, SHORT, SOURCE, Stack};
use adit_bench::sockets::CONGESTION_CONTROL;
use adit_engine::ring::{IoChoice, Settings, open, raise_descriptor_limit};
use arguments::Arguments;
use driver::Source;
use rivals::{Monoio, Tokio, TokioUring};
use std::time::{Duration, Instant};

const WARM_UP: Duration = Duration::from_millis(100);

/// Bytes that one pass of `bulk` moves.
const BULK: usize = 4 * 1024 * 1024;

/// What the source runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runtime {
    Tokio,
    AditEpoll,
    AditUring,
    Monoio,
    TokioUring,
}

impl Runtime {
    fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::AditEpoll => "adit, epoll",
            Self::AditUring => "adit, io_uring",
            Self::Monoio => "monoio",
            Self::TokioUring => "tokio-uring",
        }
    }

    fn needs_uring(self) -> bool {
        match self {
            Self::Tokio | Self::AditEpoll => false,
            Self::AditUring | Self::Monoio | Self::TokioUring => true,
        }
    }
}

/// The first is what the others are compared with.
const RUNTIMES: [Runtime; 5] = [
    Runtime::Tokio,
    Runtime::AditEpoll,
    Runtime::AditUring,
    Runtime::Monoio,
    Runtime::TokioUring,
];

/// One kind of load.
struct Scenario {
    name: &'static str,
    streams: usize,
    /// Bytes of each answer.
    answer: usize,
    unit: Unit,
}

#[derive(Clone, Copy)]
enum Unit {
    /// Microseconds for each.
    RoundTrips,
    /// Seconds for each.
    Gibibytes,
}

const SCENARIOS: [Scenario; 5] = [
    Scenario::round_trips("round_trip/1_conn/64_B", 1),
    Scenario::round_trips("round_trip/64_conn/64_B", 64),
    Scenario::round_trips("round_trip/1000_conn/64_B", 1_000),
    Scenario::bulk("bulk/1_conn/4_MiB", 1),
    Scenario::bulk("bulk/64_conn/4_MiB", 64),
];

impl Scenario {
    const fn round_trips(name: &'static str, streams: usize) -> Self {
        Self {
            name,
            streams,
            answer: SHORT,
            unit: Unit::RoundTrips,
        }
    }

    const fn bulk(name: &'static str, streams: usize) -> Self {
        Self {
            name,
            streams,
            answer: BULK / streams,
            unit: Unit::Gibibytes,
        }
    }
}

/// Of one run: processor time of the source for a unit, and units in a second of real time.
#[derive(Clone, Copy)]
struct Sample {
    cost: f64,
    rate: f64,
}

fn main() {
    let arguments = Arguments::read(std::env::args().skip(1)).unwrap_or_else(|problem| {
        eprintln!("{problem}");
        std::process::exit(2);
    });
    raise_descriptor_limit();
    let uring = open(IoChoice::Uring, &Settings::default());
    if let Err(reason) = &uring {
        eprintln!("without io_uring: {reason}");
    }
    let runtimes: Vec<Runtime> = RUNTIMES
        .into_iter()
        .filter(|runtime| uring.is_ok() || !runtime.needs_uring())
        .collect();
    println!(
        "processor time of the source's thread; medians of {} interleaved runs; loopback, \
         {CONGESTION_CONTROL}",
        arguments.runs
    );
    let mut any = false;
    for scenario in SCENARIOS.iter().filter(|one| arguments.choose(one.name)) {
        any = true;
        let mut samples = vec![Vec::new(); runtimes.len()];
        for _ in 0..arguments.runs {
            for (runtime, samples) in runtimes.iter().zip(&mut samples) {
                samples.push(run(*runtime, scenario, arguments.measured));
            }
        }
        print(scenario, &runtimes, &samples);
    }
    if !any && arguments.must_choose {
        let names: Vec<&str> = SCENARIOS.iter().map(|one| one.name).collect();
        eprintln!("no scenario has that in its name: {}", names.join(", "));
        std::process::exit(2);
    }
}

fn run(runtime: Runtime, scenario: &Scenario, measured: Duration) -> Sample {
    let mut source = None;
    let mut foreign = |start: fn(adit_engine::link::Link) -> Source, service_port| {
        let (stack, link) = Stack::without_source(IoChoice::Epoll, service_port);
        let started = source.insert(start(link));
        stack.with_source_at(started.port())
    };
    let stack = |port| match runtime {
        Runtime::Tokio => foreign(Source::start::<Tokio>, port),
        Runtime::Monoio => foreign(Source::start::<Monoio>, port),
        Runtime::TokioUring => foreign(Source::start::<TokioUring>, port),
        Runtime::AditEpoll => Stack::start_with(IoChoice::Epoll, IoChoice::Epoll, port),
        Runtime::AditUring => Stack::start_with(IoChoice::Uring, IoChoice::Epoll, port),
    };
    let mut client = Client::new(stack, scenario.streams);
    repeat(&mut client, scenario, WARM_UP.min(measured));
    let before = processor::time_of(SOURCE);
    let started = Instant::now();
    let passes = repeat(&mut client, scenario, measured);
    let real = started.elapsed().as_secs_f64();
    let used = (processor::time_of(SOURCE) - before).as_secs_f64();
    // The relay closes the link, which ends the source.
    drop(client);
    drop(source);
    let answers = (passes * scenario.streams) as f64;
    match scenario.unit {
        Unit::RoundTrips => Sample {
            cost: 1e6 * used / answers,
            rate: answers / real,
        },
        Unit::Gibibytes => {
            let gibibytes = answers * scenario.answer as f64 / f64::from(1 << 30);
            Sample {
                cost: used / gibibytes,
                rate: gibibytes / real,
            }
        }
    }
}

/// Passes that were done in that time, at least one.
fn repeat(client: &mut Client, scenario: &Scenario, time: Duration) -> usize {
    let started = Instant::now();
    let mut passes = 0;
    while passes == 0 || started.elapsed() < time {
        client.ask(scenario.answer);
        passes += 1;
    }
    passes
}

fn print(scenario: &Scenario, runtimes: &[Runtime], samples: &[Vec<Sample>]) {
    let (cost_unit, rate_unit) = match scenario.unit {
        Unit::RoundTrips => ("us each", "per s"),
        Unit::Gibibytes => ("s per GiB", "GiB/s"),
    };
    println!(
        "\n{:<28} {cost_unit:>10} {:>10} {:>14} {rate_unit:>10}",
        scenario.name, "of tokio", "least to most"
    );
    let first = median(&samples[0], |sample| sample.cost);
    for (runtime, samples) in runtimes.iter().zip(samples) {
        let cost = median(samples, |sample| sample.cost);
        let rate = median(samples, |sample| sample.rate);
        let costs = samples.iter().map(|sample| sample.cost);
        let least = costs.clone().fold(f64::INFINITY, f64::min);
        let most = costs.fold(0.0, f64::max);
        println!(
            "  {:<26} {cost:>10.3} {:>10.2} {:>14} {rate:>10.2}",
            runtime.name(),
            cost / first,
            format!("{least:.3}-{most:.3}")
        );
    }
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
