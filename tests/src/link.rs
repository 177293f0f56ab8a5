//! One side of a tunnel's WebSocket, driven by hand.
//!
//! Reading is done by `fastwebsockets`, an implementation independent of the product's,
//! and is strict: what a peer must never send ends the test. Writing is literal, so that a
//! test can send what no library would.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::sync::{Mutex, mpsc};

use crate::deadline::{PATIENCE, SILENCE, pause, within, within_limit};
use crate::frames::{self, End};
use crate::link_reader::{FrameLog, follow};
use crate::wire::{Kind, Message, Route, stream_of};

/// Messages that wait for the test. Few, so that a test that does not take them is a peer
/// that does not read.
const EVENTS_WAITING_MAX: usize = 8;

/// Any byte stream a WebSocket can run on.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// Something that happened on the WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole tunnel message.
    Message(Message),
    /// A ping; it was answered unless [`LinkWriter::leave_pings_unanswered`] was called.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A close frame. Nothing comes after it.
    Close {
        /// The code, where there is one.
        code: Option<u16>,
        /// The text behind it.
        reason: String,
    },
    /// The connection ended without a close frame. Nothing comes after it.
    Lost(String),
    /// The peer did what no peer may do. Nothing comes after it.
    Violation(String),
}

/// One side of an established WebSocket.
pub struct Link {
    writer: LinkWriter,
    reader: LinkReader,
}

/// The sending half; all clones send on the same WebSocket.
#[derive(Clone)]
pub struct LinkWriter {
    end: End,
    bytes: Arc<Mutex<WriteHalf<Box<dyn Stream>>>>,
    answers_pings: Arc<AtomicBool>,
    socket: Arc<std::net::TcpStream>,
}

/// The receiving half.
pub struct LinkReader {
    events: mpsc::Receiver<Event>,
    log: FrameLog,
    follower: tokio::task::JoinHandle<()>,
}

impl Drop for LinkReader {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Link {
    /// Takes over a stream on which the upgrade is done. `socket` is the TCP connection
    /// below it, for the tests that end it without ceremony.
    pub(crate) fn new(
        stream: Box<dyn Stream>,
        end: End,
        socket: std::net::TcpStream,
        answers_pings: bool,
    ) -> Self {
        let (read, write) = tokio::io::split(stream);
        let writer = LinkWriter {
            end,
            bytes: Arc::new(Mutex::new(write)),
            answers_pings: Arc::new(AtomicBool::new(answers_pings)),
            socket: Arc::new(socket),
        };
        let (sender, events) = mpsc::channel(EVENTS_WAITING_MAX);
        let log = FrameLog::default();
        let follower = tokio::spawn(follow(read, end, sender, log.clone(), writer.clone()));
        Self {
            writer,
            reader: LinkReader {
                events,
                log,
                follower,
            },
        }
    }

    /// Both halves, for tests that read and write at the same time.
    #[must_use]
    pub fn split(self) -> (LinkWriter, LinkReader) {
        (self.writer, self.reader)
    }

    /// Puts the halves together again.
    #[must_use]
    pub fn join(writer: LinkWriter, reader: LinkReader) -> Self {
        Self { writer, reader }
    }

    /// The sending half.
    #[must_use]
    pub fn writer(&self) -> &LinkWriter {
        &self.writer
    }

    /// The receiving half.
    pub fn reader(&mut self) -> &mut LinkReader {
        &mut self.reader
    }

    /// See [`LinkWriter::send`].
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&self, message: &Message) -> Result<()> {
        self.writer.send(message).await
    }

    /// See [`LinkReader::message`].
    ///
    /// # Errors
    /// No message came.
    pub async fn message(&mut self) -> Result<Message> {
        self.reader.message().await
    }

    /// See [`LinkReader::expect`].
    ///
    /// # Errors
    /// Another message came, or none.
    pub async fn expect(&mut self, expected: &Message) -> Result<()> {
        self.reader.expect(expected).await
    }

    /// See [`LinkReader::expect_data`].
    ///
    /// # Errors
    /// Other bytes came, or too few.
    pub async fn expect_data(&mut self, route: Route<'_>, expected: &[u8]) -> Result<()> {
        self.reader.expect_data(route, expected).await
    }

