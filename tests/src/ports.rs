//! TCP ports of the loopback: free ones, and whether somebody listens.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};

use crate::deadline::until;

/// Ports are handed out from here up, below the range the kernel takes its own from, so
/// that no outgoing connection steals one between the choice and its use.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;
/// About the golden part of `COUNT`, and prime to it: multiples of it are far apart, however many there are.
const SPREAD: u32 = 7_417;

/// A port that nobody uses now, on IPv4 and on IPv6, and that no other test of this
/// process was given.
///
/// # Errors
/// All of them are in use.
pub fn free() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = start_of(std::process::id());
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (start + step) % COUNT;
        if is_free(port) {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}

/// Where a process begins to look. Those that run at the same time were started one after the other, and a port
/// that one has found free is another's as well until it is listened on.
fn start_of(process: u32) -> u16 {
    (process % u32::from(COUNT) * SPREAD % u32::from(COUNT)) as u16
}

/// The port of a listener that was bound to port 0 of 127.0.0.1.
///
/// # Errors
/// The socket is gone.
pub fn of(listener: &tokio::net::TcpListener) -> Result<u16> {
    Ok(listener.local_addr()?.port())
}

/// Whether any process listens on this port, at any address.
///
/// The kernel's table is read; a connection would be noticed by the program under test.
#[must_use]
pub fn is_listened_on(port: u16) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        let lines = File::open(table).map(|table| BufReader::new(table).lines());
        // Listeners come first. Behind many thousand connections that have ended, all of it takes seconds to read.
        let lines = lines.into_iter().flatten().flatten().skip(1);
        lines
            .map_while(|line| listener(&line))
            .any(|found| found == port)
    })
}

/// Waits until somebody listens on this port.
///
/// # Errors
/// Nobody does in time.
pub async fn listened_on(port: u16) -> Result<()> {
    until(&format!("waiting for a listener on port {port}"), || {
        is_listened_on(port)
    })
    .await
}

/// Waits until nobody listens on this port.
///
/// # Errors
/// Somebody still does.
pub async fn silent(port: u16) -> Result<()> {
    until(&format!("waiting for port {port} to be given up"), || {
        !is_listened_on(port)
    })
    .await
}

/// The port of a listener; `None` for any other socket. `sl local_address rem_address st …`; 0A is LISTEN.
fn listener(line: &str) -> Option<u16> {
    let mut fields = line.split_whitespace().skip(1);
    let (_, port) = fields.next()?.rsplit_once(':')?;
    let is_listener = fields.nth(1)? == "0A";
    is_listener.then(|| u16::from_str_radix(port, 16).ok())?
}

fn is_free(port: u16) -> bool {
    let free_at = |address: IpAddr| TcpListener::bind(SocketAddr::new(address, port)).is_ok();
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    free_at(Ipv4Addr::LOCALHOST.into()) && (!has_ipv6 || free_at(Ipv6Addr::LOCALHOST.into()))
}

/// A listener on 127.0.0.1 whose queue of waiting connections is full, so that a further
/// connection is neither accepted nor refused until [`Congested::relieve`].
pub struct Congested {
    listener: TcpListener,
    /// What fills the queue.
    waiting: Vec<std::net::TcpStream>,
}

impl Congested {
    /// Opens the listener and fills its queue.
    ///
    /// # Errors
    /// The kernel gives no sockets, or its queue never fills.
    pub fn open() -> Result<Self> {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.listen(0)?;
        let mut congested = Self {
            listener: socket.into(),
            waiting: Vec::new(),
        };
        let address = congested.address()?;
        let patience = std::time::Duration::from_millis(200);
        while congested.waiting.len() < 64 {
            match std::net::TcpStream::connect_timeout(&address, patience) {
                Ok(stream) => congested.waiting.push(stream),
                Err(_) => return Ok(congested),
            }
        }
        anyhow::bail!("the kernel queues more than 64 connections at a backlog of 0")
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Empties the queue and gives the listener back, ready to accept.
    ///
    /// # Errors
    /// The queue cannot be emptied.
    pub fn relieve(self) -> Result<tokio::net::TcpListener> {
        // From now on there is room for several at once.
        socket2::SockRef::from(&self.listener).listen(64)?;
        for _ in &self.waiting {
            self.listener
                .accept()
                .context("accept what filled the queue")?;
        }
        self.listener.set_nonblocking(true)?;
        Ok(tokio::net::TcpListener::from_std(self.listener)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_not_listened_on_until_somebody_does() {
        let port = free().unwrap();
        assert!(!is_listened_on(port));
        let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert!(is_listened_on(port));
    }

    /// Five processes in a row found the same ports free, and one of them could not listen.
    #[test]
    fn processes_that_start_together_look_far_from_each_other() {
        let mut starts: Vec<u16> = (50_000..50_010).map(start_of).collect();
        starts.sort_unstable();
        for pair in starts.windows(2) {
            assert!(pair[1] - pair[0] > 500, "{starts:?}");
        }
    }

    #[test]
    fn a_port_is_not_handed_out_twice() {
        assert_ne!(free().unwrap(), free().unwrap());
    }
}
