//! Listening sockets of a source: one task for each endpoint, so that one that is not to be had
//! yet holds back neither the others nor anything else.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adit_proto::ids::ServiceId;
use tokio::task::JoinSet;

use super::resolve;
use crate::ring::{self, Address};
use crate::tunnel::endpoint::Endpoint;

/// The endpoints that are being listened on, as many as the tunnel has services.
#[derive(Default)]
pub(super) struct Listening(JoinSet<Bound>);

/// How an endpoint is listened on.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    /// Where endpoints without a host are.
    pub(super) bind_host: String,
    /// Tries after the first; `None`: for ever.
    pub(super) retries: Option<u32>,
    /// Pause before each; [`DELAY_MIN`] at least.
    pub(super) delay: Duration,
    /// Sockets that are there already, and where new ones are kept.
    pub(super) ports: Option<Ports>,
}

/// Listening sockets that outlive their proxy. The next one gets the same, so that there is no moment at which
/// a connection is refused; what nobody accepts meanwhile waits in the queue of the system.
///
/// As many as the proxies that share it have endpoints. They close when the last clone goes, and the files of
/// Unix sockets are removed.
#[derive(Debug, Clone, Default)]
pub struct Ports(Arc<Kept>);

#[derive(Debug, Default)]
struct Kept(Mutex<BTreeMap<Endpoint, Vec<OwnedFd>>>);

impl Ports {
    /// The sockets of an endpoint, if it was listened on before.
    fn get(&self, endpoint: &Endpoint) -> Option<io::Result<Vec<OwnedFd>>> {
        let kept = self.0.locked();
        Some(copies(kept.get(endpoint)?))
    }

    /// Keeps what an endpoint is listened on by.
    fn keep(&self, endpoint: &Endpoint, sockets: &[OwnedFd]) -> io::Result<()> {
        let sockets = copies(sockets)?;
        self.0.locked().insert(endpoint.clone(), sockets);
        Ok(())
    }
}

