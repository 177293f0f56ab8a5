//! `accept`, and what to do when it fails.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
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

    /// The next connection. May be dropped at any point without losing one.
    ///
    /// # Errors
    ///
    /// Only when the listener cannot be used any more.
    pub(super) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let error = match self.listener.accept().await {
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
