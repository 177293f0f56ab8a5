//! The things that commands do, each in a file of its own.

mod demo;
mod proxy;
mod runtime;
mod serve;
mod stdio;

pub use demo::{CHECK_DEADLINE, demo};
pub use proxy::proxy;
pub use serve::serve;
