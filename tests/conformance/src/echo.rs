//! The echo: our reader and our writers, as the data plane uses them.

use std::io;

use adit_engine::link::Link;
use adit_engine::tls::Records;
use adit_engine::tunnel::compose::{End, finish_frame};
use adit_engine::tunnel::outbox::Outbox;
use adit_proto::limits::MAX_FRAME_PAYLOAD_SIZE;
use adit_proto::websocket::{CloseCode, FrameEvent, FrameReader, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Carried;
use crate::frames::{Headers, Step};

/// Echoes every message until the connection is over.
pub(crate) async fn run(link: Link, role: Role) -> Carried {
    let Records::Plain(_) = link.records else {
        return Err(io::Error::other("the suite speaks no TLS"));
    };
    let socket = std::net::TcpStream::from(link.socket);
    let mut echo = Echo {
        socket: TcpStream::from_std(socket)?,
        role,
        reader: FrameReader::new(role, MAX_FRAME_PAYLOAD_SIZE),
        headers: Headers::default(),
        outbox: Outbox::default(),
        message: Vec::new(),
        masks: 0,
    };
    let mut received = [link.opened, link.unread].concat();
    loop {
        let is_over = echo.handle(&mut received).await?;
        if is_over {
            return echo.end().await;
        }
        received.clear();
        if echo.socket.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    }
}

struct Echo {
    socket: TcpStream,
    role: Role,
    reader: FrameReader,
    /// Our reader does not say where messages end: a tunnel does not care. An echo does.
    headers: Headers,
    outbox: Outbox,
    message: Vec<u8>,
    masks: u32,
}

impl Echo {
    /// Reads what came; `true` once the close frame has been sent.
    async fn handle(&mut self, received: &mut [u8]) -> io::Result<bool> {
        let mut ends = Vec::new();
        self.headers.walk(received, |_, step| {
            if let Step::End(first, at) = step
                && first & 0x88 == 0x80
            {
                ends.push(at);
            }
        });
        let (mut ends, mut position) = (ends.into_iter().peekable(), 0);
        loop {
            let event = match self.reader.next(received, &mut position) {
                Ok(Some(event)) => event,
                Ok(None) => {
                    while ends.next().is_some() {
                        self.send_message().await?;
                    }
                    return Ok(false);
                }
                Err(error) => {
                    self.outbox.close(error.close_code(), "protocol error");
                    self.send_control().await?;
                    return Ok(true);
                }
            };
            let before = match &event {
                FrameEvent::Data(range) => range.start,
                FrameEvent::Ping { payload } | FrameEvent::Pong { payload } => {
                    position - payload.len().min(position)
                }
                FrameEvent::Close { .. } => position,
            };
            while ends.next_if(|end| *end <= before).is_some() {
                self.send_message().await?;
            }
            match event {
                FrameEvent::Data(range) => {
                    let end = range.end;
                    self.message.extend_from_slice(&received[range]);
                    while ends.next_if(|other| *other <= end).is_some() {
                        self.send_message().await?;
                    }
                }
                FrameEvent::Ping { payload } => {
                    self.outbox.pong(payload);
                    self.send_control().await?;
                }
                FrameEvent::Pong { .. } => {}
                FrameEvent::Close { .. } => {
                    self.outbox.close(CloseCode::Normal, "");
                    self.send_control().await?;
                    return Ok(true);
                }
            }
        }
    }

    /// The message as frames of one record each, the first of them binary and the last one final.
    async fn send_message(&mut self) -> io::Result<()> {
        let message = std::mem::take(&mut self.message);
        let end = self.sender();
        let key = self.mask_key();
        let mut frame = vec![0; end.header_room() + FRAME_SIZE];
        let count = message.len().div_ceil(FRAME_SIZE).max(1);
        for index in 0..count {
            let start = index * FRAME_SIZE;
            let part = &message[start..message.len().min(start + FRAME_SIZE)];
            frame[end.header_room()..][..part.len()].copy_from_slice(part);
            let size = finish_frame(&mut frame, end, part.len(), key);
            // The engine never fragments; an echo of more than a record has to.
            frame[0] = match (index, index + 1 == count) {
                (0, true) => frame[0],
                (0, false) => frame[0] & 0x7f,
                (_, true) => 0x80,
                (_, false) => 0,
            };
            self.socket.write_all(&frame[..size]).await?;
        }
        Ok(())
    }

    async fn send_control(&mut self) -> io::Result<()> {
        let key = matches!(self.role, Role::Client).then(|| self.mask_key());
        let mut frames = Vec::new();
        while self.outbox.write_frame(key, &mut frames) {}
        self.socket.write_all(&frames).await
    }

    /// The server closes first (RFC 6455 §7.1.1); either reads to the end, so that nothing is reset.
    async fn end(&mut self) -> Carried {
        if self.role == Role::Server {
            self.socket.shutdown().await?;
        }
        let mut rest = vec![0; 16 * 1024];
        while self.socket.read(&mut rest).await? > 0 {}
        Ok(())
    }

    fn sender(&self) -> End {
        match self.role {
            Role::Client => End::Client,
            Role::Server => End::Server,
        }
    }

    /// Any key will do: nobody is between us and the suite.
    fn mask_key(&mut self) -> [u8; 4] {
        self.masks = self.masks.wrapping_mul(0x9e37_79b1).wrapping_add(1);
        self.masks.to_be_bytes()
    }
}

const FRAME_SIZE: usize = 16_000;
