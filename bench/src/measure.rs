//! Cases as criterion benches.

use crate::Case;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use std::time::Duration;

/// How long a case is measured: 15 samples take half a second.
const TIME: Duration = Duration::from_millis(500);
const WARM_UP: Duration = Duration::from_millis(150);
const SAMPLES: usize = 15;

/// Criterion with the times of this crate, so that all benches together end within minutes. They
/// can be raised on the command line: `--measurement-time`, `--sample-size`.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(SAMPLES)
        .warm_up_time(WARM_UP)
        .measurement_time(TIME)
        .without_plots()
        .configure_from_args()
}

/// Times the cases, each beside those whose name starts with the same word. A run's messages and
/// bytes become its throughput.
pub fn time(criterion: &mut Criterion, cases: &[Case]) {
    let mut names: Vec<&str> = cases.iter().map(group_of).collect();
    names.dedup();
    for name in names {
        let mut group = criterion.benchmark_group(name);
        for case in cases.iter().filter(|case| group_of(case) == name) {
            time_one(&mut group, case);
        }
        group.finish();
    }
}

fn group_of(case: &Case) -> &str {
    case.name.split('/').next().unwrap_or_default()
}

fn time_one(group: &mut BenchmarkGroup<'_, WallTime>, case: &Case) {
    let id = case.name.split_once('/').map_or("", |(_, rest)| rest);
    group.throughput(match case.bytes {
        0 => Throughput::Elements(case.messages),
        bytes => Throughput::ElementsAndBytes {
            elements: case.messages,
            bytes,
        },
    });
    // Made only when it is chosen: some inputs take long to make.
    let mut work = None;
    group.bench_function(id, |bencher| {
        let work = work.get_or_insert_with(|| case.prepare());
        bencher.iter(work);
    });
}
