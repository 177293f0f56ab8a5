//! A tunnel in one process: loopback TCP, TLS 1.3 with in-place records on both links, a client and
//! a service that are no part of adit.

mod client;
mod service;
mod stack;

pub use client::Client;
pub use service::Service;
pub use stack::{SEED, SOURCE, Stack, settings};

/// Bytes of a request and of a short answer.
pub const SHORT: usize = 64;
