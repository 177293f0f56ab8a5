//! `cargo bench -p adit-bench --bench path`: source, relay and destination in this process, each on
//! a loop of its own, with a client and a service that are no part of adit.
//!
//! Held fixed: loopback TCP with `reno`; TLS 1.3 with in-place records on both links; one service;
//! streams that stay open. `round_trip` sends 64 bytes on every stream and waits until all of them
//! have come back: with one stream its time is the latency, with many its rate is what counts.
//! `bulk` has the service send 4 MiB, on all streams together. The time is of all parts together,
//! client, service and kernel included, on as many processors as there are.

use adit_bench::measure;
use adit_bench::path::{Client, SHORT, Stack};
use adit_engine::ring::{IoChoice, Settings, open, raise_descriptor_limit};
use criterion::{BenchmarkId, Criterion, Throughput};

/// Bytes that one run of `bulk` moves.
const BULK: usize = 4 * 1024 * 1024;

fn main() {
    raise_descriptor_limit();
    let mut criterion = measure::criterion();
    for (choice, name) in [(IoChoice::Epoll, "epoll"), (IoChoice::Uring, "io_uring")] {
        if let Err(reason) = open(choice, &Settings::default()) {
            eprintln!("skipped: {reason}");
            continue;
        }
        for streams in [1, 64, 1_000] {
            let round_trips = Throughput::Elements(streams as u64);
            let id = format!("round_trip/{name}/{streams}_conn/64_B");
            time(&mut criterion, id, round_trips, choice, streams, SHORT);
            let each = BULK / streams;
            let bulk = Throughput::Bytes((each * streams) as u64);
            let id = format!("bulk/{name}/{streams}_conn/4_MiB");
            time(&mut criterion, id, bulk, choice, streams, each);
        }
    }
    criterion.final_summary();
}

/// Times an answer of `size` bytes on each of `streams` streams.
fn time(
    criterion: &mut Criterion,
    id: String,
    throughput: Throughput,
    choice: IoChoice,
    streams: usize,
    size: usize,
) {
    let mut group = criterion.benchmark_group("path");
    group.throughput(throughput);
    // Made only when it is chosen: a thousand streams take long to open.
    let mut client = None;
    group.bench_function(BenchmarkId::from_parameter(id), |bencher| {
        let client =
            client.get_or_insert_with(|| Client::new(|port| Stack::start(choice, port), streams));
        bencher.iter(|| client.ask(size));
    });
    group.finish();
}
