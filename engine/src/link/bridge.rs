//! TLS in TLS: through an `https` web proxy the tunnel's own TLS runs inside the proxy's.
//!
//! The data plane wants one socket and one record layer, so the outer TLS is a task of the
//! runtime, which copies between the proxy's connection and one end of a local socket pair. The
//! other end is the link's socket, of which the kernel knows nothing of the way to the proxy: the task looks at that.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use crate::ring::{SILENCE_CHECK, is_silent};

/// Starts the task on the current runtime and returns the link's end. `socket` is that of `outer`, once more.
pub(super) fn start<S>(outer: S, socket: OwnedFd) -> io::Result<UnixStream>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (near, far) = UnixStream::pair()?;
    tokio::spawn(run(outer, far, silence(socket)));
    Ok(near)
}

/// Completes when nothing comes back from the proxy's host any more.
async fn silence(socket: OwnedFd) {
    while !is_silent(socket.as_fd()) {
        sleep(SILENCE_CHECK).await;
    }
}

async fn run<S: AsyncRead + AsyncWrite>(
    outer: S,
    inner: UnixStream,
    silence: impl Future<Output = ()>,
) {
    let (outer_read, mut outer_write) = split(outer);
    let (inner_read, mut inner_write) = split(inner);
    let outcome = tokio::select! {
        outcome = run_both(outer_read, &mut outer_write, inner_read, &mut inner_write) => outcome,
        () = silence => Err(io::ErrorKind::TimedOut.into()),
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "the connection through the web proxy failed");
    }
    // The link hears of it now, whatever the proxy makes of its own end.
    drop(inner_write);
    let _ = timeout(FAREWELL, outer_write.shutdown()).await;
}

async fn run_both<S: AsyncRead + AsyncWrite>(
    outer_read: ReadHalf<S>,
    outer_write: &mut WriteHalf<S>,
    inner_read: ReadHalf<UnixStream>,
    inner_write: &mut WriteHalf<UnixStream>,
) -> io::Result<()> {
    let up = copy(inner_read, outer_write);
    let down = async {
        let ended = copy(outer_read, inner_write).await;
        // The link reads the end behind the last bytes.
        let _ = inner_write.shutdown().await;
        ended
    };
    tokio::pin!(up, down);
    let ended = tokio::select! {
        ended = &mut up => {
            // Unless it is the link that is closed, with nobody left to read what may still come, the service may have
            // said something that the link has not read yet.
            if matches!(ended, Err(Broken::To(_))) {
                let _ = timeout(FAREWELL, down).await;
            }
            ended
        }
        ended = &mut down => {
            // The proxy has ended; the link's own last words may still be on their way.
            let _ = timeout(FAREWELL, up).await;
            ended
        }
    };
    ended.map_err(|(Broken::From(error) | Broken::To(error))| error)
}

/// Which end of a copy has failed.
enum Broken {
    From(io::Error),
    To(io::Error),
}

/// Copies until the end or an error; what was read is always written before more is read, so
/// that a slow side holds the fast one back.
async fn copy<R: AsyncRead, W: AsyncWrite>(
    mut from: ReadHalf<R>,
    to: &mut WriteHalf<W>,
) -> Result<(), Broken> {
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        let size = from.read(&mut buffer).await.map_err(Broken::From)?;
        if size == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..size]).await.map_err(Broken::To)?;
        to.flush().await.map_err(Broken::To)?;
    }
}

/// Per direction. The bridge holds no more than this, besides what the kernel does.
const BUFFER_SIZE: usize = 64 * 1024;

/// How long one side may take to end after the other has.
const FAREWELL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use tokio::io::ReadBuf;

    /// A connection that its host has reset behind these last bytes.
    struct Reset<'a>(&'a [u8]);

    impl AsyncRead for Reset<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, into)
        }
    }

    impl AsyncWrite for Reset<'_> {
        fn poll_write(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            _bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_the_service_said_last_arrives_though_nothing_can_be_said_to_it() {
        static LAST: [u8; 1 << 20] = [7; 1 << 20];
        let (mut link, far) = UnixStream::pair().unwrap();
        link.write_all(b"a ping").await.unwrap();
        let bridge = tokio::spawn(run(Reset(&LAST), far, std::future::pending()));
        // Both ends of the bridge wait by then: for the link to read, and with a failed write.
        sleep(Duration::from_millis(50)).await;
        let mut heard = Vec::new();
        link.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard.len(), LAST.len());
        bridge.await.unwrap();
    }

    #[tokio::test]
    async fn a_link_ends_when_nothing_comes_back_from_its_web_proxy() {
        let (_proxy, outer) = tokio::io::duplex(64);
        let (mut link, far) = UnixStream::pair().unwrap();
        tokio::spawn(run(outer, far, async {}));
        let end = timeout(Duration::from_secs(20), link.read(&mut [0])).await;
        assert_eq!(end.unwrap().unwrap(), 0);
    }
}
