//! TCP connections to a name: all its addresses, Happy Eyeballs (RFC 8305).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::ring::{refuse_itself, unpace_loopback};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// Why no address of a host could be connected to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The name could not be resolved.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The name has no addresses, or none of the wanted family.
    #[error("no address that can be connected to from here")]
    NoAddress,
    /// Every address failed, or had not answered when time was up.
    #[error("{}", Attempts(.0))]
    Failed(Vec<(SocketAddr, io::Error)>),
    /// The name was not resolved in time.
    #[error("cannot resolve {host} within {} s", .after.as_secs_f32())]
    TimedOut {
        /// The name.
        host: String,
        /// The time allowed.
        after: Duration,
    },
}

struct Attempts<'a>(&'a [(SocketAddr, io::Error)]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot connect: ")?;
        for (index, (address, error)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {error}")?;
        }
        Ok(())
    }
}

/// The addresses of `host`, a name or an address (IPv6 with or without brackets), in the
/// system's order of preference; at most 32.
///
/// # Errors
///
/// [`DialError::Resolve`] or [`DialError::NoAddress`].
pub async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    let found = tokio::net::lookup_host((bare, port))
        .await
        .map_err(|source| DialError::Resolve {
            host: host.to_owned(),
            source,
        })?;
    let mut addresses = Vec::new();
    for address in found {
        if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
            addresses.push(address);
        }
    }
    match addresses.is_empty() {
        true => Err(DialError::NoAddress),
        false => Ok(addresses),
    }
}

/// Connects to the first of `addresses` that answers, within `deadline`. `bind` is the local
/// address to dial from; addresses of the other family are then left out.
///
/// The families alternate, beginning with that of the first address. The next attempt starts
/// 250 ms after the last one, or at once when one has failed (RFC 8305 §5).
///
/// # Errors
///
/// [`DialError::Failed`] with what became of each address, or [`DialError::NoAddress`].
pub async fn happy_eyeballs(
    addresses: &[SocketAddr],
    bind: Option<IpAddr>,
    deadline: Duration,
) -> Result<TcpStream, DialError> {
    let end = Instant::now() + deadline;
    let wanted = |address: &&SocketAddr| bind.is_none_or(|it| it.is_ipv4() == address.is_ipv4());
    let usable: Vec<SocketAddr> = addresses.iter().filter(wanted).copied().collect();
    let order = interleave(&usable);
    let local = bind.map(|ip| SocketAddr::new(ip, 0));
    let mut waiting = order.iter().copied();
    let mut attempts = JoinSet::new();
    let mut failed: Vec<(SocketAddr, io::Error)> = Vec::new();
    let mut next_start = Instant::now();
    loop {
        let may_start = waiting.len() > 0;
        if !may_start && attempts.is_empty() {
            return Err(match failed.is_empty() {
                true => DialError::NoAddress,
                false => DialError::Failed(failed),
            });
        }
        tokio::select! {
            Some(ended) = attempts.join_next() => {
                match ended {
                    Ok((_, Ok(stream))) => return Ok(stream),
                    Ok((address, Err(error))) => failed.push((address, error)),
                    Err(panic) => tracing::error!(%panic, "a connection attempt ended by itself"),
                }
                next_start = Instant::now();
            }
            () = sleep_until(next_start), if may_start => {
                if let Some(address) = waiting.next() {
                    attempts.spawn(async move { (address, attempt(address, local).await) });
                }
                next_start = Instant::now() + CONNECTION_ATTEMPT_DELAY;
            }
            () = sleep_until(end) => {
                let is_open = |address: &&SocketAddr| !failed.iter().any(|it| it.0 == **address);
                let open: Vec<SocketAddr> = order.iter().filter(is_open).copied().collect();
                failed.extend(open.into_iter().map(|it| (it, no_answer(deadline))));
                return Err(DialError::Failed(failed));
            }
        }
    }
}

fn no_answer(after: Duration) -> io::Error {
    let text = format!("no answer within {:.1} s", after.as_secs_f32());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// Resolves `host` and connects to it, all within `deadline`.
///
/// # Errors
///
/// [`DialError`].
pub async fn dial_tcp(host: &str, port: u16, deadline: Duration) -> Result<TcpStream, DialError> {
    let start = Instant::now();
    let addresses =
        timeout(deadline, resolve(host, port))
            .await
            .map_err(|_| DialError::TimedOut {
                host: host.to_owned(),
                after: deadline,
            })??;
    happy_eyeballs(&addresses, None, deadline.saturating_sub(start.elapsed())).await
}

async fn attempt(address: SocketAddr, local: Option<SocketAddr>) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(local) = local {
        socket.bind(local)?;
    }
    unpace_loopback(&socket, address.ip());
    // As for the loop's own dials: a byte sent as urgent stays in its place, from the first one on.
    SockRef::from(&socket).set_out_of_band_inline(true)?;
    let stream = socket.connect(address).await?;
    refuse_itself(&stream)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Alternates the families, each in its own order, beginning with that of the first address.
fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses
        .iter()
        .copied()
        .partition(|address| address.is_ipv4() == first_is_v4);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = Vec::with_capacity(addresses.len());
    while order.len() < addresses.len() {
        order.extend(first.next());
        order.extend(second.next());
    }
    order
}

/// Addresses tried of one name. More than that is a mistake, or a trap.
const ADDRESSES_MAX: usize = 32;

/// RFC 8305 §8: recommended 250 ms.
const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn a_byte_sent_as_urgent_stays_in_its_place() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let dialled = dial_tcp("localhost", port, Duration::from_secs(20)).await;
        let mut stream = dialled.unwrap();
        let (mut application, _) = listener.accept().unwrap();
        application.write_all(b"before").unwrap();
        SockRef::from(&application).send_out_of_band(b"!").unwrap();
        application.write_all(b"behind").unwrap();
        drop(application);
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "before!behind");
    }

    /// From a port that the system may give away for any dial.
    #[tokio::test]
    async fn a_dial_to_nobody_does_not_meet_itself() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = nobody.local_addr().unwrap();
        drop(nobody);
        let error = attempt(address, Some(address)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn families_alternate() {
        let parse = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter().map(|it| it.parse().unwrap()).collect()
        };
        let cases: [(&[&str], &[&str]); 4] = [
            (&[], &[]),
            (
                &["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"],
                &["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"],
            ),
            (
                &["1.1.1.1:1", "[::1]:1", "[::2]:1"],
                &["1.1.1.1:1", "[::1]:1", "[::2]:1"],
            ),
            (&["1.1.1.1:1", "2.2.2.2:1"], &["1.1.1.1:1", "2.2.2.2:1"]),
        ];
        for (given, expected) in cases {
            assert_eq!(interleave(&parse(given)), parse(expected));
        }
    }
}
