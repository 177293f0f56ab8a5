//! Makes a track.

use super::VERSION;
use super::message::{HEADER_SIZE, Header, Kind, MESSAGE_SIZE_MAX, MESSAGE_SIZE_MIN, NUMBERS_SIZE};
use super::pool::SEGMENT_SIZE;
use super::track::{BodyDigest, Direction, Running, Track, UNKNOWN_STREAM, place};

/// Appends the messages of one track to buffers of the caller.
#[derive(Debug)]
pub struct Writer {
    stream: u64,
    key: u64,
    sequence: u64,
    running: Running,
    /// Seeded bytes so far.
    seeded: u64,
}

impl Writer {
    /// A track upwards: its greeting is appended to `out`.
    #[must_use]
    pub fn greet(seed: u64, stream: u64, out: &mut Vec<u8>) -> Self {
        Self::greet_with(seed, stream, 0, out)
    }

    /// The same for a track of `length` seeded bytes in all, fewer than 2^64 - 1, which its reader holds it to.
    #[must_use]
    pub fn greet_with_length(seed: u64, stream: u64, length: u64, out: &mut Vec<u8>) -> Self {
        Self::greet_with(seed, stream, length + 1, out)
    }

    fn greet_with(seed: u64, stream: u64, length: u64, out: &mut Vec<u8>) -> Self {
        let mut writer = Self::new(Track {
            seed,
            stream,
            direction: Direction::Up,
        });
        writer.numbers(Kind::Hello, VERSION, [seed, length], out);
        writer
    }

    /// A track that begins at its first message.
    #[must_use]
    pub fn new(track: Track) -> Self {
        Self {
            stream: track.stream,
            key: track.key(),
            sequence: 0,
            running: Running::new(track.direction),
            seeded: 0,
        }
    }

    /// A track downwards of which the greeting did not come: it can carry a complaint, and nothing else.
    #[must_use]
    pub fn without_greeting() -> Self {
        Self::new(Track {
            seed: 0,
            stream: UNKNOWN_STREAM,
            direction: Direction::Down,
        })
    }

    /// Appends a message with a seeded body. `size` counts all its bytes,
    /// [`MESSAGE_SIZE_MIN`]..=[`MESSAGE_SIZE_MAX`].
    ///
    /// # Panics
    /// `size` is out of bounds, or the kind carries numbers.
    pub fn seeded(&mut self, kind: Kind, ask: u32, size: usize, out: &mut Vec<u8>) {
        assert!((MESSAGE_SIZE_MIN..=MESSAGE_SIZE_MAX).contains(&size) && !kind.has_numbers());
        let body = size - MESSAGE_SIZE_MIN;
        let header = self.header(kind, ask, body);
        out.reserve(size);
        out.extend_from_slice(&header);
        let mut digest = BodyDigest::default();
        let (mut left, mut segment) = (body, 0);
        while left > 0 {
            let place = place(self.key, self.sequence, segment);
            let size = left.min(SEGMENT_SIZE);
            out.extend_from_slice(&place.segment()[..size]);
            digest.add(place, size);
            left -= size;
            segment += 1;
        }
        self.seeded += body as u64;
        self.finish(&header, digest, out);
    }

    /// Appends a message that carries numbers.
    ///
    /// # Panics
    /// The kind carries none.
    pub fn numbers(&mut self, kind: Kind, ask: u32, numbers: [u64; 2], out: &mut Vec<u8>) {
        assert!(kind.has_numbers());
        let header = self.header(kind, ask, NUMBERS_SIZE);
        let mut body = [0; NUMBERS_SIZE];
        body[..8].copy_from_slice(&numbers[0].to_be_bytes());
        body[8..].copy_from_slice(&numbers[1].to_be_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(&body);
        self.finish(&header, BodyDigest::of_numbers(&body), out);
    }

    /// Appends the trailer. Nothing may follow.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        self.numbers(Kind::End, 0, [self.seeded, self.sequence], out);
    }

    fn header(&self, kind: Kind, ask: u32, body: usize) -> [u8; HEADER_SIZE] {
        let header = Header {
            kind,
            body: body as u32,
            ask,
            stream: self.stream,
            sequence: self.sequence,
        };
        header.encode()
    }

    fn finish(&mut self, header: &[u8; HEADER_SIZE], digest: BodyDigest, out: &mut Vec<u8>) {
        self.running.add(header, digest);
        out.extend_from_slice(&self.running.value().to_be_bytes());
        self.sequence += 1;
    }
}
