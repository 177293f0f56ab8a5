//! A socket with its record layer, for the few messages of the upgrade.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;
use zeroize::{Zeroize, Zeroizing};

use super::Link;
use super::socket::IntoFd;
use crate::tls::{MAX_PLAINTEXT, Opened, Records};

pub(super) struct Channel<S> {
    socket: S,
    records: Records,
    /// Received, not opened.
    sealed: Vec<u8>,
    /// Opened, not consumed by the upgrade.
    pub(super) opened: Vec<u8>,
    /// The peer has said that no more follows.
    ended: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Channel<S> {
    /// `unread` was received before and not opened.
    pub(super) fn new(socket: S, records: Records, unread: Vec<u8>) -> Self {
        Self {
            socket,
            records,
            sealed: unread,
            opened: Vec::new(),
            ended: false,
        }
    }

    /// Seals and sends `plaintext`, which may hold a token: no copy of it stays behind here.
    pub(super) async fn send(&mut self, plaintext: &[u8]) -> io::Result<()> {
        for piece in plaintext.chunks(MAX_PLAINTEXT) {
            self.send_outgoing().await?;
            let offset = self.records.plaintext_offset();
            let mut record = Zeroizing::new(vec![0; self.records.room(piece.len())]);
            record[offset..][..piece.len()].copy_from_slice(piece);
            let size = self
                .records
                .seal(&mut record, piece.len())
                .map_err(io::Error::other)?;
            self.socket.write_all(&record[..size]).await?;
        }
        self.socket.flush().await
    }

    /// Waits for more plaintext and appends it to `opened`; `false`: there will be none.
    pub(super) async fn receive(&mut self) -> io::Result<bool> {
        loop {
            if self.ended {
                return Ok(false);
            }
            let consumed = match self.records.open(&mut self.sealed) {
                Err(error) => {
                    // The peer may still hear why.
                    self.send_outgoing().await?;
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
                Ok(Opened::Incomplete) => {
                    if !self.opened.is_empty() {
                        sleep(PAUSE).await;
                    }
                    self.sealed.reserve(READ_SIZE);
                    if self.socket.read_buf(&mut self.sealed).await? == 0 {
                        self.ended = true;
                    }
                    continue;
                }
                Ok(Opened::Data {
                    plaintext,
                    consumed,
                }) => {
                    self.opened.extend_from_slice(&self.sealed[plaintext]);
                    // It may have held a token.
                    self.sealed[..consumed].zeroize();
                    self.sealed.drain(..consumed);
                    return Ok(true);
                }
                Ok(Opened::Handled { consumed }) => consumed,
                Ok(Opened::Closed { consumed }) => {
                    self.ended = true;
                    consumed
                }
            };
            self.sealed.drain(..consumed);
        }
    }

    /// Says goodbye and half-closes.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        let mut alert = Vec::new();
        self.records.close_notify(&mut alert);
        self.socket.write_all(&alert).await?;
        self.socket.shutdown().await
    }

    /// Reads and forgets up to `max` bytes until the peer closes. Closing a socket with bytes
    /// unread resets the connection, and the reset may overtake what was sent last.
    pub(super) async fn drain(&mut self, max: usize) -> io::Result<()> {
        let mut chunk = [0; 1024];
        let mut drained = 0;
        while drained < max {
            match self.socket.read(&mut chunk).await? {
                0 => break,
                size => drained += size,
            }
        }
        Ok(())
    }

    async fn send_outgoing(&mut self) -> io::Result<()> {
        let mut outgoing = Vec::new();
        self.records.take_outgoing(&mut outgoing);
        self.socket.write_all(&outgoing).await
    }
}

impl<S: IntoFd> Channel<S> {
    /// The upgrade is done: everything goes to the data plane.
    pub(super) fn into_link(self, channel_id: String, subprotocol: String) -> io::Result<Link> {
        Ok(Link {
            socket: self.socket.into_fd()?,
            records: self.records,
            opened: self.opened,
            unread: self.sealed,
            channel_id,
            subprotocol,
            carries_credit: false,
            is_nameless: false,
        })
    }
}

/// Bytes asked of the socket at once; an upgrade request or answer is far smaller.
const READ_SIZE: usize = 4 * 1024;

/// Before more of a head is read that has come in part: a byte at a time, each would be a wake-up.
const PAUSE: Duration = Duration::from_millis(1);
