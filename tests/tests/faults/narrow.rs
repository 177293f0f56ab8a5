//! single bytes, narrow windows and small segments at both local ends, and all of them at once.
//!
//! `ADIT_NARROW` is how many bytes go each way in each case (a release: 10 MiB).

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use adit_tests::deadline::within_limit;
use adit_tests::on_each_loop;
use adit_tests::scenario::{Scenario, count};
use adit_tests::stack::Stack;
use adit_tests::verifier::{Transfer, answer};
use anyhow::{Context as _, Result};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::pair::SEED;

const LIMIT: Duration = Duration::from_secs(3_600);

/// 88 bytes, the least that Linux takes, and 12 for time stamps. It never takes a peer's segments to be smaller than 88, and
/// offers windows in multiples of that: with 76 and a buffer of 4 KiB one stood at 74 in the end, so that the kernel
/// sent each segment only after 0.2 s, 370 bytes a second.
const SEGMENT_SIZE: u32 = 100;

/// What is narrow about both ends of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Narrow {
    /// Writes of one byte.
    bytes: bool,
    /// Receive buffers of 4 KiB, of which the kernel doubles what it is told.
    window: bool,
    /// Segments of [`SEGMENT_SIZE`].
    segments: bool,
}

const CASES: [Narrow; 4] = [
    Narrow {
        bytes: true,
        window: false,
        segments: false,
    },
    Narrow {
        bytes: false,
        window: true,
        segments: false,
    },
    Narrow {
        bytes: false,
        window: false,
        segments: true,
    },
    Narrow {
        bytes: true,
        window: true,
        segments: true,
    },
];

impl Narrow {
    fn socket(self) -> Result<TcpSocket> {
        let socket = TcpSocket::new_v4()?;
        if self.window {
            socket.set_recv_buffer_size(4096)?;
        }
        if self.segments {
            SockRef::from(&socket).set_tcp_mss(SEGMENT_SIZE)?;
        }
        Ok(socket)
    }

    fn listener(self) -> Result<TcpListener> {
        let socket = self.socket()?;
        // Inherited by what it accepts.
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        Ok(socket.listen(16)?)
    }

    fn over(self, stream: TcpStream) -> Result<Dribble> {
        stream.set_nodelay(true)?;
        let most = if self.bytes { 1 } else { usize::MAX };
        Ok(Dribble { stream, most })
    }
}

/// Writes so many bytes at once, and no more.
struct Dribble {
    stream: TcpStream,
    most: usize,
}

impl AsyncRead for Dribble {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Dribble {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let most = self.most.min(bytes.len());
        Pin::new(&mut self.stream).poll_write(context, &bytes[..most])
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

async fn everything_arrives_through_the_eye_of_a_needle(scenario: Scenario) -> Result<()> {
    let length = count("ADIT_NARROW", 100_000)? as u64;
    for (id, narrow) in (1..).zip(CASES) {
        let listener = narrow.listener()?;
        let place = listener.local_addr()?.to_string();
        let stack = Stack::start(&scenario, &[("SSH", place)]).await?;
        let app = tokio::spawn(async move {
            let mut stream = narrow.over(listener.accept().await?.0)?;
            answer(&mut stream, SEED).await
        });
        let address = SocketAddr::from(([127, 0, 0, 1], stack.port("SSH")?));
        let mut client = narrow.over(narrow.socket()?.connect(address).await?)?;
        let transfer = Transfer {
            id,
            length,
            seed: SEED,
        };
        within_limit(LIMIT / 4, "an exchange", transfer.exchange(&mut client))
            .await
            .with_context(|| format!("{narrow:?}"))?;
        app.await?.with_context(|| format!("{narrow:?}"))?;
    }
    Ok(())
}

on_each_loop!(
    within super::LIMIT;
    everything_arrives_through_the_eye_of_a_needle,
);
