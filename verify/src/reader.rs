//! Checks a track.

use super::message::{
    HASH_SIZE, HEADER_SIZE, Header, Kind, MESSAGE_SIZE_MIN, Message, NUMBERS_SIZE,
};
use super::pool::SEGMENT_SIZE;
use super::track::{BodyDigest, Direction, Running, Track, UNKNOWN_STREAM, place};
use super::{Fault, VERSION};

/// Takes the bytes of one track in whatever pieces they come, and compares each with the one that belongs there.
///
/// Contract: after the first fault it is not called any more; at the end of the connection
/// [`finish`](Self::finish) says whether the track was whole.
#[derive(Debug)]
pub struct Reader {
    direction: Direction,
    /// `None` until the greeting has told.
    track: Option<Track>,
    /// What the greeting has to tell; `None` where any will do.
    seed: Option<u64>,
    /// Seeded bytes in all, where the greeting has told.
    length: Option<u64>,
    key: u64,
    sequence: u64,
    running: Running,
    /// Seeded bytes of whole messages.
    seeded: u64,
    /// Bytes of the track so far.
    offset: u64,
    stage: Stage,
    /// The part of a header, of numbers or of a hash that has come.
    partial: [u8; HEADER_SIZE],
    /// 0 <= partial_size <= the size of what the stage waits for
    partial_size: usize,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Header,
    /// Of a seeded body, `done` bytes have come.
    Seeded {
        header: Header,
        done: u32,
        digest: BodyDigest,
    },
    Numbers {
        header: Header,
    },
    Hash {
        header: Header,
        digest: BodyDigest,
        numbers: [u64; 2],
    },
    /// The trailer has come.
    Ended,
}

impl Reader {
    /// Of a track whose first message is the greeting, which tells of seed and stream.
    #[must_use]
    pub fn awaiting_greeting() -> Self {
        Self::with(Direction::Up, None)
    }

    /// The same for a track of this seed and no other.
    #[must_use]
    pub fn awaiting_greeting_of(seed: u64) -> Self {
        Self {
            seed: Some(seed),
            ..Self::awaiting_greeting()
        }
    }

    /// Of a track that is known.
    #[must_use]
    pub fn new(track: Track) -> Self {
        Self::with(track.direction, Some(track))
    }

    fn with(direction: Direction, track: Option<Track>) -> Self {
        Self {
            direction,
            key: track.map_or(0, |track| track.key()),
            track,
            seed: None,
            length: None,
            sequence: 0,
            running: Running::new(direction),
            seeded: 0,
            offset: 0,
            stage: Stage::Header,
            partial: [0; HEADER_SIZE],
            partial_size: 0,
        }
    }

