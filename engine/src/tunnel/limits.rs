//! Every bound of a tunnel, in one place.

use adit_proto::limits::MAX_PAYLOAD_SIZE;
use std::time::Duration;

/// Largest plaintext of one TLS record (RFC 8446 §5.1), and so of one frame we send.
pub const MAX_RECORD_PLAINTEXT: usize = 16_384;

/// Bytes one connection may send in its turn before the next one is served.
///
/// One record: smaller would cut records short, larger would let a bulk transfer hold the tunnel.
pub const QUANTUM: u32 = MAX_RECORD_PLAINTEXT as u32;

/// Smallest room worth reading a local socket into; with less left, the record is closed.
///
/// 512 of 16,384 bytes: at worst 3 % of a record stays empty.
pub const MIN_READ_ROOM: usize = 512;

/// Control messages (encoded) that may wait for the tunnel, in bytes.
///
/// While more wait, nothing begins that would add to them: the tunnel is not read, and no local
/// connection is accepted. Those that are there may still end, with one message of at most 151
/// bytes for each of them, and one for each service.
pub const OUTBOX_SIZE: usize = 64 * 1024;

/// What a proxy may hold and wait for. Every figure is per tunnel unless it says otherwise.
///
/// Worst case of one tunnel: `tunnel_buffer` for data waiting for local sockets, one partial
/// message (65,537 bytes), the outbox (64 KiB and a message a connection, see [`OUTBOX_SIZE`]),
/// and 112 bytes a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections open at once over all services; a further local one is refused. 1 or more.
    pub connections_max: usize,
    /// Connections of one service open at once, at a source; a further local one is refused
    /// (specification 14.3: `tcp.max_active_connections`). 1 or more; beyond `connections_max` it
    /// bounds nothing.
    pub service_connections_max: usize,
    /// Bytes received for one connection that its local socket has not taken yet.
    ///
    /// A peer that keeps to credit sends no more than that, less one message, beyond what the socket
    /// took; so divided by the round trip between the two ends it bounds the rate of one connection:
    /// 4 MiB carry 670 Mbit/s at 50 ms. For other peers the tunnel's reading pauses at this mark, since
    /// the protocol has no credit (specification 10.3). At least 65,535: one message must fit.
    pub connection_buffer: usize,
    /// Same, over all connections: the size of the shared pool. At least `connection_buffer`.
    pub tunnel_buffer: usize,
    /// Largest payload of a DATA message that is sent, 1 to 64,512 bytes. What fits one record
    /// is the bound of its own: about 16,350 bytes.
    pub payload_max: usize,
    /// While reading is paused: a connection that drained nothing for so long is reset,
    /// if another is open beside it. A lone connection only blocks.
    pub stall_timeout: Duration,
    /// Time between pings; the first leaves at once (specification 2.1).
    pub ping_interval: Duration,
    /// After a local end of file: how long the other direction may stay quiet before the
    /// connection is reset (specification 9.3), where the application still awaits something.
    pub half_close_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            service_connections_max: usize::MAX,
            connection_buffer: 4 * 1024 * 1024,
            tunnel_buffer: 8 * 1024 * 1024,
            payload_max: MAX_PAYLOAD_SIZE,
            stall_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(20),
            half_close_grace: Duration::from_secs(2),
        }
    }
}