    /// Sends a ping and takes everything up to its pong.
    ///
    /// The peer has then read all that was sent before the ping. Returns the messages that
    /// came meanwhile.
    ///
    /// # Errors
    /// No pong, or the connection ended.
    pub async fn fence(&mut self) -> Result<Vec<Message>> {
        let mark = b"1795446956025".to_vec();
        self.writer.ping(&mark).await?;
        let mut messages = Vec::new();
        loop {
            match self.reader.event().await.context("waiting for a pong")? {
                Event::Pong(payload) if payload == mark => return Ok(messages),
                Event::Message(message) => messages.push(message),
                Event::Ping(_) | Event::Pong(_) => {}
                end => bail!("instead of a pong: {end:?}"),
            }
        }
    }

    /// Waits for a close frame with this code; anything before it is let pass. Answers it,
    /// as RFC 6455 asks.
    ///
    /// # Errors
    /// The link ends otherwise, or not at all.
    pub async fn closes_with(&mut self, code: u16) -> Result<String> {
        let (closed, reason) = self.close_frame().await?;
        ensure!(
            closed == Some(code),
            "the close frame says {closed:?} {reason:?}, not {code}"
        );
        Ok(reason)
    }

    /// Waits for a close frame, whatever its code.
    ///
    /// # Errors
    /// As [`Self::closes_with`].
    pub async fn close_frame(&mut self) -> Result<(Option<u16>, String)> {
        match self.reader.end().await? {
            Event::Close { code, reason } => {
                let payload = code.map(|code| frames::close_payload(code, ""));
                let answer = payload.unwrap_or_default();
                let answer = frames::frame(self.writer.end, frames::CLOSE, &answer);
                // The peer may be gone already: it had said goodbye.
                let _ = self.writer.send_raw(&answer).await;
                Ok((code, reason))
            }
            end => bail!("instead of a close frame: {end:?}"),
        }
    }

    /// Waits for the TCP connection to end without a close frame.
    ///
    /// # Errors
    /// The link ends otherwise, or not at all.
    pub async fn is_lost(&mut self) -> Result<()> {
        match self.reader.end().await? {
            Event::Lost(_) => Ok(()),
            end => bail!("instead of a lost connection: {end:?}"),
        }
    }

    /// Ends the TCP connection without a close frame, in good order.
    pub fn drop_tcp(self) {
        let _ = self.writer.socket.shutdown(Shutdown::Both);
    }

    /// Ends the TCP connection by a reset.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn reset_tcp(self) -> Result<()> {
        // A socket that lingers for zero seconds resets when its last descriptor closes.
        socket2::SockRef::from(&*self.writer.socket)
            .set_linger(Some(Duration::ZERO))
            .context("SO_LINGER")
    }
}

impl LinkWriter {
    /// Sends one message in a frame of its own.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&self, message: &Message) -> Result<()> {
        self.send_payload(&message.prefixed()).await
    }

    /// Sends several messages in one frame.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_together(&self, messages: &[Message]) -> Result<()> {
        self.send_payload(&stream_of(messages)).await
    }

    /// Sends these bytes of the message stream as one binary frame.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_payload(&self, payload: &[u8]) -> Result<()> {
        self.send_frame(frames::BINARY, payload).await
    }

    /// Sends these bytes of the message stream in binary frames of at most `size` bytes.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_in_frames_of(&self, size: usize, payload: &[u8]) -> Result<()> {
        let frames = payload.chunks(size);
        let frames = frames.map(|chunk| frames::frame(self.end, frames::BINARY, chunk));
        self.send_raw(&frames.collect::<Vec<_>>().concat()).await
    }

    /// Sends these bytes of the message stream as one message in fragments of at most
    /// `size` bytes, as the reference does.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_fragmented(&self, size: usize, payload: &[u8]) -> Result<()> {
        self.send_raw(&frames::fragmented(self.end, payload, size))
            .await
    }

    /// Sends one final frame of any type.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_frame(&self, opcode: u8, payload: &[u8]) -> Result<()> {
        self.send_raw(&frames::frame(self.end, opcode, payload))
            .await
    }

    /// Sends a ping.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn ping(&self, payload: &[u8]) -> Result<()> {
        self.send_frame(frames::PING, payload).await
    }

    /// Sends a pong, asked for or not.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn pong(&self, payload: &[u8]) -> Result<()> {
        self.send_frame(frames::PONG, payload).await
    }

    /// Sends a close frame.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn close(&self, code: u16, reason: &str) -> Result<()> {
        self.send_frame(frames::CLOSE, &frames::close_payload(code, reason))
            .await
    }

    /// Sends bytes below the WebSocket: whole frames, halves of frames, or nonsense. Between
    /// the halves of a frame the link's own pong may fall, unless
    /// [`leave_pings_unanswered`](Self::leave_pings_unanswered) was called before.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_raw(&self, bytes: &[u8]) -> Result<()> {
        let mut writer = self.bytes.lock().await;
        writer.write_all(bytes).await.context("send")?;
        writer.flush().await.context("send")
    }

    /// As [`send_raw`](Self::send_raw), in TLS records of at most `size` bytes, each of which
    /// the peer may see arrive alone.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn dribble(&self, size: usize, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(size) {
            self.send_raw(piece).await?;
            // Let the peer run: what arrives together is a case of its own.
            pause(Duration::from_micros(200)).await;
        }
        Ok(())
    }

    /// From now on the peer's pings get no pong.
    pub fn leave_pings_unanswered(&self) {
        self.answers_pings.store(false, Ordering::Relaxed);
    }

    pub(crate) fn answers_pings(&self) -> bool {
        self.answers_pings.load(Ordering::Relaxed)
    }
}

