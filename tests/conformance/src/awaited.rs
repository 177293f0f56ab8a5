//! What the suite waits for: its messages, whose bytes come back out of the tunnel in one row.

use std::collections::VecDeque;

use adit_tests::frames::{CONTINUATION, TEXT};
use anyhow::{Result, ensure};

use crate::frames::Header;

/// The messages that were sent and have not come back.
#[derive(Default)]
pub(crate) struct Awaited {
    messages: VecDeque<Sent>,
    /// Of all of them together.
    size: u64,
    /// What has come back, the first message's bytes first.
    bytes: Vec<u8>,
    fences_set: u64,
    fences_passed: u64,
}

struct Sent {
    is_text: bool,
    size: u64,
    /// Its last frame has begun.
    is_whole: bool,
    /// It ended in an empty frame, which this fence shows to be read.
    fence: Option<u64>,
}

/// A message that has come back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Returned {
    pub(crate) is_text: bool,
    pub(crate) payload: Vec<u8>,
}

impl Awaited {
    /// A data frame begins, be it one that nobody may send: a program that takes it will echo it.
    pub(crate) fn data(&mut self, header: &Header) {
        let size = header.payload_size().unwrap_or_default();
        self.size += size;
        let begun = self.messages.back_mut().filter(|sent| !sent.is_whole);
        match begun {
            Some(sent) if header.opcode() == CONTINUATION => {
                sent.size += size;
                sent.is_whole = header.is_final();
            }
            _ => self.messages.push_back(Sent {
                is_text: header.opcode() == TEXT,
                size,
                is_whole: header.is_final(),
                fence: None,
            }),
        }
    }

    /// A frame ended: the number of the fence that belongs behind it, if one does.
    pub(crate) fn fence_behind(&mut self, header: &Header) -> Option<u64> {
        let ends_empty =
            !header.is_control() && header.is_final() && header.payload_size() == Some(0);
        let sent = self.messages.back_mut().filter(|_| ends_empty)?;
        self.fences_set += 1;
        sent.fence = Some(self.fences_set);
        sent.fence
    }

    /// The program has answered this fence.
    pub(crate) fn passed(&mut self, number: u64) {
        self.fences_passed = self.fences_passed.max(number);
    }

    /// These bytes have come back.
    ///
    /// # Errors
    /// Nobody sent so many.
    pub(crate) fn came_back(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        let (come, sent) = (self.bytes.len() as u64, self.size);
        ensure!(come <= sent, "{come} bytes came back of {sent}");
        Ok(())
    }

    /// The next message that has come back as a whole.
    pub(crate) fn take(&mut self) -> Option<Returned> {
        let sent = self.messages.front()?;
        let has_come = sent.is_whole
            && self.bytes.len() as u64 >= sent.size
            && sent.fence.is_none_or(|number| number <= self.fences_passed);
        if !has_come {
            return None;
        }
        let sent = self.messages.pop_front()?;
        self.size -= sent.size;
        let rest = self.bytes.split_off(sent.size as usize);
        Some(Returned {
            is_text: sent.is_text,
            payload: std::mem::replace(&mut self.bytes, rest),
        })
    }
}

/// The payload of a ping of ours.
pub(crate) fn fence(number: u64) -> Vec<u8> {
    format!("{FENCE}{number}").into_bytes()
}

/// The number of our ping that is answered with this payload, if one is.
pub(crate) fn fence_number(payload: &[u8]) -> Option<u64> {
    std::str::from_utf8(payload)
        .ok()?
        .strip_prefix(FENCE)?
        .parse()
        .ok()
}

const FENCE: &str = "adit-conformance ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Frames, Piece};
    use adit_tests::frames::{BINARY, End, part};

    /// Awaits what these frames carry; gives the fences behind them.
    fn send(awaited: &mut Awaited, frames: &[(bool, u8, &str)]) -> Vec<u64> {
        let frames = frames.iter();
        let bytes = frames.map(|(is_final, opcode, payload)| {
            part(End::Client, *is_final, *opcode, payload.as_bytes())
        });
        let (mut bytes, mut fences) = (bytes.collect::<Vec<_>>().concat(), Vec::new());
        Frames::default().walk(&mut bytes, |piece| match piece {
            Piece::Begin { header, .. } => awaited.data(header),
            Piece::Payload(_) => {}
            Piece::End(header) => fences.extend(awaited.fence_behind(header)),
        });
        fences
    }

    fn take(awaited: &mut Awaited) -> Option<(bool, String)> {
        let returned = awaited.take()?;
        Some((
            returned.is_text,
            String::from_utf8(returned.payload).unwrap(),
        ))
    }

    #[test]
    fn messages_come_back_as_they_were_sent() {
        let mut awaited = Awaited::default();
        let sent = [
            (false, TEXT, "ab"),
            (true, CONTINUATION, "c"),
            (true, BINARY, "d"),
        ];
        assert_eq!(send(&mut awaited, &sent), [0; 0]);
        awaited.came_back(b"ab").unwrap();
        assert_eq!(take(&mut awaited), None);
        awaited.came_back(b"cd").unwrap();
        assert_eq!(take(&mut awaited), Some((true, "abc".to_owned())));
        assert_eq!(take(&mut awaited), Some((false, "d".to_owned())));
        assert_eq!(take(&mut awaited), None);
        awaited.came_back(b"e").unwrap_err();
    }

    #[test]
    fn an_empty_message_comes_back_behind_its_fence_and_what_was_before() {
        let mut awaited = Awaited::default();
        let sent = [(true, BINARY, "a"), (true, TEXT, "")];
        assert_eq!(send(&mut awaited, &sent), [1]);
        awaited.passed(1);
        assert_eq!(take(&mut awaited), None);
        awaited.came_back(b"a").unwrap();
        assert_eq!(take(&mut awaited), Some((false, "a".to_owned())));
        assert_eq!(take(&mut awaited), Some((true, String::new())));
        assert_eq!(send(&mut awaited, &[(true, TEXT, "")]), [2]);
        assert_eq!(take(&mut awaited), None);
    }

    #[test]
    fn a_message_that_never_ends_holds_back_what_nobody_may_send_behind_it() {
        let mut awaited = Awaited::default();
        send(&mut awaited, &[(false, TEXT, "a"), (true, TEXT, "b")]);
        awaited.came_back(b"ab").unwrap();
        assert_eq!(take(&mut awaited), None);
    }

    #[test]
    fn a_fence_is_told_from_other_pongs() {
        assert_eq!(fence_number(&fence(12)), Some(12));
        assert_eq!(fence_number(b"12"), None);
        assert_eq!(fence_number(b"\xff"), None);
    }
}
