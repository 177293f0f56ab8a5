//! Reading frames from a byte stream that is cut anywhere.

use std::mem;
use std::ops::Range;

use super::{ControlPayload, FrameError, FrameHeader, Opcode, mask};
use crate::limits::MAX_FRAME_HEADER_SIZE;

/// Which end of the WebSocket reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads frames of a service, which are never masked.
    Client,
    /// Reads frames of a client, which are always masked.
    Server,
}

/// What the next bytes mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameEvent {
    /// Tunnel bytes, unmasked in place: this range of the buffer. Never empty.
    Data(Range<usize>),
    /// To be answered with a pong of the same payload.
    Ping {
        /// What to send back.
        payload: ControlPayload,
    },
    /// An answer to a ping, or an unsolicited pong.
    Pong {
        /// What the ping had.
        payload: ControlPayload,
    },
    /// The peer is done; whatever follows is thrown away.
    Close {
        /// Its code; absent when the frame was empty.
        code: Option<u16>,
        /// Its reason: UTF-8, and the peer's, so escape it before it is shown.
        reason: ControlPayload,
    },
}

/// Cuts one direction of a WebSocket connection into events.
///
/// Contract: call [`Self::next`] with the same buffer until it gives `Ok(None)`; then every byte is
/// taken in and the next buffer begins with `position` 0. Payload is given out as it comes, so memory
/// is the same for a frame of any size: a split header (14 bytes) or control frame (125 bytes).
/// Fragmented messages are read like any other bytes; the tunnel does not care where frames end.
///
/// After an error every call gives the same error.
#[derive(Clone, Debug)]
pub struct FrameReader {
    role: Role,
    max_frame_payload: u64,
    /// A fragmented message is under way: the next data frame must continue it.
    fragmented: bool,
    /// That message has carried bytes.
    has_carried: bool,
    /// Frames begun that carry nothing; see [`Self::take_idle_frames`].
    idle_frames: u32,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// A header that is split over buffers: its first bytes.
    Header {
        bytes: [u8; MAX_FRAME_HEADER_SIZE],
        size: u8,
    },
    /// Inside a data frame. `remaining` > 0.
    Data {
        remaining: usize,
        mask: Option<[u8; 4]>,
        /// Payload bytes already given out, as far as the mask cares.
        phase: usize,
    },
    Control {
        header: FrameHeader,
        payload: ControlPayload,
    },
    Closed,
    Failed(FrameError),
}

impl State {
    const START: Self = Self::Header {
        bytes: [0; MAX_FRAME_HEADER_SIZE],
        size: 0,
    };
}

impl FrameReader {
    /// A reader at the start of a connection. `max_frame_payload` in bytes, see
    /// [`MAX_FRAME_PAYLOAD_SIZE`](crate::limits::MAX_FRAME_PAYLOAD_SIZE).
    pub fn new(role: Role, max_frame_payload: usize) -> Self {
        Self {
            role,
            max_frame_payload: max_frame_payload as u64,
            fragmented: false,
            has_carried: false,
            idle_frames: 0,
            state: State::START,
        }
    }

    /// The next event, starting at `position` in `buffer`; `position` moves behind it.
    ///
    /// `Ok(None)`: every byte was taken in.
    #[inline]
    pub fn next(
        &mut self,
        buffer: &mut [u8],
        position: &mut usize,
    ) -> Result<Option<FrameEvent>, FrameError> {
        loop {
            let step = match &mut self.state {
                State::Header { .. } => self.read_header(buffer, position),
                State::Data { .. } => {
                    return Ok(self.read_data(buffer, position).map(FrameEvent::Data));
                }
                State::Control { .. } => return self.read_control(buffer, position),
                State::Closed => {
                    *position = buffer.len();
                    return Ok(None);
                }
                State::Failed(error) => Err(*error),
            };
            match step {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => return Err(self.fail(error)),
            }
        }
    }

    /// Frames begun since the last call that carry nothing for the tunnel: control frames and empty ones. The empty fragment
    /// that ends a message which carried bytes is not counted: who streams a message may know of its end too late.
    ///
    /// A peer may send as many as it likes, and each costs work, so whoever reads counts them.
    #[inline]
    pub fn take_idle_frames(&mut self) -> u32 {
        mem::take(&mut self.idle_frames)
    }

    /// Forgets everything, for the start of another connection.
    pub fn reset(&mut self) {
        self.fragmented = false;
        self.has_carried = false;
        self.idle_frames = 0;
        self.state = State::START;
    }

