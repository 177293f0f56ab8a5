//! Packets over a byte stream, with a bound on what one costs.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use zeroize::Zeroize;

use crate::mqtt::codec::{Codec, EncodeFault, Incoming, Malformed, Outgoing};

/// A stream with its codec. Holds at most one packet each way, and what came in with it.
pub(super) struct Transport<S> {
    stream: S,
    codec: Codec,
    received: BytesMut,
    write_timeout: Duration,
}

/// Why there is no further packet.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("the client closed the connection")]
    Closed,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the client does not take what is sent to it")]
    Stalled,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport<S> {
    pub(super) fn new(stream: S, write_timeout: Duration) -> Self {
        Self {
            stream,
            codec: Codec::new(),
            received: BytesMut::new(),
            write_timeout,
        }
    }

    /// No larger packet is sent from here on.
    pub(super) fn limit_outgoing(&mut self, size: u32) {
        self.codec.limit_outgoing(size);
    }

    /// The next packet, however long it takes. Can be cancelled without loss.
    pub(super) async fn receive(&mut self) -> Result<Incoming, Lost> {
        loop {
            if let Some(packet) = self.codec.decode(&mut self.received)? {
                return Ok(packet);
            }
            self.received.reserve(READ_SIZE);
            let room = (&mut self.stream).take(READ_SIZE as u64);
            tokio::pin!(room);
            if room.read_buf(&mut self.received).await? == 0 {
                return Err(Lost::Closed);
            }
        }
    }

    /// Sends a packet; one that the client's version has no word for, or that is larger than the client
    /// takes, is left out, and `Ok` all the same.
    pub(super) async fn send(&mut self, packet: Outgoing) -> Result<(), Lost> {
        self.try_send(packet).await.map(|_| ())
    }

    /// Sends a packet, and returns whether it could be said to this client.
    pub(super) async fn try_send(&mut self, packet: Outgoing) -> Result<bool, Lost> {
        let mut bytes = BytesMut::new();
        match self.codec.encode(packet, &mut bytes) {
            Ok(()) => {}
            Err(EncodeFault::TooLarge | EncodeFault::Unsayable) => return Ok(false),
        }
        let write = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        let written = timeout(self.write_timeout, write).await;
        // It may have been a notification.
        bytes.as_mut().zeroize();
        written.map_err(|_| Lost::Stalled)?.map_err(Lost::Io)?;
        Ok(true)
    }

    /// Says goodbye to TLS, and lets the client finish its sentence, within a bound: closing a socket with
    /// bytes unread would reset it, and what was sent last might never be seen.
    pub(super) async fn close(&mut self) {
        let goodbye = async {
            self.stream.shutdown().await?;
            let mut rest = [0; 512];
            while self.stream.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        let _ = timeout(self.write_timeout.min(LINGER), goodbye).await;
    }
}

/// For a client to close its side once we have closed ours.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes read at once.
const READ_SIZE: usize = 2048;
