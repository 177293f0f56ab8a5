//! One service of a tunnel at the relay: the stream it has, and what each side knows of it.

use super::counters::Reason;
use super::label::{Act, Label};
use crate::tunnel::error::PeerError;
use adit_proto::ids::{ConnectionId, Mode, StreamId};
use adit_proto::message::Kind;

/// The memory of one service: fixed, however many connections its stream has.
///
/// Contract: every message about the service is passed to [`Self::on_message`] in the order in
/// which it came, and the verdict is carried out before the next.
#[derive(Debug, Default)]
pub(super) struct Service {
    pub(super) stream: Stream,
    /// A stream was started at some time, so DATA is legitimate, if perhaps late.
    pub(super) is_known: bool,
    /// The source has started a stream in its present WebSocket: what still comes about one that is over, or was refused,
    /// may have crossed its end.
    pub(super) has_begun: bool,
    /// The last stream id that the destination was told in its present WebSocket.
    pub(super) told_last: Option<StreamId>,
    /// Those ids have come to their end since, and began at 1: the source's may not have.
    pub(super) has_begun_anew: bool,
    /// The destination left out connection ids in a stream that had them.
    pub(super) is_single: bool,
}

/// What the documentation of `Relay` promises for each service.
const _: () = assert!(size_of::<Service>() <= 100);

/// ```text
///           start, destination takes connection ids
///   Idle ────────────────────────────────────────────► Shared
///    ▲ │                                                 │ │
///    │ └── start, destination does not ──► Bridged ◄─────┘ │  the destination turns out not to
///    │                                      │   ▲          │
///    │     the connection ends, either way  ▼   │ start    │
///    ├──────────────────────────────────── Waiting         │
///    └── STREAM_RESET of either side, or a side is lost ◄──┘
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stream {
    /// There is none; what still comes about one is late.
    #[default]
    Idle,
    /// Both sides have the same stream and see the same connections in it.
    Shared(Shared),
    /// The source has a stream; the destination, which takes one connection for each stream, has
    /// none, since no connection is open.
    Waiting {
        /// The source's stream.
        source: StreamId,
    },
    /// The source's stream has one connection, which is a stream of its own for the destination.
    Bridged(Bridged),
}

/// One stream under the names that the sides have for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) source: StreamId,
    pub(super) destination: StreamId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shared {
    pub(super) ids: Ids,
    /// The connection that came with STREAM_START; `None` when the source does not name any.
    pub(super) first: Option<ConnectionId>,
    /// More connections followed.
    pub(super) has_more: bool,
    /// Whether the destination names connections, once it has said something.
    pub(super) answers: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bridged {
    pub(super) ids: Ids,
    /// The connection in the source's stream.
    pub(super) connection: ConnectionId,
    /// How the destination was told of it: it must not change while the stream lasts.
    pub(super) told: Option<ConnectionId>,
    pub(super) answers: Option<bool>,
}

/// What can be asked of the destination about this service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// It is not there.
    Absent,
    /// It knows no service ids and the tunnel has several services.
    Unable,
    /// One connection for each stream (V1, V2).
    Single,
    /// Connection ids (V3).
    Many,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The other side sees it like this.
    Forward(Label),
    /// The other side is first told that a stream is over.
    Restart {
        /// The end of the old stream.
        end: Label,
        /// What follows it.
        start: Label,
    },
    /// It is refused: the sender gets this, the other side nothing.
    Answer(Label, Reason),
    /// Both sides are told that something is over.
    EndBoth {
        /// To the other side.
        forward: Label,
        /// To the sender.
        answer: Label,
    },
    /// Nobody learns of it.
    Drop(Reason),
}

impl Service {
    /// Decides about a message; `reach` is what the destination can be asked, whoever sends.
    ///
    /// # Errors
    /// The sender changed its dialect, or sent data before any stream.
    #[inline]
    pub(super) fn on_message(
        &mut self,
        from: Mode,
        label: Label,
        reach: Reach,
    ) -> Result<Verdict, PeerError> {
        // Specification 7.4: the service disconnects a client that does this.
        if label.act == Act::Data && !self.is_known {
            return Err(PeerError::Misplaced {
                kind: Kind::Data,
                why: "no stream of its service was ever started",
            });
        }
        match (from, label.act) {
            (Mode::Source, Act::StreamStart) => self.start_stream(label, reach),
            (Mode::Source, Act::ConnectionStart) => self.start_connection(label, reach),
            (Mode::Source, Act::Data) => self.source_data(label),
            (Mode::Source, Act::StreamReset) => Ok(self.source_ends_stream(label.stream)),
            (Mode::Source, Act::ConnectionReset) => self.source_ends_connection(label),
            (Mode::Destination, Act::Data) => self.destination_data(label),
            (Mode::Destination, Act::StreamReset) => Ok(self.destination_ends_stream(label.stream)),
            (Mode::Destination, Act::ConnectionReset) => self.destination_ends_connection(label),
            (Mode::Source, Act::Credit) => Ok(self.source_credits(label)),
            (Mode::Destination, Act::Credit) => Ok(self.destination_credits(label)),
            (Mode::Destination, Act::StreamStart | Act::ConnectionStart) => {
                Err(PeerError::Misplaced {
                    kind: label.act.kind(),
                    why: "only a source opens anything",
                })
            }
        }
    }

