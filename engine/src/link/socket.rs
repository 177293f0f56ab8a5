//! Options of a tunnel's TCP socket, and the way out of the runtime.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};

use crate::ring::{limit_retransmission_wait, unpace_loopback};

/// Sends at once, and notices within about a minute that an idle peer is gone.
///
/// No `TCP_USER_TIMEOUT`: it also ends a connection whose peer acknowledges everything but has
/// closed its window, and that is what back-pressure looks like.
pub(super) fn tune(socket: &TcpStream) -> io::Result<()> {
    if let Ok(peer) = socket.peer_addr() {
        unpace_loopback(socket, peer.ip());
    }
    limit_retransmission_wait(socket);
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    // The first probe after 30 s of silence, then every 2 s, which costs only where nobody answers; ten in a row
    // end it after 50 s. So many since one in three of them is lost where every fifth packet is.
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(2))
        .with_retries(10);
    socket.set_tcp_keepalive(&keepalive)
}

/// A socket that can leave the runtime.
pub(super) trait IntoFd {
    /// The descriptor, non-blocking as it was.
    fn into_fd(self) -> io::Result<OwnedFd>;
}

impl IntoFd for TcpStream {
    fn into_fd(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }
}

impl IntoFd for UnixStream {
    fn into_fd(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }
}
