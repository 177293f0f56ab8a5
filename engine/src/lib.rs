//! The data plane of adit: both ends of a tunnel and the relay between them.
//!
//! [`tunnel`] decides, [`ring`] moves bytes, [`link`] makes connections, [`tls`] seals them.
//! Arrows point one way: `link → ring → tunnel`. Not here: the API, tokens and their store
//! (`adit-service`), argument parsing (`adit`).

pub mod failpoint;
pub mod link;
mod pages;
pub mod ring;
pub mod tls;
pub mod tunnel;
