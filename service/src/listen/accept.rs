//! Accepting connections when the kernel has trouble, and when there are many.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::room::{Place, Room};

/// The next connection that gets a place, however long it takes. Dropped, it loses the connection that
/// waits for one.
pub(super) async fn admitted(
    listener: &TcpListener,
    room: &Arc<Room>,
) -> (TcpStream, SocketAddr, Place) {
    loop {
        let (socket, peer) = next(|| listener.accept()).await;
        if let Some(place) = room.enter(peer).await {
            return (socket, peer, place);
        }
        debug!(%peer, "refused: its address has too many clients that nobody knows");
        // Without a state of it that the system would keep. A failure leaves an ordinary close.
        let _ = socket.set_zero_linger();
    }
}

/// The next connection, however long it takes.
///
/// Some errors are about one peer that gave up; the next one may be fine. The others (no descriptor or
/// memory left) stay until something else ends, so trying again at once would burn a core: there is a
/// pause, and one line in the log for all that fail one after the other. The future can be dropped at any time.
pub(super) async fn next<T, F>(mut accept: impl FnMut() -> F) -> T
where
    F: Future<Output = io::Result<T>>,
{
    let mut is_told = false;
    loop {
        match accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_about_the_peer(&error) => debug!(%error, "a client gave up early"),
            Err(error) => {
                if !is_told {
                    warn!(%error, "cannot accept connections; trying again every {PAUSE:?}");
                }
                is_told = true;
                sleep(PAUSE).await;
            }
        }
    }
}

fn is_about_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | ConnectionRefused
            | HostUnreachable
            | NetworkUnreachable
            | NetworkDown
            | TimedOut
            | Interrupted
    )
}

const PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;

    use super::*;

    /// Fails with this error for a while, then succeeds; gives the number of calls.
    async fn calls_until(error: io::ErrorKind, errors: usize) -> usize {
        let calls = Cell::new(0);
        next(|| {
            calls.set(calls.get() + 1);
            let failed = calls.get() <= errors;
            ready(if failed { Err(error.into()) } else { Ok(()) })
        })
        .await;
        calls.get()
    }

    #[tokio::test]
    async fn one_peer_that_gives_up_delays_nobody() {
        let calls = calls_until(io::ErrorKind::ConnectionAborted, 1_000);
        let calls = tokio::time::timeout(PAUSE, calls).await;
        assert_eq!(calls.unwrap(), 1_001);
    }

    #[tokio::test]
    async fn no_descriptor_left_means_waiting_not_spinning() {
        let calls = Cell::new(0);
        let exhausted = next(|| {
            calls.set(calls.get() + 1);
            ready(Err::<(), _>(io::Error::from_raw_os_error(24))) // EMFILE
        });
        let window = PAUSE * 5 / 2;
        assert!(tokio::time::timeout(window, exhausted).await.is_err());
        assert!((2..=3).contains(&calls.get()), "{} calls", calls.get());
        // And once there is one again, it goes on.
        assert_eq!(calls_until(io::ErrorKind::OutOfMemory, 1).await, 2);
    }
}