impl LinkReader {
    /// The next thing that happens.
    ///
    /// # Errors
    /// Nothing does in time.
    pub async fn event(&mut self) -> Result<Event> {
        self.event_within(PATIENCE).await
    }

    /// As [`event`](Self::event), where the peer may have nothing to say for longer.
    ///
    /// # Errors
    /// Nothing happens within `limit`.
    pub async fn event_within(&mut self, limit: Duration) -> Result<Event> {
        within_limit(limit, "waiting for the peer", async {
            self.events
                .recv()
                .await
                .ok_or_else(|| anyhow!("the link ended before"))
        })
        .await
    }

    /// The next message; pings and pongs are let pass.
    ///
    /// # Errors
    /// None comes, or the link ends; how is said.
    pub async fn message(&mut self) -> Result<Message> {
        loop {
            match self.event().await.context("waiting for a message")? {
                Event::Message(message) => return Ok(message),
                Event::Ping(_) | Event::Pong(_) => {}
                end => bail!("instead of a message: {end:?}"),
            }
        }
    }

    /// Takes the next message, which must be this one.
    ///
    /// # Errors
    /// Another comes, or none.
    pub async fn expect(&mut self, expected: &Message) -> Result<()> {
        let message = self
            .message()
            .await
            .with_context(|| format!("expecting {expected}"))?;
        ensure!(
            message == *expected,
            "expected {expected}, received {message}"
        );
        Ok(())
    }

    /// Takes DATA messages of this address until they have carried exactly these bytes.
    ///
    /// # Errors
    /// Another message, other bytes, or too few.
    pub async fn expect_data(&mut self, route: Route<'_>, expected: &[u8]) -> Result<()> {
        let mut received = 0;
        while received < expected.len() {
            let message = self
                .message()
                .await
                .with_context(|| format!("{received} of {} bytes of {route:?}", expected.len()))?;
            ensure!(
                message.known_kind() == Some(Kind::Data) && message.route() == route,
                "expected DATA of {route:?}, received {message}"
            );
            let end = received + message.payload.len();
            ensure!(
                expected.get(received..end) == Some(&message.payload[..]),
                "{message}: other bytes than were sent, from offset {received} on"
            );
            received = end;
        }
        Ok(())
    }

    /// Lets messages pass until one satisfies `wanted`.
    ///
    /// # Errors
    /// None does.
    pub async fn until(&mut self, wanted: impl Fn(&Message) -> bool) -> Result<Message> {
        loop {
            let message = self.message().await?;
            if wanted(&message) {
                return Ok(message);
            }
        }
    }

    /// Lets everything pass until the link ends, and tells how it did.
    ///
    /// # Errors
    /// It does not end.
    pub async fn end(&mut self) -> Result<Event> {
        within("waiting for the link to end", async {
            loop {
                match self.events.recv().await {
                    Some(Event::Message(_) | Event::Ping(_) | Event::Pong(_)) => {}
                    Some(end) => return Ok(end),
                    None => bail!("the link had ended before"),
                }
            }
        })
        .await
    }

    /// Makes sure that no message comes for a while. Prefer a later event that proves the
    /// silence, such as [`Link::fence`].
    ///
    /// # Errors
    /// One does.
    pub async fn stays_silent(&mut self) -> Result<()> {
        let quiet_until = tokio::time::Instant::now() + SILENCE;
        loop {
            match tokio::time::timeout_at(quiet_until, self.events.recv()).await {
                Err(_) => return Ok(()),
                Ok(Some(Event::Ping(_) | Event::Pong(_))) => {}
                Ok(Some(event)) => bail!("expected silence, received {event:?}"),
                Ok(None) => bail!("the link had ended before"),
            }
        }
    }

    /// The frames received so far.
    #[must_use]
    pub fn frames(&self) -> &FrameLog {
        &self.log
    }
}
