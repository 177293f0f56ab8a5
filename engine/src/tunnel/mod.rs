//! The state machines of a tunnel: bytes, time and randomness come in as arguments, decisions
//! go out. No socket, no clock, no thread, no lock.
//!
//! [`proxy::Proxy`] is a source or a destination; what only one of them does is in `source.rs`
//! and `destination.rs`. The way of a received byte is `inbound` → `receive` → `deliver`, of a
//! sent one `schedule` → `send` (or `bulk`) → `compose`.

pub(crate) mod bucket;
pub mod bulk;
pub(crate) mod chatter;
pub mod compose;
mod connection;
pub(crate) mod credit;
pub mod deliver;
mod destination;
pub mod endpoint;
pub mod error;
pub mod flow;
pub mod fuzzing;
mod half_closed;
pub mod inbound;
pub mod key;
pub mod limits;
mod local;
pub mod mapping;
pub mod outbox;
pub mod pool;
pub mod proxy;
mod receive;
pub mod relay;
pub mod schedule;
pub mod send;
mod service;
pub mod source;
pub(crate) mod timers;