    /// Takes bytes off the front of `input`, up to the end of one message. `None` when it is used up before.
    ///
    /// # Errors
    /// A byte is not the one that belongs there.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Fault> {
        loop {
            match self.stage {
                Stage::Header => {
                    let Some(bytes) = self.fill::<HEADER_SIZE>(input) else {
                        return Ok(None);
                    };
                    self.stage = self.after_header(&bytes)?;
                }
                Stage::Seeded {
                    header,
                    done,
                    digest,
                } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    self.stage = self.compare(header, done, digest, input)?;
                }
                Stage::Numbers { header } => {
                    let Some(bytes) = self.fill::<NUMBERS_SIZE>(input) else {
                        return Ok(None);
                    };
                    self.stage = Stage::Hash {
                        header,
                        digest: BodyDigest::of_numbers(&bytes),
                        numbers: numbers(&bytes),
                    };
                }
                Stage::Hash {
                    header,
                    digest,
                    numbers,
                } => {
                    let Some(bytes) = self.fill::<HASH_SIZE>(input) else {
                        return Ok(None);
                    };
                    return self.after_hash(header, digest, numbers, bytes).map(Some);
                }
                Stage::Ended if input.is_empty() => return Ok(None),
                Stage::Ended => {
                    return Err(Fault::AfterTrailer {
                        offset: self.offset,
                    });
                }
            }
        }
    }

    /// Says at the end of the connection whether the track had come to its own.
    ///
    /// # Errors
    /// It was cut.
    pub fn finish(&self) -> Result<(), Fault> {
        match self.stage {
            Stage::Ended => Ok(()),
            _ => Err(Fault::Cut {
                offset: self.offset,
            }),
        }
    }

    /// Bytes of the track that have come and were right, headers and all.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The track, once it is known.
    #[must_use]
    pub fn track(&self) -> Option<Track> {
        self.track
    }

    /// Seeded bytes of the whole track, once the greeting has told; `None` for good where it does not tell.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Seeded bytes that have come and were right.
    #[must_use]
    pub fn seeded(&self) -> u64 {
        match self.stage {
            Stage::Seeded { done, .. } => self.seeded + u64::from(done),
            // Numbers are not seeded.
            Stage::Hash { header, .. } if !header.kind.has_numbers() => {
                self.seeded + u64::from(header.body)
            }
            Stage::Header | Stage::Numbers { .. } | Stage::Hash { .. } | Stage::Ended => {
                self.seeded
            }
        }
    }

    /// Bytes that are missing of the part under way, never 0 before the trailer's end: whoever reads no more than these
    /// reads nothing of what follows the track.
    #[must_use]
    pub fn wanted(&self) -> usize {
        match self.stage {
            Stage::Header => HEADER_SIZE - self.partial_size,
            Stage::Seeded { header, done, .. } => (header.body - done) as usize,
            Stage::Numbers { .. } => NUMBERS_SIZE - self.partial_size,
            Stage::Hash { .. } => HASH_SIZE - self.partial_size,
            Stage::Ended => 0,
        }
    }

    /// Whether the trailer has come.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    fn after_header(&mut self, bytes: &[u8; HEADER_SIZE]) -> Result<Stage, Fault> {
        let offset = self.offset - HEADER_SIZE as u64;
        let header = Header::decode(bytes, self.direction, offset)?;
        let expect = |field, expected: u64, found: u64| match expected == found {
            true => Ok(()),
            false => Err(Fault::Header {
                offset,
                field,
                expected,
                found,
            }),
        };
        expect("sequence", self.sequence, header.sequence)?;
        match self.track {
            // Whoever misheard the greeting cannot know whose it was.
            Some(_) if header.kind == Kind::Complaint && header.stream == UNKNOWN_STREAM => {}
            Some(track) => expect("stream", track.stream, header.stream)?,
            None => {
                expect("kind", Kind::Hello as u64, header.kind as u64)?;
                expect("version", VERSION.into(), header.ask.into())?;
            }
        }
        Ok(match (header.kind.has_numbers(), header.body) {
            (true, _) => Stage::Numbers { header },
            (false, 0) => Stage::Hash {
                header,
                digest: BodyDigest::default(),
                numbers: [0; 2],
            },
            (false, _) => Stage::Seeded {
                header,
                done: 0,
                digest: BodyDigest::default(),
            },
        })
    }

    /// Compares what is there of the segment that is due.
    fn compare(
        &mut self,
        header: Header,
        done: u32,
        mut digest: BodyDigest,
        input: &mut &[u8],
    ) -> Result<Stage, Fault> {
        let (segment, begin) = (done / SEGMENT_SIZE as u32, done as usize % SEGMENT_SIZE);
        let place = place(self.key, header.sequence, segment);
        let segment_size = SEGMENT_SIZE.min(header.body as usize - (done as usize - begin));
        let size = input.len().min(segment_size - begin);
        let (come, rest) = input.split_at(size);
        let right = &place.segment()[begin..begin + size];
        if come != right {
            return Err(self.first_difference(come, right));
        }
        *input = rest;
        self.offset += size as u64;
        if begin + size == segment_size {
            digest.add(place, segment_size);
        }
        let done = done + size as u32;
        Ok(match done == header.body {
            true => Stage::Hash {
                header,
                digest,
                numbers: [0; 2],
            },
            false => Stage::Seeded {
                header,
                done,
                digest,
            },
        })
    }

    fn first_difference(&self, come: &[u8], right: &[u8]) -> Fault {
        let index = come.iter().zip(right).position(|(a, b)| a != b);
        let index = index.expect("they differ");
        Fault::Byte {
            offset: self.offset + index as u64,
            expected: right[index],
            found: come[index],
        }
    }

    fn after_hash(
        &mut self,
        header: Header,
        digest: BodyDigest,
        numbers: [u64; 2],
        bytes: [u8; HASH_SIZE],
    ) -> Result<Message, Fault> {
        self.running.add(&header.encode(), digest);
        if u64::from_be_bytes(bytes) != self.running.value() {
            return Err(Fault::Hash {
                offset: self.offset - HASH_SIZE as u64,
            });
        }
        self.stage = Stage::Header;
        match header.kind {
            Kind::Hello if self.track.is_none() => self.learn(header.stream, numbers)?,
            Kind::End => self.check_trailer(numbers)?,
            _ => {}
        }
        self.sequence += 1;
        if !header.kind.has_numbers() {
            self.seeded += u64::from(header.body);
        }
        Ok(Message {
            kind: header.kind,
            size: header.body as usize + MESSAGE_SIZE_MIN,
            ask: header.ask,
            numbers,
        })
    }

    fn learn(&mut self, stream: u64, [seed, length]: [u64; 2]) -> Result<(), Fault> {
        if let Some(expected) = self.seed.filter(|expected| *expected != seed) {
            let found = seed;
            return Err(Fault::Seed { expected, found });
        }
        let track = Track {
            seed,
            stream,
            direction: self.direction,
        };
        self.key = track.key();
        self.track = Some(track);
        self.length = length.checked_sub(1);
        Ok(())
    }

    fn check_trailer(&mut self, [bytes, messages]: [u64; 2]) -> Result<(), Fault> {
        let told = [
            ("bytes", bytes, self.seeded),
            ("messages", messages, self.sequence),
        ];
        for (what, told, came) in told {
            if told != came {
                return Err(Fault::Trailer { what, told, came });
            }
        }
        if let Some(told) = self.length.filter(|length| *length != self.seeded) {
            let came = self.seeded;
            return Err(Fault::Length { told, came });
        }
        self.stage = Stage::Ended;
        Ok(())
    }

    /// The next `N` bytes, once all of them have come.
    fn fill<const N: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        let size = input.len().min(N - self.partial_size);
        let (come, rest) = input.split_at(size);
        self.partial[self.partial_size..][..size].copy_from_slice(come);
        *input = rest;
        self.partial_size += size;
        self.offset += size as u64;
        if self.partial_size < N {
            return None;
        }
        self.partial_size = 0;
        self.partial.first_chunk().copied()
    }
}

fn numbers(bytes: &[u8; NUMBERS_SIZE]) -> [u64; 2] {
    let (words, _) = bytes.as_chunks::<8>();
    [u64::from_be_bytes(words[0]), u64::from_be_bytes(words[1])]
}
