//! Names and numbers that both ends share: tunnels, services, streams, connections, versions.

mod mode;
mod name;
mod number;
mod version;

pub use mode::{Mode, UnknownMode};
pub use name::{InvalidId, ServiceId, TunnelId};
pub use number::{ConnectionId, StreamId};
pub use version::{Dialect, Subprotocol};
