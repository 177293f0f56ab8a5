//! What was wrong with the bytes.

use thiserror::Error;

use super::MESSAGE_SIZE_MAX;

/// A track is not what was sent. Offsets count the bytes of the track, headers included, from 0.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// A seeded byte is another.
    #[error("the byte at offset {offset} is {found:#04x} instead of {expected:#04x}")]
    Byte {
        /// Where.
        offset: u64,
        /// The one that belongs there.
        expected: u8,
        /// The one that came.
        found: u8,
    },
    /// A header that cannot be there.
    #[error("the message header at offset {offset} has {field} {found}, not {expected}")]
    Header {
        /// Where the header begins.
        offset: u64,
        /// Its field.
        field: &'static str,
        /// What it should be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// A kind that does not go this way, or does not exist.
    #[error("the message header at offset {offset} has the unknown kind {found}")]
    Kind {
        /// Where the header begins.
        offset: u64,
        /// What it says.
        found: u8,
    },
    /// More than a message may have.
    #[error("the message at offset {offset} announces {size} bytes, more than {MESSAGE_SIZE_MAX}")]
    TooLarge {
        /// Where the header begins.
        offset: u64,
        /// What it announces, or asks for.
        size: u64,
    },
    /// The running hash is another, so a header, a number or the hash itself was changed.
    #[error("the running hash at offset {offset} is wrong")]
    Hash {
        /// Where the hash begins.
        offset: u64,
    },
    /// The trailer tells of other bytes or messages than came.
    #[error("the trailer tells of {told} {what}, but {came} came")]
    Trailer {
        /// Bytes or messages.
        what: &'static str,
        /// What it tells.
        told: u64,
        /// What came.
        came: u64,
    },
    /// The greeting is one of other bytes than were to come.
    #[error("the greeting tells of seed {found}, not {expected}")]
    Seed {
        /// What it should be.
        expected: u64,
        /// What it tells.
        found: u64,
    },
    /// The trailer came after more or fewer bytes than the greeting told of.
    #[error("the greeting told of {told} bytes, but {came} came")]
    Length {
        /// What it told.
        told: u64,
        /// What came.
        came: u64,
    },
    /// Something follows the trailer.
    #[error("bytes follow the trailer at offset {offset}")]
    AfterTrailer {
        /// Where they begin.
        offset: u64,
    },
    /// The end came before the trailer.
    #[error("cut at offset {offset}, before the trailer")]
    Cut {
        /// Bytes that had come.
        offset: u64,
    },
}

impl Fault {
    /// Whether the connection merely ended too early: nothing that came was wrong.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Cut { .. })
    }
}
