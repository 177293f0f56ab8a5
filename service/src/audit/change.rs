//! What is recorded of a tunnel. `tests/concurrency` compiles this file a second time.

use std::net::SocketAddr;

use adit_proto::Mode;
use uuid::Uuid;

/// What changed about a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It exists now.
    Opened,
    /// A handshake was admitted, and its token spent.
    Admitted {
        /// Which side.
        side: Mode,
        /// Number of the connection.
        session: u64,
        /// Whose it is.
        peer: Peer,
    },
    /// The connection is carried by the relay.
    Connected {
        /// Which side.
        side: Mode,
        /// Number of the connection.
        session: u64,
        /// Whose it is.
        peer: Peer,
    },
    /// The connection is gone.
    Disconnected {
        /// Which side.
        side: Mode,
        /// Number of the connection.
        session: u64,
        /// Whose it was.
        peer: Peer,
    },
    /// A side's token was replaced.
    TokenRotated {
        /// Which side's.
        side: Mode,
    },
    /// No data passes any more.
    Closed {
        /// Why.
        by: ClosedBy,
    },
    /// `CloseTunnel` with `delete`: nothing is known of it any more, after it was closed. One that was kept
    /// for its time is forgotten without a record.
    Deleted,
}

/// Who is at the other end of a connection of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where its TCP connection comes from, as the data plane saw it.
    pub address: SocketAddr,
    /// As in the answer to its handshake.
    pub channel_id: Uuid,
}

/// Why a tunnel was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// `CloseTunnel`; the record of the call says who.
    Call,
    /// `CloseTunnel` with `delete`.
    Deletion,
    /// Its lifetime was over.
    Timeout,
}
