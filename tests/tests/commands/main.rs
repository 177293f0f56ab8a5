//! `adit tunnel`, `adit thing`, `adit ssh` and `adit connect` against a real `adit serve` that wants
//! signatures.
//!
//! ```text
//! desk      the service and the commands that find it     tunnels  every verb of `tunnel`
//! things    every verb of `thing`, and the bundle         access   keys, endpoints, refusals
//! sessions  `ssh` and `connect` through a tunnel          debts    what was opened is closed
//! ports     those of `connect`, tunnel after tunnel       gate     holds answers back
//! throttled a service that takes no more calls for now    scripted_api  answers as a test wants
//! ```

mod access;
mod debts;
mod desk;
mod gate;
mod ports;
mod scripted_api;
mod sessions;
#[path = "../programs/sshd.rs"]
mod sshd;
mod things;
mod throttled;
mod tunnels;
