//! The far end: verifies what it takes, and answers.

mod connection;
mod listener;
mod responder;
mod watch;

pub use listener::{ServeSettings, Server, serve};
pub use responder::{RECEIPT_EVERY, Responder};
