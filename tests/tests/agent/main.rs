//! `adit agent` between a real broker (Mosquitto), a real service and real local sockets. Skipped, with the
//! reason printed, where Mosquitto is missing; with `ADIT_REQUIRE_PROGRAMS=1` that fails instead.
//!
//! Debian packages: mosquitto mosquitto-clients.
//!
//! ```text
//! stage       broker, service and device of a scenario      broker    the Mosquitto
//! tunnels     notification to bytes, and back to nothing    refusals  what starts no tunnel
//! restarts    kill -9, queued messages, lost brokers        operator  hook, reload, check
//! confined    in what its unit leaves it                 mistakes  panics of ours
//! floods      repeats and forgeries by the thousand
//! load        verified exchanges, on and on              beside    a tunnel with one of two proxies beside it
//! kills       R-01  kill -9 under load, by the hundred
//! disk        R-04  a ledger that cannot be written
//! frozen      R-14  agent and broker are stopped, and go on
//! drain       R-15  an end in good order, under load
//! reload      R-16  SIGHUP, under load, with broken files among the good ones
//! ```

mod beside;
mod broker;
mod confined;
mod disk;
mod drain;
mod floods;
mod frozen;
mod kills;
mod load;
mod mistakes;
mod operator;
mod refusals;
mod reload;
mod restarts;
mod stage;
mod tunnels;
