//! A whole system under test on loopback: `--self`, and the command `system`.
//!
//! Each part is a process of its own, so that what each of them uses can be told apart: the mock
//! service (the engine's relay, with tokens in memory), source and destination proxies (the engine's,
//! kept connected as `adit proxy` keeps its own), and the verifying server. They are this executable
//! again, with a hidden command.
//!
//! ```text
//! parent ── stdin:  one line of JSON, what to be (tokens never stand in an argument);
//!                   then an order a line; its end ends the part, whatever became of the parent
//!        ◄─ stdout: a report a line
//! ```
//!
//! A part runs on the allocator of the generator, not of `adit`: to compare memory with that of the real
//! thing, run `adit` itself and give its `--pid`.

mod board;
mod child;
mod command;
mod mock;
mod parent;
mod part;
mod pki;
mod proxies;
mod role;
mod settings;
mod tickets;

pub use board::{Attempt, LinkState, Side};
pub use command::{KeepUp, run as keep_up};
pub use parent::{System, SystemError};
pub use part::run as run_part;
pub use settings::{SystemSettings, TUNNELS_MAX};
pub use tickets::Ticket;
