//! From the program to the suite: every frame as it is, but for tunnel messages what they bring back.

use adit_tests::frames::{BINARY, CONTINUATION, End, PING, PONG, TEXT, frame};
use adit_tests::wire::{FRAME_PAYLOAD_MAX, Kind, Message, Route};
use anyhow::{Context as _, Result, bail};

use crate::awaited::{Awaited, fence_number};
use crate::frames::{Frames, Header, Mask, Piece};

/// One connection's way home.
pub(crate) struct Homeward {
    route: Route<'static>,
    /// What the program is.
    end: End,
    frames: Frames,
    current: Current,
    /// A message of the program has more frames.
    is_fragmented: bool,
    /// The bytes of the tunnel, from the first that is in no whole message on.
    tunnel: Vec<u8>,
}

/// The frame that is being read.
enum Current {
    /// It carries the tunnel.
    Tunnel,
    /// It is passed on at its end, if it is not ours: its bytes as they came, and its payload.
    Control(Vec<u8>, Vec<u8>),
    /// The suite is to see and judge it.
    Passing(Mask),
}

impl Homeward {
    pub(crate) fn new(route: Route<'static>, end: End) -> Self {
        Self {
            route,
            end,
            frames: Frames::default(),
            current: Current::Tunnel,
            is_fragmented: false,
            tunnel: Vec::new(),
        }
    }

    /// What the suite is sent for these bytes of the program.
    ///
    /// # Errors
    /// The program says what no tunnel does, or that the way to the echo has ended.
    pub(crate) fn change(&mut self, received: &mut [u8], awaited: &mut Awaited) -> Result<Vec<u8>> {
        let Self {
            route,
            end,
            frames,
            current,
            is_fragmented,
            tunnel,
        } = self;
        let (mut out, mut done) = (Vec::new(), Ok(()));
        frames.walk(received, |piece| match piece {
            Piece::Begin { header, .. } => {
                *current = Current::of(header, *end, is_fragmented);
                match current {
                    Current::Tunnel => {}
                    Current::Control(raw, _) => raw.extend_from_slice(header.bytes()),
                    Current::Passing(_) => out.extend_from_slice(header.bytes()),
                }
            }
            Piece::Payload(part) => match current {
                Current::Tunnel => tunnel.extend_from_slice(part),
                Current::Control(_, payload) => payload.extend_from_slice(part),
                Current::Passing(mask) => pass(part, mask, &mut out),
            },
            Piece::End(header) => {
                match current {
                    Current::Tunnel if done.is_ok() => {
                        done = take_messages(tunnel, *route, awaited)
                    }
                    Current::Control(_, payload) if is_ours(header, payload, awaited) => {}
                    Current::Control(raw, payload) => {
                        out.append(raw);
                        pass(payload, &mut Mask::new(header.key()), &mut out);
                    }
                    Current::Tunnel | Current::Passing(_) => {}
                }
                while let Some(returned) = awaited.take() {
                    let opcode = if returned.is_text { TEXT } else { BINARY };
                    out.extend(frame(*end, opcode, &returned.payload));
                }
            }
        });
        done.map(|()| out)
    }
}

impl Current {
    /// What a frame is whose header this is. A frame of the tunnel must be one in every respect.
    fn of(header: &Header, end: End, is_fragmented: &mut bool) -> Self {
        let size = header.payload_size().unwrap_or_default();
        let is_masked = header.key().is_some();
        let is_as_agreed = header.reserved() == 0 && is_masked == (end == End::Client);
        let opcode = if *is_fragmented { CONTINUATION } else { BINARY };
        if is_as_agreed && header.opcode() == opcode && size <= FRAME_PAYLOAD_MAX as u64 {
            *is_fragmented = !header.is_final();
            Self::Tunnel
        } else if is_as_agreed && matches!(header.opcode(), PING | PONG) && size <= 125 {
            Self::Control(Vec::new(), Vec::new())
        } else {
            Self::Passing(Mask::new(header.key()))
        }
    }
}

/// Whether a ping or pong is none of the suite's: a proxy asks whether its service is there, and a pong may answer a
/// fence.
fn is_ours(header: &Header, payload: &[u8], awaited: &mut Awaited) -> bool {
    match (header.opcode(), fence_number(payload)) {
        (PONG, Some(number)) => {
            awaited.passed(number);
            true
        }
        (PONG, None) => false,
        _ => header.key().is_some(),
    }
}

