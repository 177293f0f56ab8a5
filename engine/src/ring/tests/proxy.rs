//! The proxies' driver.

use super::support::{ProxyBench, both, control, data, hold};
use crate::tunnel::limits::Limits;
use adit_proto::ids::Mode;
use adit_proto::message::Kind;
use std::time::Duration;

/// The queue of a connection that is being dialled is full, so the tunnel is not read; then the
/// dial fails at once. Nothing but the proxy itself is there to go on with what it had read.
#[test]
fn reading_goes_on_after_a_dial_that_failed_at_once() {
    both(|io| {
        let mapping = "A=/nonexistent/adit-test.sock";
        // The least: a single byte that waits pauses the tunnel.
        let limits = Limits {
            connection_buffer: 65_535,
            // It would bring a turn of its own.
            ping_interval: Duration::from_secs(3600),
            ..Limits::default()
        };
        let (bench, mut service) = ProxyBench::new(io, Mode::Destination, mapping, limits);
        let mut burst = Vec::new();
        control(Kind::StreamStart, 1, 1, &mut burst);
        burst.extend(data(b"waits for the dial"));
        control(Kind::StreamStart, 2, 1, &mut burst);
        let held = hold(&bench.event_loop);
        service.says(&burst);
        drop(held);
        for _ in 0..2 {
            assert_eq!(service.hears_kind(), Kind::StreamReset);
        }
    });
}
