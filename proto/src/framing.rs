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
    let whole = read_again([bytes]);
    assert_eq!(whole, read_again(bytes.chunks(1)));
    let size = bytes.first().map_or(1, |byte| usize::from(*byte) + 1);
    assert_eq!(whole, read_again(bytes.chunks(size)));
    let (again, has_partial) = whole;
    assert!(bytes.starts_with(&again));
    assert_eq!(has_partial, again.len() < bytes.len());
}

/// Every whole message with its prefix, one behind the other, and whether something was left.
fn read_again<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, bool) {
    let mut again = Vec::new();
    let has_partial = read_each(chunks, |message| {
        again.extend((message.len() as u16).to_be_bytes());
        again.extend(message);
    });
    (again, has_partial)
}

/// Takes every whole message; true if something was left.
fn read_each<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, mut take: impl FnMut(&[u8])) -> bool {
    let mut reader = MessageReader::new();
    for chunk in chunks {
        let mut position = 0;
        while let Some(located) = reader.next(chunk, &mut position) {
            match located {
                Located::InChunk(range) => take(&chunk[range]),
                Located::Assembled => {
                    let message = reader.assembled();
                    let (prefix, rest) =
                        reader.assembled_with_prefix().split_at(LENGTH_PREFIX_SIZE);
                    assert_eq!(prefix, (message.len() as u16).to_be_bytes());
                    assert_eq!(rest, message);
                    take(message);
                }
            }
        }
        assert_eq!(position, chunk.len());
    }
    reader.has_partial()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A message of that size, with its prefix; the bytes tell messages apart.
    fn message(size: usize) -> Vec<u8> {
        let mut bytes = (size as u16).to_be_bytes().to_vec();
        bytes.extend((0..size).map(|index| (size + index) as u8));
        bytes
    }

    /// Every whole message, and whether something was left.
    fn read_all<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
        let mut messages = Vec::new();
        let has_partial = read_each(chunks, |message| messages.push(message.to_vec()));
        (messages, has_partial)
    }

    fn stream(sizes: &[usize]) -> Vec<u8> {
        sizes.iter().flat_map(|size| message(*size)).collect()
    }

    fn bodies(sizes: &[usize]) -> Vec<Vec<u8>> {
        sizes
            .iter()
            .map(|size| message(*size)[2..].to_vec())
            .collect()
    }

    #[test]
    fn every_cut_in_two_and_every_single_byte() {
        let sizes = [3, 0, 1, 0, 0, 300, 2, 256];
        let bytes = stream(&sizes);
        let expected = (bodies(&sizes), false);
        for cut in 0..=bytes.len() {
            let (front, back) = bytes.split_at(cut);
            assert_eq!(read_all([front, back]), expected, "{cut}");
            assert_eq!(read_all([front, &[], back]), expected, "{cut}");
        }
        assert_eq!(read_all(bytes.chunks(1)), expected);
        fuzz_messages(&bytes);
    }

    #[test]
    fn every_size_up_to_a_whole_message_is_partial() {
        let bytes = message(3);
        for size in 0..bytes.len() {
            assert_eq!(read_all([&bytes[..size]]), (vec![], size > 0), "{size}");
        }
        assert_eq!(read_all([&bytes[..]]), (bodies(&[3]), false));
    }

    #[test]
    fn the_largest_message_is_read_whole_and_in_pieces() {
        let bytes = stream(&[MAX_MESSAGE_SIZE, 1]);
        let expected = (bodies(&[MAX_MESSAGE_SIZE, 1]), false);
        assert_eq!(read_all([&bytes[..]]), expected);
        assert_eq!(read_all(bytes.chunks(4096)), expected);
    }

    #[test]
    fn whole_messages_are_found_in_place() {
        let bytes = stream(&[5, 0, 7]);
        let mut reader = MessageReader::new();
        let mut position = 0;
        for range in [2..7, 9..9, 11..18] {
            assert_eq!(
                reader.next(&bytes, &mut position),
                Some(Located::InChunk(range))
            );
            assert!(reader.assembled().is_empty());
        }
        assert_eq!(reader.next(&bytes, &mut position), None);
        assert_eq!(reader.partial.capacity(), 0, "nothing was copied");
    }

    #[test]
    fn a_split_message_is_assembled_and_the_rest_found_in_place() {
        let bytes = stream(&[5, 7]);
        let (front, back) = bytes.split_at(4);
        let mut reader = MessageReader::new();
        assert_eq!(reader.next(front, &mut 0), None);
        assert!(reader.has_partial());
        let mut position = 0;
        assert_eq!(reader.next(back, &mut position), Some(Located::Assembled));
        assert_eq!(reader.assembled(), &bytes[2..7]);
        assert!(!reader.has_partial());
        let range = position + 2..position + 9;
        assert_eq!(
            reader.next(back, &mut position),
            Some(Located::InChunk(range))
        );
        assert!(reader.assembled().is_empty());
    }

    /// Threat T-12: what is claimed is not what is allocated.
    #[test]
    fn memory_follows_the_bytes_and_not_the_claim() {
        let bytes = message(MAX_MESSAGE_SIZE);
        let mut reader = MessageReader::new();
        for (index, byte) in bytes.iter().enumerate() {
            let located = reader.next(&[*byte], &mut 0);
            assert_eq!(located.is_some(), index + 1 == bytes.len());
            assert!(reader.partial.capacity() <= (2 * (index + 1)).clamp(2, bytes.len()));
        }
        assert_eq!(reader.assembled(), &bytes[2..]);
    }

    /// Copies of what is there already stay few: none while there is room, and then the room doubles.
    #[test]
    fn memory_grows_by_doubling() {
        let mut reader = MessageReader::new();
        for (index, byte) in message(MAX_MESSAGE_SIZE)[..1_000].iter().enumerate() {
            assert_eq!(reader.next(&[*byte], &mut 0), None);
            assert_eq!(reader.partial.capacity(), (index + 1).next_power_of_two());
        }
    }

    #[test]
    fn debug_shows_sizes_and_no_bytes() {
        let mut reader = MessageReader::new();
        assert_eq!(reader.next(b"\0\x09canary", &mut 0), None);
        let text = format!("{reader:?}");
        assert_eq!(text, "MessageReader { partial_size: 8, complete: false }");
    }

    #[test]
    fn large_memory_is_given_back_when_idle_and_small_is_kept() {
        for (size, kept) in [(RETAINED_SIZE_MAX - 2, true), (RETAINED_SIZE_MAX, false)] {
            let mut reader = MessageReader::new();
            let bytes = message(size);
            let mut position = 0;
            reader.next(&bytes[..1], &mut 0);
            assert_eq!(
                reader.next(&bytes[1..], &mut position),
                Some(Located::Assembled)
            );
            assert_eq!(reader.next(&bytes[1..], &mut position), None);
            assert_eq!(reader.partial.capacity() > 0, kept);
        }
    }

    /// Defect Q-04: leftovers of one session must not reach the next.
    #[test]
    fn reset_drops_a_partial_message() {
        let bytes = message(9);
        let mut reader = MessageReader::new();
        reader.next(&bytes[..4], &mut 0);
        reader.reset();
        assert!(!reader.has_partial());
        assert_eq!(reader.next(&bytes, &mut 0), Some(Located::InChunk(2..11)));
    }

    proptest! {
        #[test]
        fn any_messages_in_any_pieces(
            sizes in vec(prop_oneof![0..5usize, 0..400usize, Just(4096)], 0..12),
            cuts in vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let bytes = stream(&sizes);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let mut start = 0;
            let pieces: Vec<&[u8]> = cuts
                .into_iter()
                .map(|end| &bytes[std::mem::replace(&mut start, end)..end])
                .collect();
            prop_assert_eq!(read_all(pieces), (bodies(&sizes), false));
        }

        #[test]
        fn any_bytes(bytes in vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..600)) {
            fuzz_messages(&bytes);
        }
    }
}
