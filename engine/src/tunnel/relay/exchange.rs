//! One message on its way from one side to the other.

use super::counters::Reason;
use super::label::{Act, Label};
use super::link::Link;
use super::run::Runs;
use super::service::{Reach, Verdict};
use super::table::Table;
use crate::tunnel::error::PeerError;
use crate::tunnel::inbound::Place;
use adit_proto::ids::Mode;
use adit_proto::limits::LENGTH_PREFIX_SIZE;
use adit_proto::message::{Control, DataHeader, MessageView};

/// All that a message can change. The bytes themselves are borrowed from elsewhere.
pub(super) struct Exchange<'a> {
    pub(super) from: Mode,
    pub(super) table: &'a mut Table,
    pub(super) own: &'a mut Link,
    pub(super) other: &'a Link,
    pub(super) runs: &'a mut Runs,
}

impl Exchange<'_> {
    /// Checks a message that lies at `place`, and carries out what is decided about it.
    ///
    /// # Errors
    /// The sender broke the protocol; nothing of the message was passed on.
    #[inline]
    pub(super) fn handle(&mut self, bytes: &[u8], place: &Place) -> Result<(), PeerError> {
        let message = MessageView::parse(bytes)?;
        let Some(label) = Label::check(self.from, &message)? else {
            self.own.counters.count(Reason::Ignored);
            return Ok(());
        };
        let index = self.table.find(message.service_id)?;
        self.own.learn_naming(!message.service_id.is_empty())?;
        let reach = self.reach(index);
        let verdict = self
            .table
            .service(index)
            .on_message(self.from, label, reach)?;
        let arrival = Arrival {
            message,
            label,
            place,
            index,
            size: LENGTH_PREFIX_SIZE + bytes.len(),
        };
        self.carry_out(verdict, &arrival);
        Ok(())
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
        } else if self.table.is_ambiguous() && !destination.wants_names() {
            Reach::Unable
        } else if destination.offered_connections() && !self.table.service(index).is_single {
            Reach::Many
        } else {
            Reach::Single
        }
    }

    #[inline]
    fn carry_out(&mut self, verdict: Verdict, arrival: &Arrival<'_>) {
        match verdict {
            Verdict::Forward(label) => self.forward(label, arrival),
            Verdict::Restart { end, start } => {
                self.forward(end, arrival);
                self.forward(start, arrival);
            }
            Verdict::Answer(label, reason) => {
                self.own.counters.count(reason);
                self.answer(label, arrival);
            }
            Verdict::EndBoth { forward, answer } => {
                self.forward(forward, arrival);
                self.answer(answer, arrival);
            }
            Verdict::Drop(reason) => self.own.counters.count(reason),
        }
    }

    /// To the other side: the bytes as they came, if they say what it is to see.
    #[inline]
    fn forward(&mut self, label: Label, arrival: &Arrival<'_>) {
        if !self.other.is_open() {
            return self.own.counters.count(Reason::Absent);
        }
        let is_named = !arrival.message.service_id.is_empty();
        let to_name = self.table.has_names() && self.other.wants_names();
        let ends_frame = label.act.ends_frame();
        let size = if label != arrival.label || is_named != to_name {
            let name = self.table.name(arrival.index, to_name);
            rewrite(self.runs, label, name, arrival.message.payload)
        } else {
            match arrival.place {
                Place::Buffer(range) => {
                    // The prefix is right in front of a message that lies whole in the buffer.
                    let range = range.start - LENGTH_PREFIX_SIZE..range.end;
                    self.runs.push_buffer(range, ends_frame);
                }
                Place::Assembled => self.runs.push_assembled(ends_frame),
            }
            arrival.size
        };
        self.own.counters.messages_forwarded += 1;
        self.own.counters.bytes_forwarded += size as u64;
    }

    /// Back to the sender, with a service id if its own messages have one.
    fn answer(&mut self, label: Label, arrival: &Arrival<'_>) {
        let name = self.table.name(arrival.index, self.own.wants_names());
        self.own.outbox.push(&control(label, name));
    }
}

/// A message that passed the checks.
struct Arrival<'a> {
    message: MessageView<'a>,
    label: Label,
    place: &'a Place,
    /// Of its service.
    index: usize,
    /// With its length prefix, in bytes.
    size: usize,
}

fn rewrite(runs: &mut Runs, label: Label, name: &str, payload: &[u8]) -> usize {
    match label.act {
        Act::Data => {
            let header = DataHeader {
                stream_id: label.stream.get(),
                service_id: name,
                connection_id: label.connection.map_or(0, |id| id.get()),
            };
            runs.push_data(&header, payload)
        }
        Act::StreamStart | Act::ConnectionStart | Act::StreamReset | Act::ConnectionReset => {
            runs.push_control(&control(label, name), label.act.ends_frame())
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
