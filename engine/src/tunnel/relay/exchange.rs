//! One message on its way from one side to the other.

use super::counters::Reason;
use super::label::{Act, Label};
use super::link::Link;
use super::quota::Quota;
use super::run::Runs;
use super::service::{Reach, Verdict};
use super::table::Table;
use crate::tunnel::error::PeerError;
use crate::tunnel::inbound::Place;
use adit_proto::ids::{Mode, StreamId};
use adit_proto::limits::LENGTH_PREFIX_SIZE;
use adit_proto::message::{Control, Credit, DataHeader, Kind, MessageView, replace_stream_id};
use std::ops::Range;

/// All that a message can change.
pub(super) struct Exchange<'a> {
    pub(super) from: Mode,
    pub(super) table: &'a mut Table,
    pub(super) own: &'a mut Link,
    pub(super) other: &'a Link,
    pub(super) runs: &'a mut Runs,
    pub(super) quota: &'a mut Quota,
}

/// Where the bytes of the message are.
pub(super) struct Bytes<'a> {
    pub(super) buffer: &'a mut [u8],
    pub(super) assembled: &'a [u8],
    pub(super) place: &'a Place,
}

impl Bytes<'_> {
    #[inline]
    fn message(&self) -> &[u8] {
        match self.place {
            Place::Buffer(range) => &self.buffer[range.clone()],
            Place::Assembled => self.assembled,
        }
    }

    /// Gives the message another stream id where it lies, if that can be done.
    fn rename(&mut self, id: StreamId) -> bool {
        match self.place {
            Place::Buffer(range) => replace_stream_id(&mut self.buffer[range.clone()], id),
            Place::Assembled => false,
        }
    }
}

