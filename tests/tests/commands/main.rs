//! `adit tunnel`, `adit thing`, `adit ssh` and `adit connect` against a real `adit serve` that wants
//! signatures.
//!
//! ```text
//! desk      the service and the commands that find it     tunnels  every verb of `tunnel`
//! things    every verb of `thing`, and the bundle         access   keys, endpoints, refusals
//! sessions  `ssh` and `connect` through a tunnel          debts    what was opened is closed
//! gate      a way to the service that holds answers back
//! ```

mod access;
mod debts;
mod desk;
mod gate;
mod sessions;
#[path = "../programs/sshd.rs"]
mod sshd;
mod things;
mod tunnels;
