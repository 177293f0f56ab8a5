//! `adit tunnel`, `adit thing`, `adit ssh` and `adit connect` against a real `adit serve` that wants
//! signatures.
//!
//! ```text
//! desk      the service and the commands that find it     tunnels  every verb of `tunnel`
//! things    every verb of `thing`, and the bundle         access   keys, endpoints, refusals
//! sessions  `ssh` and `connect` through a tunnel
//! ```

mod access;
mod desk;
mod sessions;
#[path = "../programs/sshd.rs"]
mod sshd;
mod things;
mod tunnels;
