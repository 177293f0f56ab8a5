//! The things that commands do, each in a file of its own.

mod agent;
mod demo;
mod fleet;
mod proxy;
mod runtime;
mod serve;
mod stdio;

pub use agent::agent;
pub use demo::{CHECK_DEADLINE, demo};
pub use fleet::{connect, ssh, thing, tunnel};
pub(crate) use proxy::IO_HINT;
pub use proxy::proxy;
pub(crate) use runtime::Stop;
pub use serve::serve;
