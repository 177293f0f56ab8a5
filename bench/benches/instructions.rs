//! What the gate runs under valgrind: every gated case once, warm. By hand, with gungraun's own
//! report: `cargo bench -p adit-bench --bench instructions`.

#![expect(missing_docs, reason = "of what the macros of gungraun make")]

use adit_bench::{Work, gated};
use gungraun::{
    Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};

fn prepare(index: usize) -> Work {
    gated()[index].prepare()
}

#[library_benchmark]
#[benches::case(iter = 0..gated().len(), setup = prepare)]
fn run(mut work: Work) -> Work {
    work();
    // Dropped by the caller, so that this is not counted.
    work
}

library_benchmark_group!(name = gated_cases, benchmarks = run);

main!(
    // Instructions alone: a model of caches takes twice the time.
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"]));
    library_benchmark_groups = gated_cases
);