fn pass(payload: &[u8], mask: &mut Mask, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(payload);
    mask.apply(&mut out[start..]);
}

/// Takes the messages that are whole.
fn take_messages(tunnel: &mut Vec<u8>, route: Route<'_>, awaited: &mut Awaited) -> Result<()> {
    let mut at = 0;
    while let Some((prefix, rest)) = tunnel[at..].split_first_chunk() {
        let size = usize::from(u16::from_be_bytes(*prefix));
        let Some(message) = rest.get(..size) else {
            break;
        };
        let message = Message::read_strictly(message).context("from the tunnel")?;
        match message.known_kind() {
            Some(Kind::Data) if message.route() == route => awaited.came_back(&message.payload)?,
            Some(Kind::ServiceIds) => {}
            None if message.ignorable => {}
            _ => bail!("the tunnel says {message}"),
        }
        at += prefix.len() + size;
    }
    tunnel.drain(..at);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use adit_tests::frames::{CLOSE, part};
    use adit_tests::wire::v3;

    const ROUTE: Route<'static> = v3("ECHO", 7, 1);

    /// A way home on which the suite waits for one text message of this size.
    fn waiting(end: End, size: usize) -> (Homeward, Awaited) {
        let mut awaited = Awaited::default();
        let mut sent = part(End::Client, true, TEXT, &vec![0; size]);
        Frames::default().walk(&mut sent, |piece| {
            if let Piece::Begin { header, .. } = piece {
                awaited.data(header);
            }
        });
        (Homeward::new(ROUTE, end), awaited)
    }

    #[test]
    fn a_message_comes_home_whole_and_control_frames_as_they_are() {
        for end in [End::Server, End::Client] {
            let (mut home, mut awaited) = waiting(end, 5);
            let tunnel = [
                Message::service_ids(&["ECHO"]).prefixed(),
                Message::data(ROUTE, "he").prefixed(),
                Message::data(ROUTE, "llo").prefixed(),
            ];
            let (one, other) = (tunnel.concat(), frame(end, PONG, b"x"));
            let received = [
                part(end, false, BINARY, &one[..9]),
                other.clone(),
                part(end, true, CONTINUATION, &one[9..]),
                frame(end, CLOSE, b"\x03\xe8"),
            ];
            let received = received.concat();
            let came = received
                .iter()
                .flat_map(|byte| home.change(&mut [*byte], &mut awaited).unwrap());
            let came: Vec<u8> = came.collect();
            let expected = [
                other,
                frame(end, TEXT, b"hello"),
                frame(end, CLOSE, b"\x03\xe8"),
            ];
            assert_eq!(came, expected.concat());
        }
    }

    #[test]
    fn a_frame_of_the_tunnel_that_is_wrong_is_for_the_suite() {
        let message = Message::data(ROUTE, "hello").prefixed();
        let mut reserved = frame(End::Server, BINARY, &message);
        reserved[0] |= 0x40;
        let wrong = [
            reserved,
            frame(End::Client, BINARY, &message),
            frame(End::Server, TEXT, &message),
            frame(End::Server, CONTINUATION, &message),
            frame(End::Server, BINARY, &vec![0; FRAME_PAYLOAD_MAX + 1]),
            frame(End::Client, PONG, b"x"),
            frame(End::Server, PONG, &[b'x'; 126]),
        ];
        for frame in wrong {
            let (mut home, mut awaited) = waiting(End::Server, 5);
            assert_eq!(
                home.change(&mut frame.clone(), &mut awaited).unwrap(),
                frame
            );
        }
    }

    #[test]
    fn what_no_tunnel_says_is_an_error() {
        let wrong = [
            Message::data(v3("ECHO", 8, 1), "x"),
            Message::stream_reset(ROUTE),
            Message::data(ROUTE, "more than was sent"),
        ];
        for message in wrong {
            let (mut home, mut awaited) = waiting(End::Server, 5);
            let mut frame = frame(End::Server, BINARY, &message.prefixed());
            home.change(&mut frame, &mut awaited).unwrap_err();
        }
    }
}
