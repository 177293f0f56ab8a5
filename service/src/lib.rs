//! The control plane of adit: AWS's secure tunnelling API, tokens, and admission to the relay.
//!
//! It is not on the way of a payload byte: it decides who may connect, the engine moves what they send.
#![forbid(unsafe_code)]

pub mod certificates;
pub mod clock;
pub mod control;
pub mod data_dir;
pub mod gate;
pub mod store;
pub mod token;
pub mod tunnels;
