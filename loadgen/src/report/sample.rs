//! A run with fixed figures, for tests: five seconds, a stall in the fourth.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    error_kind::ErrorKind,
    interval::Interval,
    latency::Latency,
    own_cpu::Cpu,
    summary::{
        Generator, Model, ProcessUse, Program, RunFacts, SCHEMA_VERSION, Share, Shares, Summary,
    },
    tally::Tally,
    view::View,
};
use crate::machine::Machine;

pub(crate) fn facts() -> RunFacts {
    RunFacts {
        command_line: [
            "adit-loadgen",
            "latency",
            "--target",
            "127.0.0.1:7000",
            "--rate",
            "1000",
        ]
        .map(str::to_owned)
        .to_vec(),
        started_at: "2026-11-28T15:00:00Z".to_owned(),
        profile: "latency".to_owned(),
        target: "127.0.0.1:7000".to_owned(),
        model: Model::Open,
        offered_rate: Some(1000.0),
        duration_s: 5.0,
        connections: 10,
        threads: 1,
        seed: 42,
        congestion_control: Some("reno".to_owned()),
        io: "io_uring".to_owned(),
        parameters: BTreeMap::from([("size".to_owned(), "64".to_owned())]),
        ..RunFacts::default()
    }
}

/// Shows every second of the run, as the reporter would.
pub(crate) fn run(mut show: impl FnMut(&View<'_>)) -> Tally {
    let facts = facts();
    let mut tally = Tally::new();
    for second in 0..5 {
        tally.add(interval(second));
        let busiest = if second == 4 { 0.91 } else { 0.12 };
        let (figures, interval) = tally.close(Cpu {
            all: busiest + 0.05,
            busiest,
        });
        show(&View {
            facts: &facts,
            tally: &tally,
            second: &figures,
            interval: &interval,
        });
    }
    tally
}

/// Latencies that follow a fixed, uneven pattern around 30 µs with a tail; in the fourth second the
/// target stood still for half a second, so that 500 intended starts waited.
fn interval(second: u32) -> Interval {
    let mut interval = Interval::new(0, second);
    interval.due = 1000;
    (interval.open, interval.open_max) = (10, 10);
    for index in 0..1000_u64 {
        let spread = (index * 7919 + u64::from(second) * 104_729) % 1000;
        let service = 22_000
            + spread * 20
            + if spread > 985 {
                (spread - 985) * 40_000
            } else {
                0
            };
        let waited = if second == 3 && index < 500 {
            (500 - index) * 1_000_000
        } else {
            0
        };
        interval.corrected.saturating_record(service + waited);
        interval.uncorrected.saturating_record(service);
        interval.lag.saturating_record(40_000 + spread * 100);
    }
    interval.operations = 1000;
    interval.bytes_up = 64_000;
    interval.bytes_down = 64_000 + u64::from(second) * 8_000;
    if second == 3 {
        interval.errors.add(ErrorKind::TimedOut, 2);
        interval.errors.add(ErrorKind::Reset, 1);
    }
    interval
}

/// The summary of the run.
pub(crate) fn summary() -> Summary {
    let tally = run(|_| {});
    let share = |stream| Share {
        stream,
        bytes_up: 32_000 + u64::from(stream) * 100,
        bytes_down: 40_000,
    };
    let threshold = |text: &str| {
        text.parse::<crate::threshold::Threshold>()
            .expect("a threshold")
    };
    let mut summary = Summary {
        schema_version: SCHEMA_VERSION,
        program: Program {
            name: "adit-loadgen".to_owned(),
            version: "0.1.0".to_owned(),
            is_optimised: true,
        },
        run: facts(),
        machine: machine(),
        elapsed_s: 5.0,
        operations: tally.operations,
        due: tally.due,
        achieved_rate: tally.operations as f64 / 5.0,
        bytes_up: tally.bytes_up,
        bytes_down: tally.bytes_down,
        up_bits_per_second: tally.bytes_up as f64 * 8.0 / 5.0,
        down_bits_per_second: tally.bytes_down as f64 * 8.0 / 5.0,
        open_max: tally.open_max(),
        errors: tally.errors.iter().collect(),
        corrected: Latency::of(&tally.corrected),
        uncorrected: Latency::of(&tally.uncorrected),
        shares: Shares::of((0..10).map(share).collect()),
        processes: ["relay", "source"].map(process).to_vec(),
        generator: Generator {
            cpu_s: 1.25,
            cpu_cores: 0.25,
            cpu_busiest_thread: 0.28,
            busiest_wanted: 0.31,
            wakes: tally.lag.len(),
            lag_p50_ns: 90_000,
            lag_p99_ns: 139_000,
            lag_max_ns: 140_000,
            is_bottleneck: false,
        },
        figures: BTreeMap::from([("first_byte_ns".to_owned(), 1_250_000.0)]),
        warnings: vec!["the load average was 3.10 on 2 cores when the run began".to_owned()],
        series: tally.series,
        ..Summary::default()
    };
    summary.thresholds = ["p99>5ms", "errors>10"]
        .map(|text| threshold(text).judge(&summary))
        .to_vec();
    summary
}

fn process(name: &str) -> ProcessUse {
    ProcessUse {
        name: name.to_owned(),
        pid: Some(4242),
        executable: Some("/usr/bin/adit (build id 0123456789abcdef)".to_owned()),
        cpu_user_s: 0.75,
        cpu_system_s: 0.5,
        cpu_cores: 0.25,
        waiting_cores: Some(0.125),
        cpu_s_per_gib: Some(1.93),
        resident_bytes: Some(12 << 20),
        resident_max_bytes: Some(14 << 20),
        user_memory_bytes: Some(4 << 20),
        user_memory_max_bytes: Some(5 << 20),
        descriptors: Some(21),
        has_ended: false,
    }
}

fn machine() -> Machine {
    Machine {
        kernel: "6.18.0".to_owned(),
        architecture: "x86_64".to_owned(),
        cpu_model: Some("A processor".to_owned()),
        cores_usable: 2,
        cores_online: Some(2),
        is_virtual: Some(true),
        memory_bytes: Some(8 << 30),
        congestion_control: Some("bbr".to_owned()),
        congestion_controls_available: ["reno", "bbr"].map(str::to_owned).to_vec(),
        load_average: Some([3.1, 1.0, 0.5]),
        ..Machine::default()
    }
}

/// Compares `text` with the file of that name in `snapshots`. With `UPDATE_SNAPSHOTS` set, writes it
/// instead: then look at the difference before committing it.
pub(crate) fn assert_snapshot(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/report/snapshots")
        .join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, text).expect("the snapshot is written");
    }
    let saved = std::fs::read_to_string(&path).expect("the snapshot is there");
    assert_eq!(
        text, saved,
        "{name} has changed; UPDATE_SNAPSHOTS=1 writes it anew"
    );
}
