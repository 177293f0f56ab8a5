//! Our frame reader beside tungstenite's.

use std::io::{self, Read, Write};

use adit_proto::limits::MAX_FRAME_PAYLOAD_SIZE;
use adit_proto::websocket::{FrameError, FrameEvent, FrameReader, Role};
use tungstenite::protocol::{Role as TheirRole, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

/// Reads frames from any bytes, as either end, with both readers.
///
/// They agree on every message, ping, pong and close frame. Where only ours refuses, the reason is one
/// that [`is_ours_alone`] names; theirs never refuses what ours takes.
pub(crate) fn fuzz_frames(bytes: &[u8]) {
    for (role, their_role) in [
        (Role::Client, TheirRole::Client),
        (Role::Server, TheirRole::Server),
    ] {
        let (ours, error) = read_ours(role, bytes);
        let (theirs, their_error) = read_theirs(their_role, bytes);
        let agreed = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
        match error {
            // Theirs stands still at the end of the bytes, in the same place.
            None => {
                assert_eq!(ours, theirs);
                assert!(
                    their_error.is_none(),
                    "only they refuse it: {their_error:?}"
                );
            }
            Some(error) => {
                assert_eq!(agreed, ours.len(), "{ours:?}\n{theirs:?}");
                let next = theirs.get(ours.len());
                assert!(
                    next.is_none_or(|next| is_ours_alone(error, next)),
                    "{error}: {theirs:?}"
                );
            }
        }
    }
}

/// What only we refuse, with the reason; `next` is what they make of it.
fn is_ours_alone(error: FrameError, next: &Event) -> bool {
    match error {
        // A tunnel is binary (wire specification, section 2); they take text.
        FrameError::Text => true,
        // RFC 6455 §5.2 wants the shortest form of a length, and theirs does not look.
        FrameError::LengthNotMinimal(_) => true,
        // The same: they read a length in two bytes that one would do for.
        FrameError::ControlTooBig => next.size() <= 125,
        // RFC 6455 §7.4: theirs puts another code in the place of one that must not be sent.
        FrameError::CloseCode(_) => true,
        _ => false,
    }
}

impl Event {
    fn size(&self) -> usize {
        match self {
            Self::Binary(payload) | Self::Ping(payload) | Self::Pong(payload) => payload.len(),
            Self::Close(code, reason) => reason.len() + code.map_or(0, |_| 2),
        }
    }
}

fn is_refused_behind_its_header(error: FrameError) -> bool {
    matches!(
        error,
        FrameError::Unmasked
            | FrameError::Masked
            | FrameError::Text
            | FrameError::ExpectedContinuation
            | FrameError::UnexpectedContinuation
            | FrameError::TooBig { .. }
    )
}

/// What came, in an order that both can give.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    /// A whole message.
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, Vec<u8>),
}

/// Ours does not say where messages end, since a tunnel does not care; the frame headers do.
fn read_ours(role: Role, bytes: &[u8]) -> (Vec<Event>, Option<FrameError>) {
    let mut buffer = bytes.to_vec();
    let mut reader = FrameReader::new(role, MAX_FRAME_PAYLOAD_SIZE);
    let mut ends = Ends::new(bytes);
    let (mut events, mut position) = (Vec::new(), 0);
    let mut message = Vec::new();
    loop {
        let event = match reader.next(&mut buffer, &mut position) {
            Ok(Some(event)) => event,
            Ok(None) => {
                ends.finish(position, &mut message, &mut events);
                return (events, None);
            }
            Err(error) => {
                // A frame that is refused for what its header means here, and is empty, ends in the same
                // place as its header; it did not come.
                let came = position - usize::from(is_refused_behind_its_header(error));
                ends.finish(came, &mut message, &mut events);
                return (events, Some(error));
            }
        };
        match event {
            FrameEvent::Data(range) => {
                ends.finish(range.start, &mut message, &mut events);
                message.extend_from_slice(&buffer[range.clone()]);
                ends.finish(range.end, &mut message, &mut events);
            }
            FrameEvent::Ping { payload } => {
                ends.finish(position - payload.len(), &mut message, &mut events);
                events.push(Event::Ping(payload.to_vec()));
            }
            FrameEvent::Pong { payload } => {
                ends.finish(position - payload.len(), &mut message, &mut events);
                events.push(Event::Pong(payload.to_vec()));
            }
            FrameEvent::Close { code, reason } => {
                let size = reason.len() + code.map_or(0, |_| 2);
                ends.finish(position - size, &mut message, &mut events);
                events.push(match code {
                    // Registered since RFC 6455; they take it for one that must not be sent, and put
                    // another in its place.
                    Some(1014) => Event::Close(Some(1002), b"Protocol violation".to_vec()),
                    code => Event::Close(code, reason.to_vec()),
                });
                return (events, None);
            }
        }
    }
}

/// Where in the bytes the last frames of data messages end: a walk over nothing but headers.
struct Ends {
    /// Ends of payloads, the last one first.
    ends: Vec<usize>,
}

impl Ends {
    fn new(bytes: &[u8]) -> Self {
        let (mut ends, mut at) = (Vec::new(), 0);
        while let Some((first, second)) = bytes.get(at).zip(bytes.get(at + 1)) {
            let (short, mask) = (usize::from(second & 0x7f), usize::from(second >> 7) * 4);
            let field = |count: usize| {
                let field = bytes.get(at + 2..at + 2 + count)?;
                Some(
                    field
                        .iter()
                        .fold(0, |size, byte| size << 8 | u64::from(*byte)),
                )
            };
            let (extra, size) = match short {
                126 => (2, field(2)),
                127 => (8, field(8)),
                size => (0, Some(size as u64)),
            };
            let Some(size) = size.and_then(|size| usize::try_from(size).ok()) else {
                break;
            };
            let Some(end) = (at + 2 + extra + mask).checked_add(size) else {
                break;
            };
            if end > bytes.len() {
                break;
            }
            // Final, and a data frame.
            if first & 0x88 == 0x80 {
                ends.push(end);
            }
            at = end;
        }
        ends.reverse();
        Self { ends }
    }

    /// Messages that have ended by `position` are events.
    fn finish(&mut self, position: usize, message: &mut Vec<u8>, events: &mut Vec<Event>) {
        while self.ends.pop_if(|end| *end <= position).is_some() {
            events.push(Event::Binary(std::mem::take(message)));
        }
    }
}

fn read_theirs(role: TheirRole, bytes: &[u8]) -> (Vec<Event>, Option<Error>) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .max_frame_size(Some(MAX_FRAME_PAYLOAD_SIZE))
        .max_message_size(None);
    let mut socket = WebSocket::from_raw_socket(Wire(bytes), role, Some(config));
    let mut events = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Binary(payload)) => events.push(Event::Binary(payload.to_vec())),
            Ok(Message::Text(text)) => events.push(Event::Binary(text.as_bytes().to_vec())),
            Ok(Message::Ping(payload)) => events.push(Event::Ping(payload.to_vec())),
            Ok(Message::Pong(payload)) => events.push(Event::Pong(payload.to_vec())),
            Ok(Message::Close(frame)) => {
                let (code, reason) = match frame {
                    None => (None, Vec::new()),
                    Some(frame) => (Some(frame.code.into()), frame.reason.as_bytes().to_vec()),
                };
                events.push(Event::Close(code, reason));
                return (events, None);
            }
            Ok(Message::Frame(_)) => unreachable!("never from a read"),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (events, None);
            }
            Err(error) => return (events, Some(error)),
        }
    }
}

/// The bytes as a socket that has no more of them for now, and takes everything.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
