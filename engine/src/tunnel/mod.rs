//! What happens inside a tunnel, without sockets, clocks or threads.

pub mod endpoint;
pub mod mapping;