    /// The WebSocket of `side` is gone. The stream that the other side must be told is over.
    pub(super) fn on_lost(&mut self, side: Mode) -> Option<StreamId> {
        let stream = std::mem::take(&mut self.stream);
        match side {
            Mode::Source => {
                self.has_begun = false;
                match stream {
                    Stream::Shared(Shared { ids, .. }) | Stream::Bridged(Bridged { ids, .. }) => {
                        Some(ids.destination)
                    }
                    Stream::Idle | Stream::Waiting { .. } => None,
                }
            }
            Mode::Destination => {
                self.told_last = None;
                self.has_begun_anew = false;
                self.is_single = false;
                match stream {
                    Stream::Shared(Shared { ids, .. }) | Stream::Bridged(Bridged { ids, .. }) => {
                        Some(ids.source)
                    }
                    Stream::Waiting { source } => Some(source),
                    Stream::Idle => None,
                }
            }
        }
    }

    /// Enters a new stream, or a new connection of a bridged one, and says how the destination is
    /// told. `reach` is `Single` or `Many`.
    pub(super) fn open(&mut self, label: Label, reach: Reach) -> Label {
        let ids = Ids {
            source: label.stream,
            destination: self.next_told(label.stream),
        };
        let (stream, told) = match label.connection {
            Some(connection) if reach != Reach::Many => {
                let bridged = Bridged {
                    ids,
                    connection,
                    told: None,
                    answers: None,
                };
                (Stream::Bridged(bridged), None)
            }
            first => {
                let shared = Shared {
                    ids,
                    first,
                    has_more: false,
                    answers: None,
                };
                (Stream::Shared(shared), first)
            }
        };
        self.stream = stream;
        self.has_begun = true;
        Label::new(Act::StreamStart, ids.destination, told)
    }

    /// The destination's name for a new stream: the source's own while that is a new one.
    ///
    /// A source starts at 1 again when it reconnects (specification 5.2). The destination may still
    /// be sending data of the old stream 1: under a name of its own, the new one cannot get them.
    fn next_told(&mut self, source: StreamId) -> StreamId {
        let is_new = |last| match self.has_begun_anew {
            true => is_after(source, last),
            false => source > last,
        };
        let id = match self.told_last {
            Some(last) if !is_new(last) => last.next(),
            Some(_) | None => source,
        };
        self.has_begun_anew |= self.told_last.is_some_and(|last| id < last);
        self.told_last = Some(id);
        id
    }
}

impl Bridged {
    pub(super) fn is(&self, connection: Option<ConnectionId>) -> bool {
        connection == Some(self.connection)
    }
}

/// Whether an id is ahead of another one by less than half the circle of ids, in which 1 follows
/// 2147483647.
fn is_after(id: StreamId, other: StreamId) -> bool {
    let ahead = (id.get() - other.get()).rem_euclid(i32::MAX);
    (1..=i32::MAX / 2).contains(&ahead)
}

/// Specification 6.1: the dialect does not change within a stream.
#[inline]
pub(super) fn same_form(is_named: bool, connection: Option<ConnectionId>) -> Result<(), PeerError> {
    match connection.is_some() == is_named {
        true => Ok(()),
        false => Err(PeerError::DialectChange("connection ids")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_stream_comes_again_when_they_begin_anew() {
        let id = |number| StreamId::new(number).expect("it is positive");
        let mut service = Service::default();
        // A source that keeps its stream, of which each connection is one for the destination.
        let source = id(i32::MAX - 1);
        let told = [(); 5].map(|()| service.next_told(source).get());
        assert_eq!(told, [i32::MAX - 1, i32::MAX, 1, 2, 3]);
        // A source that goes on, and one that begins at 1.
        assert_eq!(service.next_told(id(9)), id(9));
        assert_eq!(service.next_told(StreamId::FIRST), id(10));
        assert_eq!(service.next_told(id(11)), id(11));
    }
}