    /// Whether a header was read and a frame begun; `false` means "need more bytes".
    fn read_header(&mut self, buffer: &[u8], position: &mut usize) -> Result<bool, FrameError> {
        let State::Header { bytes, size } = &mut self.state else {
            return Ok(true);
        };
        let rest = buffer.get(*position..).unwrap_or_default();
        if *size == 0
            && let Some((header, header_size)) = FrameHeader::parse(rest)?
        {
            *position += header_size;
            self.begin(header)?;
            return Ok(true);
        }
        // Split: a byte at a time, so that nothing behind the header is taken.
        for byte in rest {
            bytes[usize::from(*size)] = *byte;
            *size += 1;
            *position += 1;
            if let Some((header, _)) = FrameHeader::parse(&bytes[..usize::from(*size)])? {
                self.begin(header)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Checks what a header means here, and enters its frame.
    fn begin(&mut self, header: FrameHeader) -> Result<(), FrameError> {
        match (self.role, header.mask) {
            // RFC 6455 §5.1: a server closes on an unmasked frame, a client on a masked one.
            (Role::Server, None) => return Err(FrameError::Unmasked),
            (Role::Client, Some(_)) => return Err(FrameError::Masked),
            (Role::Server, Some(_)) | (Role::Client, None) => {}
        }
        match header.opcode {
            Opcode::Text => return Err(FrameError::Text),
            Opcode::Binary if self.fragmented => return Err(FrameError::ExpectedContinuation),
            Opcode::Continuation if !self.fragmented => {
                return Err(FrameError::UnexpectedContinuation);
            }
            Opcode::Binary | Opcode::Continuation => self.fragmented = !header.fin,
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                self.idle_frames = self.idle_frames.saturating_add(1);
                self.state = State::Control {
                    header,
                    payload: ControlPayload::default(),
                };
                return Ok(());
            }
        }
        let size = header.payload_size;
        if size > self.max_frame_payload {
            return Err(FrameError::TooBig {
                size,
                max: self.max_frame_payload,
            });
        }
        self.state = match usize::try_from(size) {
            Ok(0) => {
                if !(header.fin && self.has_carried) {
                    self.idle_frames = self.idle_frames.saturating_add(1);
                }
                self.has_carried &= !header.fin;
                State::START
            }
            Ok(remaining) => {
                self.has_carried = !header.fin;
                State::Data {
                    remaining,
                    mask: header.mask,
                    phase: 0,
                }
            }
            Err(_) => unreachable!("the limit is a usize, and the size is within it"),
        };
        Ok(())
    }

    fn read_data(&mut self, buffer: &mut [u8], position: &mut usize) -> Option<Range<usize>> {
        let State::Data {
            remaining,
            mask: key,
            phase,
        } = &mut self.state
        else {
            return None;
        };
        let rest = buffer.get_mut(*position..).unwrap_or_default();
        let taken = rest.len().min(*remaining);
        if taken == 0 {
            return None;
        }
        if let Some(key) = *key {
            mask(key, *phase, &mut rest[..taken]);
        }
        let range = *position..*position + taken;
        *position = range.end;
        *phase += taken;
        *remaining -= taken;
        if *remaining == 0 {
            self.state = State::START;
        }
        Some(range)
    }

    fn read_control(
        &mut self,
        buffer: &[u8],
        position: &mut usize,
    ) -> Result<Option<FrameEvent>, FrameError> {
        let State::Control { header, payload } = &mut self.state else {
            return Ok(None);
        };
        // `FrameHeader::parse` refused more than 125.
        let missing = header.payload_size as usize - payload.len();
        let rest = buffer.get(*position..).unwrap_or_default();
        let taken = rest.len().min(missing);
        payload.append(&rest[..taken]);
        *position += taken;
        if payload.len() < header.payload_size as usize {
            return Ok(None);
        }
        if let Some(key) = header.mask {
            payload.unmask(key);
        }
        let (opcode, payload) = (header.opcode, mem::take(payload));
        self.state = State::START;
        if opcode == Opcode::Ping {
            return Ok(Some(FrameEvent::Ping { payload }));
        }
        if opcode == Opcode::Pong {
            return Ok(Some(FrameEvent::Pong { payload }));
        }
        match payload.parse_close() {
            Ok((code, reason)) => {
                self.state = State::Closed;
                Ok(Some(FrameEvent::Close { code, reason }))
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    #[cold]
    fn fail(&mut self, error: FrameError) -> FrameError {
        self.state = State::Failed(error);
        error
    }
}

#[cfg(test)]
mod tests;
