//! `accept`, and what to do when it fails.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::task::coop::consume_budget;
use tokio::time::sleep;

pub(super) struct Acceptor {
    listener: TcpListener,
    /// Failures since the last success; one burst has one line in the log.
    failures: u64,
}

/// What a failed `accept` means.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// One connection went away before we took it.
    Connection,
    /// Descriptors or memory are short: the connection stays in the queue, so trying again at
    /// once would spin.
    Shortage,
    /// The listener cannot be used.
    Listener,
}

impl Acceptor {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            failures: 0,
        }
    }

    /// The next connection, which tokio does not watch yet. May be dropped at any point without losing one.
    ///
    /// # Errors
    ///
    /// Only when the listener cannot be used any more.
    pub(super) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            // What waits is taken without a wait: nothing else would let others have their turn.
            consume_budget().await;
            let accepted = match self.waiting() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait().await,
                accepted => accepted,
            };
            let error = match accepted {
                Ok(accepted) => {
                    if self.failures > 0 {
                        tracing::warn!(failures = self.failures, "accepting connections again");
                        self.failures = 0;
                    }
                    return Ok(accepted);
                }
                Err(error) => error,
            };
            match classify(&error) {
                Failure::Connection => tracing::debug!(%error, "a connection was gone already"),
                Failure::Shortage => {
                    if self.failures == 0 {
                        tracing::warn!(%error, "cannot accept connections; trying on");
                    }
                    self.failures += 1;
                    sleep(PAUSE).await;
                }
                Failure::Listener => return Err(error),
            }
        }
    }
}

impl Acceptor {
    /// A connection that waits. It comes as the system gives it: most of a flood are refused, and to
    /// have tokio watch them first would cost more than all else.
    fn waiting(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, address) = SockRef::from(&self.listener).accept()?;
        let address = address.as_socket();
        let address = address.ok_or_else(|| io::Error::other("a peer without an IP address"))?;
        Ok((socket.into(), address))
    }

    async fn wait(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, address) = self.listener.accept().await?;
        Ok((socket.into_std()?, address))
    }
}

fn classify(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::EFAULT) => {
            Failure::Listener
        }
        // accept(2): Linux passes pending network errors of the new socket on.
        Some(
            libc::ECONNABORTED
            | libc::ECONNRESET
            | libc::EINTR
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::ENONET,
        ) => Failure::Connection,
        // EMFILE, ENFILE, ENOBUFS, ENOMEM, and EPERM of a firewall. What we do not know is
        // survived in the same way.
        _ => Failure::Shortage,
    }
}

/// Long enough not to spin, short enough that a client hardly notices.
const PAUSE: Duration = Duration::from_millis(75);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart() {
        let of = |code| classify(&io::Error::from_raw_os_error(code));
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert_eq!(of(code), Failure::Shortage);
        }
        assert_eq!(of(libc::ECONNABORTED), Failure::Connection);
        assert_eq!(of(libc::EBADF), Failure::Listener);
        assert_eq!(classify(&io::Error::other("?")), Failure::Shortage);
    }
}
