//! The shape of a protected record: its header, and the content type at the end of its content.

use super::super::{MAX_PLAINTEXT, RecordError};
use super::cipher::TAG_SIZE;

pub(super) const HEADER_SIZE: usize = 5;

/// Bytes a record has beside its plaintext: header, inner content type, tag.
pub(super) const OVERHEAD: usize = HEADER_SIZE + 1 + TAG_SIZE;

pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

/// RFC 8446 §5.2: the length MUST NOT exceed 2^14 + 256.
const CONTENT_MAX: usize = MAX_PLAINTEXT + 256;

/// The header of a protected record, which is authenticated along with its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header([u8; HEADER_SIZE]);

impl Header {
    /// For a record that protects `inner_size` bytes, content type included.
    pub(super) fn sealing(inner_size: usize) -> Self {
        let size = (inner_size + TAG_SIZE) as u16;
        let [high, low] = size.to_be_bytes();
        // RFC 8446 §5.2: the outer type is always application_data, the version 0x0303.
        Self([APPLICATION_DATA, 3, 3, high, low])
    }

    /// The header at the front of `buffer`; `None` if it is not there yet.
    ///
    /// A header that no protected record can have is refused at once, before its content comes.
    pub(super) fn parse(buffer: &[u8]) -> Result<Option<Self>, RecordError> {
        let Some(&header) = buffer.first_chunk::<HEADER_SIZE>() else {
            return Ok(None);
        };
        match header[0] {
            APPLICATION_DATA => {}
            // RFC 8446 §5: one that is received after the peer's Finished MUST be treated as an
            // unexpected record type.
            CHANGE_CIPHER_SPEC => return Err(RecordError::Unexpected("a change of cipher spec")),
            // Unprotected, so anyone could have sent it.
            ALERT | HANDSHAKE => return Err(RecordError::Unexpected("an unprotected record")),
            _ => return Err(RecordError::Unexpected("a record of unknown type")),
        }
        let header = Self(header);
        if header.content_size() > CONTENT_MAX {
            return Err(RecordError::TooLarge {
                size: header.content_size(),
                max: CONTENT_MAX,
            });
        }
        // Shorter than a content type and a tag: it cannot be authentic.
        if header.content_size() <= TAG_SIZE {
            return Err(RecordError::BadRecord);
        }
        Ok(Some(header))
    }

    /// Bytes of the content, tag included.
    pub(super) fn content_size(self) -> usize {
        usize::from(u16::from_be_bytes([self.0[3], self.0[4]]))
    }

    pub(super) fn encode(self) -> [u8; HEADER_SIZE] {
        self.0
    }
}

/// Takes the inner content apart: the type, and the size of what comes before it.
///
/// RFC 8446 §5.4: the type is the last byte that is not zero; zeros behind it are padding.
pub(super) fn split_inner(inner: &[u8]) -> Result<(u8, usize), RecordError> {
    // RFC 8446 §5.4: the full encoded TLSInnerPlaintext MUST NOT exceed 2^14 + 1 octets.
    if inner.len() > MAX_PLAINTEXT + 1 {
        return Err(RecordError::TooLarge {
            size: inner.len(),
            max: MAX_PLAINTEXT + 1,
        });
    }
    match inner.iter().rposition(|&byte| byte != 0) {
        Some(at) => Ok((inner[at], at)),
        // RFC 8446 §5.4: if no non-zero octet is found, the connection MUST be terminated with
        // an "unexpected_message" alert.
        None => Err(RecordError::Unexpected("a record without a content type")),
    }
}
