//! What the far end answers, whatever carries the bytes.

use std::collections::VecDeque;

use adit_verify::{Direction, Fault, Kind, MESSAGE_SIZE_MIN, Message, Reader, Track, Writer};

/// One connection seen from the server: takes verified bytes, owes answers. No IO, no clock.
///
/// Contract: [`receive`](Self::receive) only while [`can_receive`](Self::can_receive); after it, call
/// [`fill`](Self::fill) and send what it appends, until it appends nothing.
#[derive(Debug)]
pub struct Responder {
    reader: Reader,
    /// `None` until the greeting has come.
    writer: Option<Writer>,
    /// Sizes of replies not yet made; at most [`OWED_MAX`] and those of one piece of input.
    owed: VecDeque<u32>,
    /// The offset of the last receipt.
    receipt: u64,
    /// The size of the messages poured.
    pour: Option<usize>,
    /// What was wrong, told once.
    complaint: Option<u64>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The peer's trailer has come, ours is owed.
    Ending,
    /// Nothing more is sent.
    Ended,
}

impl Default for Responder {
    fn default() -> Self {
        Self::new()
    }
}

impl Responder {
    /// For a connection of which nothing has come yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            reader: Reader::awaiting_greeting(),
            writer: None,
            owed: VecDeque::new(),
            receipt: 0,
            pour: None,
            complaint: None,
            stage: Stage::Open,
        }
    }

    /// Whether more may come in: answers do not pile up.
    #[must_use]
    pub fn can_receive(&self) -> bool {
        self.owed.len() < OWED_MAX
    }

    /// Takes what has come.
    ///
    /// # Errors
    /// A byte was wrong. The complaint is owed then; nothing more is taken.
    pub fn receive(&mut self, mut input: &[u8]) -> Result<(), Fault> {
        loop {
            match self.reader.next(&mut input) {
                Ok(Some(message)) => self.take(message),
                Ok(None) => return Ok(()),
                Err(fault) => {
                    self.complaint = Some(self.reader.offset());
                    return Err(fault);
                }
            }
        }
    }

    /// Appends what is owed, until `out` holds `mark` bytes; the last message may go beyond it.
    pub fn fill(&mut self, out: &mut Vec<u8>, mark: usize) {
        if self.stage == Stage::Ended {
            return;
        }
        if let Some(offset) = self.complaint {
            // What is wrong may be the greeting.
            let writer = self.writer.get_or_insert_with(Writer::without_greeting);
            writer.numbers(Kind::Complaint, 0, [offset, 0], out);
            self.stage = Stage::Ended;
            return;
        }
        let Some(writer) = &mut self.writer else {
            return;
        };
        while out.len() < mark {
            let come = self.reader.offset();
            if let Some(size) = self.owed.pop_front() {
                writer.seeded(Kind::Reply, 0, size as usize, out);
            } else if come - self.receipt >= RECEIPT_EVERY {
                writer.numbers(Kind::Receipt, 0, [come, 0], out);
                self.receipt = come;
            } else if self.stage == Stage::Ending {
                writer.numbers(Kind::Receipt, 0, [come, 0], out);
                writer.end(out);
                self.stage = Stage::Ended;
                return;
            } else if let Some(size) = self.pour {
                writer.seeded(Kind::Data, 0, size, out);
            } else {
                return;
            }
        }
    }

    /// Whether all has been said.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Whether bulk is being sent.
    #[must_use]
    pub fn is_pouring(&self) -> bool {
        self.pour.is_some()
    }

    /// Says at the end of the connection whether it had come to its own. One on which nothing came at all is none of a
    /// generator.
    ///
    /// # Errors
    /// It was cut.
    pub fn finish(&self) -> Result<(), Fault> {
        match self.reader.offset() {
            0 => Ok(()),
            _ => self.reader.finish(),
        }
    }

    /// Bytes that have come and were right.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.reader.offset()
    }

    /// The stream's id, once it is known.
    #[must_use]
    pub fn stream(&self) -> Option<u64> {
        self.reader.track().map(|track| track.stream)
    }

    fn take(&mut self, message: Message) {
        match message.kind {
            Kind::Hello => self.greet(),
            Kind::Ask => self
                .owed
                .push_back(message.ask.max(MESSAGE_SIZE_MIN as u32)),
            Kind::Pour => self.pour = Some(pour_size(message.numbers[0])),
            Kind::Stop => self.pour = None,
            Kind::End => {
                self.pour = None;
                self.stage = Stage::Ending;
            }
            // Counted by the offset.
            Kind::Data => {}
            Kind::Reply | Kind::Receipt | Kind::Complaint => {
                unreachable!("the reader refuses kinds that go down")
            }
        }
    }

    fn greet(&mut self) {
        let track = self.reader.track().expect("the greeting has come");
        self.writer.get_or_insert_with(|| {
            Writer::new(Track {
                direction: Direction::Down,
                ..track
            })
        });
    }
}

fn pour_size(body: u64) -> usize {
    let body = usize::try_from(body).unwrap_or(usize::MAX);
    body.clamp(1, POUR_BODY_MAX) + MESSAGE_SIZE_MIN
}

