//! What adit costs, as pieces of work that are the same for every instrument.
//!
//! A [`Case`] is one piece of work with all its inputs. The criterion benches in `benches/` take its
//! time, the gate (`benches/gate`) counts its instructions and allocations. Cases whose counts are
//! held by a budget are in [`gated`]; their rivals, other people's ways to do the same, are timed
//! beside them and held to nothing.
//!
//! It is *not* a load generator: the tunnels of [`path`] are put together from parts, in this process.

#![forbid(unsafe_code)]

pub mod access;
mod case;
pub mod codec;
pub mod gate;
pub mod input;
pub mod measure;
pub mod path;
pub mod proxy;
pub mod records;
pub mod relay;
pub mod schedule;
pub mod sockets;
pub mod store;
pub mod websocket;

pub use case::{Case, Work};

/// Everything that a budget holds, in the order of the way of a byte.
pub fn gated() -> Vec<Case> {
    [
        codec::cases(),
        websocket::cases(),
        records::gated(),
        schedule::cases(),
        proxy::cases(),
        relay::cases(),
        access::cases(),
        store::memory(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
