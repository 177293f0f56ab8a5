//! The things that commands do, each in a file of its own.

mod demo;
mod proxy;
mod serve;

pub use demo::demo;
pub use proxy::proxy;
pub use serve::serve;
