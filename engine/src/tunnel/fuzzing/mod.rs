//! The state machines under operations that are read from any bytes: what a peer says, what local
//! sockets do, time. For fuzzers and for the replay of what they found; nothing else calls this, so
//! the linker leaves it out of a program.
//!
//! Checked all along: no panic, every bound holds, each socket is ended once and gets the bytes of its
//! own connection only, what is sent can be read by a peer, nothing is left behind.

mod input;
mod proxy;
mod relay;

pub use proxy::{fuzz_destination, fuzz_source};
pub use relay::fuzz_relay;
