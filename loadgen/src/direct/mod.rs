//! Drives a tunnel by its tokens: speaks the protocol itself, as source, as destination, or as both.
//!
//! The WebSocket is `fastwebsockets`', the loop is tokio's, one thread for each end: neither shares code with
//! what is measured. Messages are those of the V3 dialect; many connections share the one link. An end that
//! plays the source offers load as an application would; one that plays the destination stands for the
//! verifying server behind it.
//!
//! ```text
//! source end ──► link ──► service ──► (a real destination, and adit-loadgen serve)
//! (a real source, and a profile over TCP) ──► service ──► link ──► destination end
//! source end ──► link ──► service ──► link ──► destination end       drives the relay alone
//! ```

mod compose;
mod desk;
mod destination;
mod incoming;
mod lane;
mod link;
mod load;
mod run;
mod services;
mod session;
mod source;
mod stall;
mod starts;
mod timer;

pub use link::{Endpoint, LinkSettings, Trust};
pub use load::Load;
pub use run::{DirectSettings, Outcome, Tunnel, connect, serve};
