//! The load generator: offers load to a TCP forwarder or a tunnel from outside, verifies every byte, measures.
//!
//! It is *not* part of what it measures, and shares no loop with it: its workers run on monoio. The way of an
//! invocation, one module after the other:
//!
//! ```text
//! argv ─► args       as typed
//!      ─► settings   checked, nothing left to interpret
//!      ─► run        one of:  server    the far end, which verifies and answers
//!                             profile   what is offered, over drive (TCP) or direct (the tunnel's protocol)
//!                             compare   earlier runs against each other
//!      ─► report     what was measured;   account  what it cost the processes under test
//!      ─► exit       a number that a script can tell apart
//! ```
//!
//! What goes over a connection is `adit_verify`'s: bytes that prove themselves. `system` starts a whole system under
//! test on loopback (`--self`).

#![forbid(unsafe_code)]

pub mod account;
pub mod args;
pub mod compare;
pub mod direct;
pub mod drive;
pub mod exit;
pub mod machine;
pub mod place;
pub mod profile;
pub mod report;
pub mod run;
pub mod server;
pub mod settings;
pub mod system;
pub mod threshold;
pub mod tunnels;

use std::process;

use clap::Parser as _;

/// The whole program.
#[must_use]
pub fn main() -> process::ExitCode {
    let args = args::Args::parse();
    if let Some(tunnel) = args.tunnel() {
        tunnel.hide_tokens();
    }
    exit::say(settings::Settings::of(args).and_then(run::run))
}
