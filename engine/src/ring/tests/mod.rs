//! The drivers on a real loop, with peers that say whatever a test wants.
#![expect(
    clippy::disallowed_methods,
    reason = "a test talks to the world, and waits for it"
)]

mod link_io;
pub(super) mod log;
pub(super) mod support;

#[cfg(debug_assertions)]
mod mistakes;
mod proxy;
mod relay;
mod relay_endings;
