//! The state machines of a tunnel: bytes, time and randomness come in as arguments, decisions
//! go out. No socket, no clock, no thread, no lock.

pub mod compose;
pub mod error;
pub mod flow;
pub mod inbound;
pub mod key;
pub mod limits;
pub mod outbox;
pub mod pool;
pub mod relay;
pub mod schedule;
