//! The descriptors of a far end: when connections end, and when there are no more.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use adit_loadgen::args::IoChoice;
use adit_verify::Writer;

use crate::support::{FarEnd, Run, interfaces};

/// More than it takes, even on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_server_that_has_run_out_goes_on_once_connections_end() {
    for io in interfaces() {
        let server = FarEnd::limited("-n 64", io);
        let mut connections = connect(&server, 100);
        wait_until(|| server.descriptors() >= 64);
        // It looks a few times more.
        thread::sleep(Duration::from_millis(100));
        connections.drain(..70);
        let run = "latency --closed --connections 1 --duration 100ms";
        let summary = Run::of(run, server.address, IoChoice::Auto).passed();
        assert!(summary.operations > 0);
        drop(connections);
    }
}

/// As they come from whoever looks whether somebody listens, and from generators that are killed.
#[test]
fn connections_that_end_without_a_trailer_are_let_go() {
    for io in interfaces() {
        let server = FarEnd::limited("-n 1024", io);
        let before = server.descriptors();
        let mut greeting = Vec::new();
        let _ = Writer::greet(1, 2, &mut greeting);
        for size in [0, 1, greeting.len()] {
            let connections = connect(&server, 20);
            for mut connection in &connections {
                connection.write_all(&greeting[..size]).unwrap();
            }
            // A few come and go by themselves: it reads its own processor time.
            wait_until(|| server.descriptors() >= before + 15);
            drop(connections);
            wait_until(|| server.descriptors() <= before + 5);
        }
    }
}

fn connect(server: &FarEnd, count: usize) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect(server.address).unwrap();
    (0..count).map(connect).collect()
}

fn wait_until(is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it is not so in time");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_server_takes_as_many_connections_as_it_may_at_most() {
    for io in interfaces() {
        let server = FarEnd::limited("-Sn 64", io);
        let run = "idle --connections 100 --duration 100ms";
        let summary = Run::of(run, server.address, IoChoice::Auto).passed();
        assert_eq!(summary.figures["held_connections"], 100.0);
    }
}
