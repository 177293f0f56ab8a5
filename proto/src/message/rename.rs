//! Giving a message another stream id where it lies.

use std::ops::Range;

use super::cursor::{Cursor, DecodeError, GROUP_DEPTH_MAX};
use super::key;
use super::writer::{Writer, varint_size};
use crate::ids::StreamId;

/// Replaces the stream id in a message (without its length prefix), if the new number takes as many
/// bytes as the old one; no other byte changes.
///
/// `false`, and nothing changed, where it does not, or where the bytes have no stream id or are no
/// message.
pub fn replace_stream_id(bytes: &mut [u8], id: StreamId) -> bool {
    let value = id.get().unsigned_abs().into();
    match find(bytes) {
        Ok(Some(place)) if place.len() == varint_size(value) => {
            Writer::new(&mut bytes[place]).varint(value);
            true
        }
        Ok(_) | Err(_) => false,
    }
}

/// Where the number is. Of several the last one counts, as for every reader.
fn find(bytes: &[u8]) -> Result<Option<Range<usize>>, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let mut place = None;
    while !cursor.is_empty() {
        let key = cursor.key()?;
        let start = bytes.len() - cursor.remaining();
        cursor.skip_value(key, GROUP_DEPTH_MAX)?;
        if key == key::STREAM_ID {
            place = Some(start..bytes.len() - cursor.remaining());
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(bytes: &[u8], id: i32) -> Option<Vec<u8>> {
        let mut bytes = bytes.to_vec();
        let before = bytes.clone();
        let is_changed = replace_stream_id(&mut bytes, StreamId::new(id).unwrap());
        assert!(is_changed || bytes == before);
        is_changed.then_some(bytes)
    }

    #[test]
    fn a_number_of_the_same_size_takes_its_place() {
        let data = [0x08, 1, 0x10, 5, 0x22, 2, 0x10, 5, 0x38, 9];
        assert_eq!(
            renamed(&data, 127),
            Some(vec![0x08, 1, 0x10, 127, 0x22, 2, 0x10, 5, 0x38, 9])
        );
        assert_eq!(renamed(&data, 128), None);
        let data = [0x08, 1, 0x10, 0xac, 0x02];
        assert_eq!(renamed(&data, 128), Some(vec![0x08, 1, 0x10, 0x80, 0x01]));
        assert_eq!(renamed(&data, 127), None);
        assert_eq!(renamed(&data, 1 << 14), None);
    }

    #[test]
    fn the_last_of_two_counts() {
        assert_eq!(
            renamed(&[0x10, 1, 0x10, 2], 3),
            Some(vec![0x10, 1, 0x10, 3])
        );
    }

    #[test]
    fn what_has_no_stream_id_stays() {
        for bytes in [&[][..], &[0x08, 1], &[0x10], &[0x08, 1, 0x10, 1, 0x22, 9]] {
            assert_eq!(renamed(bytes, 1), None);
        }
    }
}
