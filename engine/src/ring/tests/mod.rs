//! The drivers on a real loop, with peers that say whatever a test wants.
#![expect(
    clippy::disallowed_methods,
    reason = "a test talks to the world, and waits for it"
)]

mod link_io;
mod support;

mod proxy;
mod relay;
