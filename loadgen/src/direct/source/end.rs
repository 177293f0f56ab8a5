//! The source as an end of a link: messages in, messages out.

use adit_proto::message::{Kind, MessageView};
use anyhow::{Result, bail};

use super::Source;
use crate::direct::session::{COMPOSE_MARK, End};
use crate::report::ErrorKind;

impl End for Source {
    fn take(&mut self, message: MessageView<'_>) -> Result<()> {
        match message.kind {
            // They were told before load was offered, and do not change in a tunnel's life.
            Kind::ServiceIds => {}
            Kind::Data if self.is_ours(&message) => {
                self.data(message.connection_id, message.payload);
            }
            Kind::ConnectionReset if self.is_ours(&message) => {
                self.cut(message.connection_id);
            }
            Kind::StreamReset if self.is_ours(&message) => {
                self.lose(ErrorKind::Reset, STREAM_RESET.to_owned());
            }
            Kind::SessionReset => self.lose(ErrorKind::Reset, SESSION_RESET.to_owned()),
            Kind::Data | Kind::ConnectionReset | Kind::StreamReset => {}
            Kind::StreamStart | Kind::ConnectionStart => {
                bail!("{} for a source", message.kind.name())
            }
            Kind::Credit | Kind::Unknown(_) if message.ignorable => {}
            kind @ (Kind::Credit | Kind::Unknown(_)) => {
                bail!("a message of the unknown type {}", kind.raw())
            }
        }
        Ok(())
    }

    fn compose(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.control);
        while out.len() < COMPOSE_MARK {
            let Some(connection) = self.turns.pop_front() else {
                break;
            };
            let Some(lane) = self.lanes.get_mut(&connection) else {
                continue;
            };
            self.scratch.clear();
            lane.fill(&mut self.scratch);
            lane.has_turn = !self.scratch.is_empty();
            self.route.data(connection, &self.scratch, out);
            if lane.has_turn {
                self.turns.push_back(connection);
            }
        }
    }

    fn may_read(&self) -> bool {
        // What comes is consumed at once, and begins no more than one round trip each.
        true
    }

    fn is_over(&self) -> bool {
        self.is_ending && self.lanes.is_empty()
    }
}

/// Whoever answers for the other side has taken back all connections at once.
const STREAM_RESET: &str = "the stream was reset: the destination has left, or has begun anew";

const SESSION_RESET: &str = "the service has reset the session";

impl Source {
    /// Whether a message is about the one stream of this end.
    fn is_ours(&self, message: &MessageView<'_>) -> bool {
        self.route.service == message.service_id
    }
}
