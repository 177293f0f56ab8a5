//! The task behind a [`Link`](crate::link::Link): frames in, events out, strictly.

use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow, ensure};
use fastwebsockets::{Frame, OpCode, Role, WebSocket, WebSocketError};
use tokio::io::{AsyncRead, Join, ReadHalf, Sink, join, sink};
use tokio::sync::mpsc;

use crate::frames::End;
use crate::link::{Event, LinkWriter, Stream};
use crate::wire::{FRAME_PAYLOAD_MAX, Message};

/// A data frame as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSeen {
    /// Its payload's size in bytes.
    pub size: usize,
    /// Whether it is a whole message: final, and no continuation.
    pub is_whole: bool,
}

/// All data frames that were received on a link.
#[derive(Clone, Default)]
pub struct FrameLog {
    frames: Arc<Mutex<Vec<FrameSeen>>>,
}

impl FrameLog {
    /// The frames so far.
    #[must_use]
    pub fn seen(&self) -> Vec<FrameSeen> {
        self.lock().clone()
    }

    fn push(&self, frame: FrameSeen) {
        self.lock().push(frame);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<FrameSeen>> {
        self.frames
            .lock()
            .expect("nothing panics while it holds the frames")
    }
}

/// Reads until the link ends; the last event says how.
pub(crate) async fn follow(
    read: ReadHalf<Box<dyn Stream>>,
    end: End,
    events: mpsc::Sender<Event>,
    log: FrameLog,
    writer: LinkWriter,
) {
    let mut follower = Follower {
        socket: socket(read, end),
        end,
        log,
        partial: Vec::new(),
    };
    loop {
        let (batch, is_over) = follower.turn().await;
        for event in batch {
            if let Event::Ping(payload) = &event
                && writer.answers_pings()
            {
                // Apart, so that a writer that is blocked does not stop the reading.
                let (writer, payload) = (writer.clone(), payload.clone());
                tokio::spawn(async move { writer.pong(&payload).await });
            }
            if events.send(event).await.is_err() {
                return;
            }
        }
        if is_over {
            return;
        }
    }
}

struct Follower<R> {
    socket: WebSocket<Join<R, Sink>>,
    end: End,
    log: FrameLog,
    /// The bytes of the message stream that are no whole message yet.
    partial: Vec<u8>,
}

/// `fastwebsockets` for reading alone: it must neither answer nor close by itself.
fn socket<R: AsyncRead + Unpin>(read: R, end: End) -> WebSocket<Join<R, Sink>> {
    let role = match end {
        End::Client => Role::Client,
        End::Server => Role::Server,
    };
    let mut socket = WebSocket::after_handshake(join(read, sink()), role);
    socket.set_auto_pong(false);
    socket.set_auto_close(false);
    // Masks are undone here, to see first whether they are there.
    socket.set_auto_apply_mask(false);
    socket
}

impl<R: AsyncRead + Unpin> Follower<R> {
    /// Reads one frame. True when nothing can follow it.
    async fn turn(&mut self) -> (Vec<Event>, bool) {
        let frame = match self.socket.read_frame().await {
            Ok(frame) => frame,
            Err(WebSocketError::IoError(error)) => {
                return (vec![Event::Lost(error.to_string())], true);
            }
            Err(WebSocketError::UnexpectedEOF) => {
                return (vec![Event::Lost("end of stream".to_owned())], true);
            }
            Err(error) => return (vec![Event::Violation(error.to_string())], true),
        };
        self.take(frame)
            .unwrap_or_else(|error| (vec![Event::Violation(format!("{error:#}"))], true))
    }

    fn take(&mut self, mut frame: Frame<'_>) -> Result<(Vec<Event>, bool)> {
        // RFC 6455, section 5.1: a client masks every frame, a server none.
        ensure!(
            is_masked(&mut frame) == (self.end == End::Server),
            "a frame with the wrong masking"
        );
        frame.unmask();
        let payload = frame.payload.to_vec();
        match frame.opcode {
            OpCode::Ping => Ok((vec![Event::Ping(payload)], false)),
            OpCode::Pong => Ok((vec![Event::Pong(payload)], false)),
            OpCode::Close => Ok((vec![close_event(&payload)?], true)),
            OpCode::Text => Err(anyhow!("a text frame")),
            OpCode::Binary | OpCode::Continuation => {
                self.log.push(FrameSeen {
                    size: payload.len(),
                    is_whole: frame.fin && frame.opcode == OpCode::Binary,
                });
                Ok((self.messages(&payload)?, false))
            }
        }
    }

    fn messages(&mut self, payload: &[u8]) -> Result<Vec<Event>> {
        ensure!(
            payload.len() <= FRAME_PAYLOAD_MAX,
            "a frame of {} bytes",
            payload.len()
        );
        self.partial.extend(payload);
        let mut events = Vec::new();
        let mut rest = self.partial.as_slice();
        while let Some((prefix, behind)) = rest.split_first_chunk() {
            let size = usize::from(u16::from_be_bytes(*prefix));
            let Some((message, behind)) = behind.split_at_checked(size) else {
                break;
            };
            events.push(Event::Message(Message::read_strictly(message)?));
            rest = behind;
        }
        self.partial = rest.to_vec();
        Ok(events)
    }
}

/// The mask itself is private; the header that would be written for the frame shows it.
fn is_masked(frame: &mut Frame<'_>) -> bool {
    let mut head = [0; 16];
    frame.fmt_head(&mut head);
    head[1] & 0x80 != 0
}

fn close_event(payload: &[u8]) -> Result<Event> {
    match payload {
        [] => Ok(Event::Close {
            code: None,
            reason: String::new(),
        }),
        [high, low, reason @ ..] => Ok(Event::Close {
            code: Some(u16::from_be_bytes([*high, *low])),
            reason: String::from_utf8(reason.to_vec())?,
        }),
        [_] => Err(anyhow!("a close frame with half a code")),
    }
}
