//! The whole system on the loopback: a service, a tunnel, two proxies, and local
//! applications that check every byte.
//!
//! ```text
//! transfers   bytes in bulk, in many connections, under closes and resets
//! kills       kill -9 of each part, and what comes back by itself
//! confined    the programs in what their units leave them
//! secrets     what a tunnel leaves in logs, files and the list of processes
//! serve       the service's own start: files, ports, exit codes
//! demo        `adit demo` and `adit demo --check`
//! ```

mod confined;
mod demo;
mod kills;
mod secrets;
mod serve;
mod transfers;
