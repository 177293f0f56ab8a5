//! What a system of many tunnels does as a whole: `storm` and `many-tunnels`.
//!
//! Both start the system themselves. Load is a verified round trip at a time on a thread for each tunnel that
//! is active: few of them are, and none is to be driven to its limit.

mod ledger;
mod many;
mod probe;
mod recovery;
mod reporting;
mod storm;

pub use many::{ACTIVE_MAX, ManySettings, many};
pub use storm::{Cut, StormSettings, storm};
