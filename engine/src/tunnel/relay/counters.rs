//! What the relay counts for one side of a tunnel.

/// Messages by what became of them; counted for the side that sent them, over all its WebSockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that went to the other side.
    pub messages_forwarded: u64,
    /// Their size as the other side gets them, length prefixes included, in bytes.
    pub bytes_forwarded: u64,
    /// Messages for another side that was not there, refused or dropped.
    pub absent: u64,
    /// Messages about a stream or connection that is over or never was, refused or dropped.
    pub stale: u64,
    /// Connections refused because the destination takes one at a time.
    pub busy: u64,
    /// Streams refused because the destination cannot tell the tunnel's services apart.
    pub unable: u64,
    /// Messages of an unknown type that may be ignored.
    pub ignored: u64,
    /// Pings received.
    pub pings: u64,
}

/// Why a message was not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Absent,
    Stale,
    Busy,
    Unable,
    Ignored,
}

impl Counters {
    pub(super) fn count(&mut self, reason: Reason) {
        let counter = match reason {
            Reason::Absent => &mut self.absent,
            Reason::Stale => &mut self.stale,
            Reason::Busy => &mut self.busy,
            Reason::Unable => &mut self.unable,
            Reason::Ignored => &mut self.ignored,
        };
        *counter += 1;
    }
}
