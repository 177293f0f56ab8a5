//! The control plane of adit: AWS's secure tunnelling API, tokens, and admission to the relay.
//!
//! It is not on the way of a payload byte: it decides who may connect, the engine moves what they send.
//!
//! ```text
//! listen ─► api ─► control ─► store ─► tunnels   (the rules: no clock, no IO)
//!            ├──► iot ─► registry, certificates
//!            └──► sts
//! relay  ─► gate ─────────────┘  └──► relay: end this side, end this tunnel
//! ```
//!
//! [`service::Service`] puts the parts together.
#![forbid(unsafe_code)]

pub mod access;
pub mod api;
pub mod audit;
pub mod certificates;
pub mod clock;
pub mod control;
pub mod data_dir;
pub mod endpoints;
pub mod gate;
mod iot;
mod links;
mod listen;
pub mod mqtt;
pub mod notify;
pub mod quotas;
pub mod registry;
mod room;
pub mod service;
pub mod settings;
pub mod store;
mod sts;
mod sync;
#[cfg(test)]
mod testing;
pub mod token;
pub mod tunnels;

pub use service::{Running, Service, StartError};
pub use settings::{ApiSettings, Settings};
