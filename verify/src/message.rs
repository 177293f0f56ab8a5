//! What a message is, and its header.

use super::Fault;
use super::track::Direction;

/// Header and running hash: the bytes of a message without a body.
pub const MESSAGE_SIZE_MIN: usize = HEADER_SIZE + HASH_SIZE;

/// The most bytes of one message, all included: 1 MiB.
pub const MESSAGE_SIZE_MAX: usize = 1 << 20;

pub(super) const HEADER_SIZE: usize = 24;
pub(super) const HASH_SIZE: usize = 8;
/// Two numbers of eight bytes.
pub(super) const NUMBERS_SIZE: usize = 16;

/// What a message is for. *Up* is from the generator to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Up, the first; ask is the version. Numbers: the seed, and one more than the seeded bytes to come, 0 where that is not
    /// known.
    Hello = 1,
    /// Up: asks for a reply of so many bytes, all included.
    Ask = 2,
    /// Either way: bulk.
    Data = 3,
    /// Up: begin to send bulk. Numbers: the seeded bytes of each message, and 0.
    Pour = 4,
    /// Up: send no more bulk.
    Stop = 5,
    /// Either way: the trailer. Numbers: seeded bytes and messages before it.
    End = 6,
    /// Down: answers an [`Ask`](Self::Ask).
    Reply = 7,
    /// Down: numbers: bytes of the track that came and were right, and 0.
    Receipt = 8,
    /// Down, the last: what came was wrong. Numbers: the offset, and 0.
    Complaint = 9,
}

impl Kind {
    fn of(code: u8) -> Option<Self> {
        const ALL: [Kind; 9] = [
            Kind::Hello,
            Kind::Ask,
            Kind::Data,
            Kind::Pour,
            Kind::Stop,
            Kind::End,
            Kind::Reply,
            Kind::Receipt,
            Kind::Complaint,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == code)
    }

    fn goes(self, direction: Direction) -> bool {
        match self {
            Self::Hello | Self::Ask | Self::Pour | Self::Stop => direction == Direction::Up,
            Self::Reply | Self::Receipt | Self::Complaint => direction == Direction::Down,
            Self::Data | Self::End => true,
        }
    }

    /// Whether the body is two numbers rather than seeded bytes.
    pub(super) fn has_numbers(self) -> bool {
        match self {
            Self::Hello | Self::Pour | Self::End | Self::Receipt | Self::Complaint => true,
            Self::Ask | Self::Data | Self::Stop | Self::Reply => false,
        }
    }
}

/// A message that has come whole, and whose every byte was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is for.
    pub kind: Kind,
    /// All its bytes, header and hash included.
    pub size: usize,
    /// Its parameter; for [`Kind::Ask`] the size of the reply.
    pub ask: u32,
    /// Its numbers; zero where the kind has none.
    pub numbers: [u64; 2],
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Bytes of the body, under [`MESSAGE_SIZE_MAX`].
    pub(super) body: u32,
    pub(super) ask: u32,
    pub(super) stream: u64,
    pub(super) sequence: u64,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_SIZE] {
        let first = u32::from(self.kind as u8) << 24 | self.body;
        let mut bytes = [0; HEADER_SIZE];
        bytes[..4].copy_from_slice(&first.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.ask.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.stream.to_be_bytes());
        bytes[16..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    /// `offset` is where the header begins, for the fault.
    pub(super) fn decode(
        bytes: &[u8; HEADER_SIZE],
        direction: Direction,
        offset: u64,
    ) -> Result<Self, Fault> {
        let first = u32::from_be_bytes(part(bytes, 0));
        let code = (first >> 24) as u8;
        let kind = Kind::of(code)
            .filter(|kind| kind.goes(direction))
            .ok_or(Fault::Kind {
                offset,
                found: code,
            })?;
        let header = Self {
            kind,
            body: first & 0x00ff_ffff,
            ask: u32::from_be_bytes(part(bytes, 4)),
            stream: u64::from_be_bytes(part(bytes, 8)),
            sequence: u64::from_be_bytes(part(bytes, 16)),
        };
        header.check_sizes(offset)?;
        Ok(header)
    }

    fn check_sizes(&self, offset: u64) -> Result<(), Fault> {
        let body = self.body as usize;
        if self.kind.has_numbers() && body != NUMBERS_SIZE {
            return Err(Fault::Header {
                offset,
                field: "a body of numbers of size",
                expected: NUMBERS_SIZE as u64,
                found: body as u64,
            });
        }
        let asked = if self.kind == Kind::Ask {
            self.ask as usize
        } else {
            0
        };
        for size in [body + MESSAGE_SIZE_MIN, asked] {
            if size > MESSAGE_SIZE_MAX {
                return Err(Fault::TooLarge {
                    offset,
                    size: size as u64,
                });
            }
        }
        Ok(())
    }
}

fn part<const N: usize>(bytes: &[u8; HEADER_SIZE], at: usize) -> [u8; N] {
    *bytes[at..]
        .first_chunk()
        .expect("every field lies within the header")
}
