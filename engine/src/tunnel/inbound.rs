//! From decrypted bytes to messages: the WebSocket reader and the length-prefix reader in a row.

use super::error::PeerError;
use adit_proto::framing::{Located, MessageReader};
use adit_proto::limits::MAX_FRAME_PAYLOAD_SIZE;
use adit_proto::websocket::{ControlPayload, FrameEvent, FrameReader, Role};
use std::ops::Range;

/// Reads one direction of one WebSocket. Lives as long as the WebSocket: a partial message must
/// not meet the next session's bytes (specification 17, Q-04).
pub struct Inbound {
    frames: FrameReader,
    messages: MessageReader,
    /// Content already unmasked and not yet split into messages, in the caller's buffer.
    content: Range<usize>,
}

/// What was read.
pub enum Item {
    /// A message without its length prefix.
    Message(Place),
    /// A ping to answer.
    Ping(ControlPayload),
    /// A pong.
    Pong(ControlPayload),
    /// The peer ends the WebSocket.
    Close(Option<u16>, ControlPayload),
}

/// Where a message lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the caller's buffer; its length prefix is right in front of it.
    Buffer(Range<usize>),
    /// It came in pieces; in [`Inbound::assembled`] until the next call of `next`.
    Assembled,
}

impl Inbound {
    /// A reader for the client's (`Role::Client`) or the server's end.
    pub fn new(role: Role) -> Self {
        Self {
            frames: FrameReader::new(role, MAX_FRAME_PAYLOAD_SIZE),
            messages: MessageReader::new(),
            content: 0..0,
        }
    }

    /// Starts over for a new WebSocket.
    pub fn reset(&mut self) {
        self.frames.reset();
        self.messages.reset();
        self.content = 0..0;
    }

    /// The next item of `buffer[*position..]`; `None` when all of it is used up.
    ///
    /// `position` and ranges count from the start of `buffer`; between calls with the same
    /// bytes the caller must neither move nor cut them until `None` comes.
    ///
    /// # Errors
    /// Whatever breaks the WebSocket protocol; the reader is useless afterwards.
    pub fn next(
        &mut self,
        buffer: &mut [u8],
        position: &mut usize,
    ) -> Result<Option<Item>, PeerError> {
        loop {
            if !self.content.is_empty() {
                let mut at = 0;
                let located = self.messages.next(&buffer[self.content.clone()], &mut at);
                let start = self.content.start;
                self.content.start += at;
                match located {
                    Some(Located::InChunk(range)) => {
                        return Ok(Some(Item::Message(Place::Buffer(
                            start + range.start..start + range.end,
                        ))));
                    }
                    Some(Located::Assembled) => return Ok(Some(Item::Message(Place::Assembled))),
                    // All of it is kept as the start of a message.
                    None => self.content = 0..0,
                }
            }
            match self.frames.next(buffer, position)? {
                None => {
                    // A reader that holds nothing gives the memory of its last message back.
                    self.messages.next(&[], &mut 0);
                    return Ok(None);
                }
                Some(FrameEvent::Data(range)) => self.content = range,
                Some(FrameEvent::Ping { payload }) => return Ok(Some(Item::Ping(payload))),
                Some(FrameEvent::Pong { payload }) => return Ok(Some(Item::Pong(payload))),
                Some(FrameEvent::Close { code, reason }) => {
                    return Ok(Some(Item::Close(code, reason)));
                }
            }
        }
    }

    /// See [`FrameReader::take_idle_frames`].
    #[inline]
    pub(crate) fn take_idle_frames(&mut self) -> u32 {
        self.frames.take_idle_frames()
    }

    /// The message that came in pieces.
    pub fn assembled(&self) -> &[u8] {
        self.messages.assembled()
    }

    /// The message that came in pieces, after its length prefix.
    pub fn assembled_with_prefix(&self) -> &[u8] {
        self.messages.assembled_with_prefix()
    }
}