/// Replies that may be owed before no more is read.
const OWED_MAX: usize = 1024;

/// A receipt is sent for so many bytes: the generator counts what has arrived, not what it has written.
pub const RECEIPT_EVERY: u64 = 256 * 1024;

/// The most seeded bytes of a message that is poured.
const POUR_BODY_MAX: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const DOWN: Track = Track {
        seed: 1,
        stream: 2,
        direction: Direction::Down,
    };

    struct Peer {
        responder: Responder,
        writer: Writer,
        reader: Reader,
    }

    impl Peer {
        fn new() -> Self {
            let mut out = Vec::new();
            let writer = Writer::greet(1, 2, &mut out);
            let mut responder = Responder::new();
            responder.receive(&out).unwrap();
            Self {
                responder,
                writer,
                reader: Reader::new(DOWN),
            }
        }

        fn say(&mut self, say: impl FnOnce(&mut Writer, &mut Vec<u8>)) {
            let mut out = Vec::new();
            say(&mut self.writer, &mut out);
            self.responder.receive(&out).unwrap();
        }

        /// The kinds and sizes of up to `mark` bytes of answers.
        fn hear(&mut self, mark: usize) -> Vec<(Kind, usize)> {
            let mut out = Vec::new();
            self.responder.fill(&mut out, mark);
            let mut input = out.as_slice();
            std::iter::from_fn(|| self.reader.next(&mut input).unwrap())
                .map(|message| (message.kind, message.size))
                .collect()
        }
    }

    #[test]
    fn each_question_has_its_answer_in_turn() {
        let mut peer = Peer::new();
        peer.say(|writer, out| {
            for size in [64, 0, 1000] {
                writer.seeded(Kind::Ask, size, 64, out);
            }
        });
        let answers = [64, MESSAGE_SIZE_MIN, 1000].map(|size| (Kind::Reply, size));
        assert_eq!(peer.hear(10_000), answers);
        assert_eq!(peer.hear(10_000), []);
    }

    #[test]
    fn bulk_is_poured_until_it_is_stopped() {
        let mut peer = Peer::new();
        peer.say(|writer, out| writer.numbers(Kind::Pour, 0, [1000, 0], out));
        for _ in 0..3 {
            assert_eq!(peer.hear(2000), [(Kind::Data, 1032); 2]);
        }
        peer.say(|writer, out| {
            writer.seeded(Kind::Stop, 0, MESSAGE_SIZE_MIN, out);
            writer.end(out);
        });
        let ends = peer.hear(2000);
        assert_eq!(ends.last(), Some(&(Kind::End, 48)), "{ends:?}");
        assert!(peer.responder.has_ended() && peer.reader.has_ended());
        peer.responder.finish().unwrap();
    }

    #[test]
    fn bulk_is_acknowledged_as_it_comes() {
        let mut peer = Peer::new();
        let mut receipts = 0;
        for _ in 0..100 {
            peer.say(|writer, out| writer.seeded(Kind::Data, 0, 65_568, out));
            receipts += peer.hear(10_000).len() as u64;
        }
        assert_eq!(
            receipts,
            100 * 65_568 / (RECEIPT_EVERY + 65_568 * 4 - RECEIPT_EVERY)
        );
    }

    #[test]
    fn a_wrong_byte_is_complained_of_once() {
        let mut peer = Peer::new();
        let mut out = Vec::new();
        peer.writer.seeded(Kind::Ask, 64, 64, &mut out);
        out[30] ^= 1;
        peer.responder.receive(&out).unwrap_err();
        assert_eq!(peer.hear(10_000), [(Kind::Complaint, 48)]);
        assert_eq!(peer.hear(10_000), []);
    }

    /// The first round trip is the one that tries a connection: nobody waits for more bytes before it is told.
    #[test]
    fn a_wrong_byte_in_the_greeting_or_the_first_question_is_complained_of() {
        let mut right = Vec::new();
        let mut writer = Writer::greet(1, 2, &mut right);
        writer.seeded(Kind::Ask, 64, 64, &mut right);
        for offset in 0..right.len() {
            let mut wrong = right.clone();
            wrong[offset] ^= 0x20;
            let mut peer = Peer {
                responder: Responder::new(),
                writer: Writer::new(DOWN),
                reader: Reader::new(DOWN),
            };
            // A seed or a stream that was changed is found by the hash behind it.
            peer.responder.receive(&wrong).unwrap_err();
            assert_eq!(peer.hear(10_000), [(Kind::Complaint, 48)], "{offset}");
        }
    }

    #[test]
    fn unanswered_questions_are_bounded() {
        let mut peer = Peer::new();
        let mut asked = 0;
        while peer.responder.can_receive() {
            peer.say(|writer, out| writer.seeded(Kind::Ask, 64, 64, out));
            asked += 1;
        }
        assert_eq!(asked, OWED_MAX);
        assert_eq!(peer.hear(usize::MAX).len(), OWED_MAX);
    }
}