impl Kept {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<Endpoint, Vec<OwnedFd>>> {
        // What is behind it is changed in single steps, so a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        for endpoint in self.locked().keys() {
            if let Endpoint::Unix(path) = endpoint {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Other descriptors of the same sockets.
fn copies(sockets: &[OwnedFd]) -> io::Result<Vec<OwnedFd>> {
    sockets.iter().map(OwnedFd::try_clone).collect()
}

/// An endpoint, and what came of it.
pub(super) struct Bound {
    pub(super) service: u32,
    pub(super) name: Option<ServiceId>,
    pub(super) endpoint: Endpoint,
    /// One socket for each address, the first of which names the endpoint.
    pub(super) sockets: io::Result<Vec<OwnedFd>>,
}

impl Listening {
    /// Begins to listen.
    pub(super) fn begin(
        &mut self,
        service: u32,
        name: Option<ServiceId>,
        endpoint: Endpoint,
        patience: Patience,
    ) {
        self.0.spawn(async move {
            Bound {
                service,
                name,
                sockets: bind_patiently(&endpoint, &patience).await,
                endpoint,
            }
        });
    }

    /// The next endpoint that is ready or given up; `None` when none is tried.
    pub(super) async fn next(&mut self) -> Option<Bound> {
        loop {
            match self.0.join_next().await? {
                Ok(bound) => return Some(bound),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            }
        }
    }

    /// Gives up all endpoints.
    pub(super) fn end(&mut self) {
        self.0 = JoinSet::new();
    }
}

async fn bind_patiently(endpoint: &Endpoint, patience: &Patience) -> io::Result<Vec<OwnedFd>> {
    let delay = patience.delay.max(DELAY_MIN);
    let mut tries = 0;
    loop {
        match bind_or_take(endpoint, patience).await {
            Err(error) if patience.retries.is_none_or(|max| tries < max) => {
                tracing::warn!(%endpoint, %error, "cannot listen; trying again in {delay:?}");
            }
            result => return result,
        }
        tries += 1;
        tokio::time::sleep(delay).await;
    }
}

async fn bind_or_take(endpoint: &Endpoint, patience: &Patience) -> io::Result<Vec<OwnedFd>> {
    let Some(ports) = &patience.ports else {
        return bind(endpoint, &patience.bind_host).await;
    };
    if let Some(sockets) = ports.get(endpoint) {
        return sockets;
    }
    let sockets = bind(endpoint, &patience.bind_host).await?;
    ports.keep(endpoint, &sockets)?;
    Ok(sockets)
}

/// Listens on every address of the endpoint that this machine has. Where the system picks the
/// port, it is the same for all.
async fn bind(endpoint: &Endpoint, bind_host: &str) -> io::Result<Vec<OwnedFd>> {
    let (host, mut port) = match endpoint {
        Endpoint::Unix(path) => return Ok(vec![ring::listen(&Address::Unix(path.clone()))?]),
        // Carried as one connection by whoever started us, not listened for.
        Endpoint::Stdio => return Ok(Vec::new()),
        Endpoint::Tcp { host, port } => (host.as_deref().unwrap_or(bind_host), *port),
    };
    let addresses = resolve(host, port).await.map_err(io::Error::other)?;
    let (mut sockets, mut failure) = (Vec::new(), None);
    for mut address in addresses {
        // Only that: an address of a link holds which link it is.
        address.set_port(port);
        match ring::listen(&Address::Ip(address)) {
            Ok(socket) => {
                if let (0, Ok(Address::Ip(bound))) = (port, ring::local_address(&socket)) {
                    port = bound.port();
                }
                sockets.push(socket);
            }
            // A name may stand for an address that this machine lacks (`::1`).
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => failure = Some(error),
            // A port picked for one address may be taken on another.
            Err(error) if !sockets.is_empty() => {
                tracing::debug!(%address, %error, "cannot listen here too")
            }
            Err(error) => return Err(error),
        }
    }
    match failure {
        Some(error) if sockets.is_empty() => Err(error),
        _ => Ok(sockets),
    }
}

/// A setting of 0 shall not take a core, nor fill a log.
const DELAY_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(port: u16) -> Endpoint {
        Endpoint::Tcp { host: None, port }
    }

    #[tokio::test]
    async fn an_endpoint_that_is_taken_holds_back_no_other() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let patience = |retries, delay| Patience {
            bind_host: "127.0.0.1".to_owned(),
            retries,
            delay,
            ports: None,
        };
        let hour = Duration::from_secs(3600);
        let mut listening = Listening::default();
        listening.begin(0, None, tcp(port), patience(None, hour));
        listening.begin(1, None, tcp(0), patience(None, hour));
        let bound = listening.next().await.unwrap();
        assert_eq!((bound.service, bound.sockets.unwrap().len()), (1, 1));
        // One that is not tried for ever is given up.
        listening.begin(
            2,
            None,
            tcp(port),
            patience(Some(2), Duration::from_millis(1)),
        );
        let bound = listening.next().await.unwrap();
        assert_eq!(bound.service, 2);
        assert_eq!(bound.sockets.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        listening.end();
        assert!(listening.next().await.is_none());
    }

    /// An address of one link alone is one only together with that link.
    #[tokio::test]
    async fn an_address_of_a_link_is_listened_on() {
        let interfaces = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        let mut lines = interfaces.lines().map(|line| line.split_whitespace());
        let Some(fields) = lines.find(|fields| fields.clone().nth(3) == Some("20")) else {
            eprintln!("not tested: no interface here has such an address");
            return;
        };
        let fields: Vec<&str> = fields.collect();
        let digits = u128::from_str_radix(fields[0], 16).unwrap();
        let host = format!("{}%{}", std::net::Ipv6Addr::from(digits), fields[5]);
        bind(&tcp(0), &host).await.unwrap();
    }

    #[tokio::test]
    async fn without_a_pause_there_is_a_short_one() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let patience = Patience {
            bind_host: "127.0.0.1".to_owned(),
            retries: Some(5),
            delay: Duration::ZERO,
            ports: None,
        };
        let begun = std::time::Instant::now();
        bind_patiently(&tcp(port), &patience).await.unwrap_err();
        let waited = begun.elapsed();
        assert!(waited >= Duration::from_millis(50), "{waited:?}");
    }

    #[tokio::test]
    async fn a_port_that_is_kept_stays_open_between_two_proxies() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let ports = Ports::default();
        let patience = Patience {
            bind_host: "127.0.0.1".to_owned(),
            retries: Some(0),
            delay: Duration::ZERO,
            ports: Some(ports.clone()),
        };
        let listen = async |endpoint: Endpoint| {
            let mut listening = Listening::default();
            listening.begin(0, None, endpoint, patience.clone());
            listening.next().await.unwrap().sockets.unwrap()
        };
        let first = listen(tcp(0)).await;
        let Ok(Address::Ip(address)) = ring::local_address(&first[0]) else {
            panic!("a TCP port");
        };
        drop(listen(Endpoint::Unix(path.clone())).await);
        drop(first);
        let mut client = std::net::TcpStream::connect(address).unwrap();
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        // The next one finds who came in between.
        let second = listen(tcp(0)).await;
        let listener = std::net::TcpListener::from(second.into_iter().next().unwrap());
        let (mut accepted, _) = listener.accept().unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);
        io::Write::write_all(&mut accepted, b"hello").unwrap();
        let mut bytes = [0; 5];
        io::Read::read_exact(&mut client, &mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
        drop((listener, patience, ports));
        assert!(std::net::TcpStream::connect(address).is_err());
        assert!(!path.exists());
    }
}
