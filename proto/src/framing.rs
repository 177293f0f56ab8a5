//! Finding messages in a byte stream: two length bytes, big endian, then that many bytes.
//!
//! Frame boundaries of the WebSocket carry no meaning (wire specification, section 3): a chunk may hold
//! part of a message, one, or several, and may even end between the two length bytes.

use std::fmt;
use std::ops::Range;

use crate::limits::{LENGTH_PREFIX_SIZE, MAX_MESSAGE_SIZE};

/// Cuts one direction of a WebSocket into messages.
///
/// Contract: call [`Self::next`] with the same chunk until it gives `None`; then the chunk is used up
/// and the next one begins with `position` 0. Messages that are whole inside a chunk are found in
/// place; only one that crosses a chunk boundary is copied together, at most 65,537 bytes. A new
/// WebSocket needs a new (or [`Self::reset`]) reader, or leftovers of the old one damage it.
#[derive(Clone, Default)]
pub struct MessageReader {
    /// A message with its prefix, as far as it has come.
    partial: Vec<u8>,
    /// `partial` is whole and was handed out; the next call starts a new one.
    complete: bool,
}

/// Where a message is, without its length prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// In the chunk that was passed in, right behind its prefix.
    InChunk(Range<usize>),
    /// In [`MessageReader::assembled`], until the next call.
    Assembled,
}

impl MessageReader {
    /// A reader at the start of a stream. Allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next message, starting at `position` in `chunk`; `position` moves behind it.
    ///
    /// `None`: the rest of the chunk was taken in and is part of a message still to come.
    #[inline]
    pub fn next(&mut self, chunk: &[u8], position: &mut usize) -> Option<Located> {
        if self.partial.is_empty()
            && let Some([high, low, rest @ ..]) = chunk.get(*position..)
        {
            let size = usize::from(u16::from_be_bytes([*high, *low]));
            if size <= rest.len() {
                let start = *position + LENGTH_PREFIX_SIZE;
                *position = start + size;
                return Some(Located::InChunk(start..start + size));
            }
        }
        self.assemble(chunk, position)
    }

    /// The message of the last [`Located::Assembled`]; empty at any other time.
    pub fn assembled(&self) -> &[u8] {
        if self.complete {
            &self.partial[LENGTH_PREFIX_SIZE..]
        } else {
            &[]
        }
    }

    /// The same with its length prefix in front, as it came.
    pub fn assembled_with_prefix(&self) -> &[u8] {
        if self.complete { &self.partial } else { &[] }
    }

    /// Whether the stream stopped inside a message.
    pub fn has_partial(&self) -> bool {
        !self.complete && !self.partial.is_empty()
    }

    /// Forgets everything, for the start of another stream.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    fn assemble(&mut self, chunk: &[u8], position: &mut usize) -> Option<Located> {
        if self.complete {
            self.partial.clear();
            self.complete = false;
            return self.next(chunk, position);
        }
        loop {
            let rest = chunk.get(*position..).unwrap_or_default();
            if rest.is_empty() {
                self.release_if_idle();
                return None;
            }
            let target = self.target();
            let taken = rest.len().min(target - self.partial.len());
            self.append(&rest[..taken], target);
            *position += taken;
            if self.partial.len() == self.target() {
                self.complete = true;
                return Some(Located::Assembled);
            }
        }
    }

    /// What `partial` grows to: the prefix, and once that is known, the message behind it.
    fn target(&self) -> usize {
        match self.partial[..] {
            [high, low, ..] => LENGTH_PREFIX_SIZE + usize::from(u16::from_be_bytes([high, low])),
            _ => LENGTH_PREFIX_SIZE,
        }
    }

    /// Grows by what has come, at least doubling, and never past `target`: a claimed length alone
    /// costs nothing.
    fn append(&mut self, bytes: &[u8], target: usize) {
        let size = self.partial.len() + bytes.len();
        if size > self.partial.capacity() {
            let capacity = size.max(2 * self.partial.capacity()).min(target);
            self.partial.reserve_exact(capacity - self.partial.len());
        }
        self.partial.extend_from_slice(bytes);
    }

    fn release_if_idle(&mut self) {
        if self.partial.is_empty() && self.partial.capacity() > RETAINED_SIZE_MAX {
            self.partial = Vec::new();
        }
    }
}

/// Shows sizes only: the bytes may be application data.
impl fmt::Debug for MessageReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageReader")
            .field("partial_size", &self.partial.len())
            .field("complete", &self.complete)
            .finish()
    }
}

/// What an idle reader may keep: enough for the small messages that straddle a boundary most often.
const RETAINED_SIZE_MAX: usize = 1_024;
const _: () = assert!(RETAINED_SIZE_MAX < MAX_MESSAGE_SIZE);

/// Cuts any bytes into messages, in one piece, byte by byte and in pieces that the bytes themselves
/// choose: the same messages must come out, and they must be the input again.
pub fn fuzz_messages(bytes: &[u8]) {
    let whole = read_all([bytes]);
    assert_eq!(whole, read_all(bytes.chunks(1)));
    let size = bytes.first().map_or(1, |byte| usize::from(*byte) + 1);
    assert_eq!(whole, read_all(bytes.chunks(size)));
    let (messages, has_partial) = whole;
    let mut again = Vec::new();
    for message in messages {
        again.extend((message.len() as u16).to_be_bytes());
        again.extend(message);
    }
    assert!(bytes.starts_with(&again));
    assert_eq!(has_partial, again.len() < bytes.len());
}

/// Every whole message, and whether something was left.
fn read_all<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
    let mut reader = MessageReader::new();
    let mut messages = Vec::new();
    for chunk in chunks {
        let mut position = 0;
        while let Some(located) = reader.next(chunk, &mut position) {
            messages.push(match located {
                Located::InChunk(range) => chunk[range].to_vec(),
                Located::Assembled => {
                    let message = reader.assembled();
                    let (prefix, rest) =
                        reader.assembled_with_prefix().split_at(LENGTH_PREFIX_SIZE);
                    assert_eq!(prefix, (message.len() as u16).to_be_bytes());
                    assert_eq!(rest, message);
                    message.to_vec()
                }
            });
        }
        assert_eq!(position, chunk.len());
    }
    (messages, reader.has_partial())
}