impl Exchange<'_> {
    /// Checks a message, and carries out what is decided about it.
    ///
    /// # Errors
    /// The sender broke the protocol; nothing of the message was passed on.
    #[inline]
    pub(super) fn handle(&mut self, mut bytes: Bytes<'_>) -> Result<(), PeerError> {
        let message = MessageView::parse(bytes.message())?;
        let Some(label) = Label::check(self.from, &message)? else {
            self.not_forwarded(message.kind);
            return Ok(());
        };
        // Who does not know credit is not told of it.
        if label.act == Act::Credit && !self.other.knows_credit {
            self.own.counters.count(Reason::Ignored);
            return Ok(());
        }
        self.quota.said(label);
        let index = self.table.find(message.service_id)?;
        let is_named = !message.service_id.is_empty();
        self.own.learn_naming(is_named)?;
        let payload_end = message.payload_offset + message.payload.len();
        let arrival = Arrival {
            label,
            index,
            is_named,
            payload: message.payload_offset..payload_end,
        };
        let reach = self.reach(index);
        let service = self.table.service(index);
        let verdict = service.on_message(self.from, label, reach)?;
        self.carry_out(verdict, &arrival, &mut bytes);
        Ok(())
    }

    /// A message that ends here: the sender's word that it knows credit, or one that nobody knows.
    #[cold]
    fn not_forwarded(&mut self, kind: Kind) {
        if kind == Kind::Credit {
            self.own.knows_credit = true;
        } else {
            self.own.counters.count(Reason::Ignored);
        }
    }

    /// What can be asked of the destination; it is the other side or, where nothing depends on it,
    /// the sender.
    #[inline]
    fn reach(&mut self, index: usize) -> Reach {
        let destination = match self.from {
            Mode::Source => self.other,
            Mode::Destination => &*self.own,
        };
        if !destination.is_open() {
            Reach::Absent
        } else if self.table.is_ambiguous() && destination.wants_names() == Some(false) {
            Reach::Unable
        } else if destination.offered_connections() && !self.table.service(index).is_single {
            Reach::Many
        } else {
            Reach::Single
        }
    }

    #[inline]
    fn carry_out(&mut self, verdict: Verdict, arrival: &Arrival, bytes: &mut Bytes<'_>) {
        match verdict {
            Verdict::Forward(label) => self.forward(label, arrival, bytes),
            Verdict::Restart { end, start } => {
                self.forward(end, arrival, bytes);
                self.forward(start, arrival, bytes);
            }
            Verdict::Answer(label, reason) => {
                self.own.counters.count(reason);
                self.answer(label, arrival);
            }
            Verdict::EndBoth { forward, answer } => {
                self.forward(forward, arrival, bytes);
                self.answer(answer, arrival);
            }
            Verdict::Drop(reason) => self.own.counters.count(reason),
        }
    }

    /// To the other side: the bytes as they came, if they say what it is to see or can be made to
    /// without moving any. Who is not one of ours gets each message as one of the WebSocket: some of AWS's clients that run
    /// in a browser or an editor take it so.
    #[inline]
    fn forward(&mut self, label: Label, arrival: &Arrival, bytes: &mut Bytes<'_>) {
        if !self.other.is_open() {
            return self.own.counters.count(Reason::Absent);
        }
        let wants_names = self.other.wants_names().unwrap_or(arrival.is_named);
        let to_name = self.table.has_names() && wants_names;
        let ends_frame = label.act.ends_frame() || !self.other.knows_credit;
        let came = arrival.label;
        let is_same = label.act == came.act && label.connection == came.connection;
        let size = if is_same
            && to_name == arrival.is_named
            && (label.stream == came.stream || bytes.rename(label.stream))
        {
            self.pass_on(bytes, ends_frame)
        } else {
            let name = self.table.name(arrival.index, to_name);
            let payload = &bytes.message()[arrival.payload.clone()];
            rewrite(self.runs, label, name, payload, ends_frame)
        };
        self.own.counters.messages_forwarded += 1;
        self.own.counters.bytes_forwarded += size as u64;
    }

    /// The message from where it lies. Returns its size with its length prefix.
    #[inline]
    fn pass_on(&mut self, bytes: &Bytes<'_>, ends_frame: bool) -> usize {
        match bytes.place {
            Place::Buffer(range) => {
                // The prefix is right in front of a message that lies whole in the buffer.
                let range = range.start - LENGTH_PREFIX_SIZE..range.end;
                let size = range.len();
                self.runs.push_buffer(range, ends_frame);
                size
            }
            Place::Assembled => {
                self.runs.push_assembled(ends_frame);
                LENGTH_PREFIX_SIZE + bytes.assembled.len()
            }
        }
    }

    /// Back to the sender, with a service id if its own messages have one.
    fn answer(&mut self, label: Label, arrival: &Arrival) {
        let name = self.table.name(arrival.index, arrival.is_named);
        self.own.outbox.push(&control(label, name));
    }
}

/// A message that passed the checks.
struct Arrival {
    label: Label,
    /// Of its service.
    index: usize,
    /// It has a service id.
    is_named: bool,
    /// In the message.
    payload: Range<usize>,
}

fn rewrite(runs: &mut Runs, label: Label, name: &str, payload: &[u8], ends_frame: bool) -> usize {
    match label.act {
        Act::Data => {
            let header = DataHeader {
                stream_id: label.stream.get(),
                service_id: name,
                connection_id: label.connection.map_or(0, |id| id.get()),
            };
            runs.push_data(&header, payload, ends_frame)
        }
        Act::Credit => {
            // It was checked to be a limit.
            let limit = payload.try_into().map_or(0, u64::from_be_bytes);
            runs.push_credit(&Credit {
                stream_id: label.stream.get(),
                service_id: name,
                connection_id: label.connection.map_or(0, |id| id.get()),
                limit,
            })
        }
        Act::StreamStart | Act::ConnectionStart | Act::StreamReset | Act::ConnectionReset => {
            runs.push_control(&control(label, name), ends_frame)
        }
    }
}

/// The message that says `label` about the service `name`.
pub(super) fn control(label: Label, name: &str) -> Control<'_> {
    Control {
        kind: label.act.kind(),
        stream_id: label.stream.get(),
        service_id: name,
        connection_id: label.connection.map_or(0, |id| id.get()),
    }
}
