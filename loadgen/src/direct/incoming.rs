//! Frames in, tunnel messages out.

use std::io::ErrorKind;

use adit_proto::framing::{Located, MessageReader};
use adit_proto::message::MessageView;
use anyhow::{Context as _, Result, bail};
use fastwebsockets::{OpCode, WebSocket, WebSocketError};
use tokio::io::{AsyncRead, AsyncWrite};

/// What one frame brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Messages, or part of one.
    Messages,
    /// A ping, to be answered with this.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// The service has closed the tunnel, or the connection ended. Nothing follows.
    Ended(String),
}

/// The receiving half of a link.
pub(super) struct Incoming<S> {
    socket: WebSocket<S>,
    messages: MessageReader,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Incoming<S> {
    pub(super) fn new(socket: WebSocket<S>) -> Self {
        Self {
            socket,
            messages: MessageReader::new(),
        }
    }

    /// Reads one frame and gives each message that is whole to `take`. Not to be dropped half-way.
    pub(super) async fn next(
        &mut self,
        mut take: impl FnMut(MessageView<'_>) -> Result<()>,
    ) -> Result<Arrival> {
        let frame = match self.socket.read_frame().await {
            Ok(frame) => frame,
            Err(WebSocketError::UnexpectedEOF) => {
                return Ok(Arrival::Ended(CUT.to_owned()));
            }
            // Of TLS: the stream ended without its own end. The library's text is a link to its manual.
            Err(WebSocketError::IoError(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                return Ok(Arrival::Ended(CUT.to_owned()));
            }
            Err(WebSocketError::IoError(error)) => return Ok(Arrival::Ended(error.to_string())),
            Err(error) => return Err(error).context("a frame"),
        };
        match frame.opcode {
            OpCode::Ping => return Ok(Arrival::Ping(frame.payload.to_vec())),
            OpCode::Pong => return Ok(Arrival::Pong),
            OpCode::Close => return Ok(Arrival::Ended(closed(&frame.payload))),
            OpCode::Text => bail!("a text frame"),
            OpCode::Binary | OpCode::Continuation => {}
        }
        let mut position = 0;
        while let Some(located) = self.messages.next(&frame.payload, &mut position) {
            let bytes = match located {
                Located::InChunk(range) => &frame.payload[range],
                Located::Assembled => self.messages.assembled(),
            };
            take(MessageView::parse(bytes).context("a message")?)?;
        }
        Ok(Arrival::Messages)
    }
}

/// A connection that ended before the tunnel was closed, and what to look at.
const CUT: &str = "the connection was cut before the service closed the tunnel: the service was stopped or killed, or \
                   something on the way gave the connection up; look whether the service runs and what it logged";

fn closed(payload: &[u8]) -> String {
    match payload {
        [high, low, ..] => format!("closed with {}", u16::from_be_bytes([*high, *low])),
        _ => "closed without a code".to_owned(),
    }
}
