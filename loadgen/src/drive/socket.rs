//! Sockets as the workers and the server want them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use monoio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

/// How the sockets of one loop are made.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// Their congestion control; the system's default otherwise.
    pub congestion: Option<String>,
    /// Whether the loop runs on io_uring, see [`Loop::is_uring`](super::Loop::is_uring).
    pub is_uring: bool,
}

impl SocketOptions {
    /// Connects to `target`, from `source` if that is given, within [`DIAL_TIMEOUT`].
    ///
    /// # Errors
    /// What the kernel says, `TimedOut` among them.
    pub async fn dial(&self, target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
        let socket = self.socket(target)?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.set_nonblocking(true)?;
        // Bounds the retries of the first packet; later it would cut a peer that closed its window.
        socket.set_tcp_user_timeout(Some(DIAL_TIMEOUT))?;
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() != Some(EINPROGRESS) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // monoio gives no access to the socket it holds, so a second descriptor looks after it meanwhile.
        let stream = TcpStream::from_std(socket.try_clone()?.into())?;
        stream.writable(false).await?;
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        socket.set_tcp_user_timeout(None)?;
        socket.set_nonblocking(!self.is_uring)?;
        Ok(stream)
    }

    /// Listens on `address`, beside other loops of this process that do.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = self.socket(address)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(!self.is_uring)?;
        TcpListener::from_std(socket.into())
    }

    fn socket(&self, address: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // Accepted sockets inherit both.
        socket.set_tcp_nodelay(true)?;
        if let Some(name) = &self.congestion {
            socket.set_tcp_congestion(name.as_bytes())?;
        }
        Ok(socket)
    }
}

/// Whether this machine has the congestion control `name`, and lets us use it.
///
/// # Errors
/// What the kernel says.
pub fn check_congestion(name: &str) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_congestion(name.as_bytes())
}

/// A connection that is not there by then counts as failed.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that wait to be accepted; the system's `somaxconn` bounds it further.
const BACKLOG: i32 = 16_384;

const EINPROGRESS: i32 = 115;
