//! Listening sockets of a source: one task for each endpoint, so that one that is not to be had
//! yet holds back neither the others nor anything else.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
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
    /// Pause before each.
    pub(super) delay: Duration,
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
    let mut tries = 0;
    loop {
        match bind(endpoint, &patience.bind_host).await {
            Err(error) if patience.retries.is_none_or(|max| tries < max) => {
                tracing::warn!(%endpoint, %error, "cannot listen; trying again");
            }
            result => return result,
        }
        tries += 1;
        tokio::time::sleep(patience.delay).await;
    }
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
    for address in addresses {
        match ring::listen(&Address::Ip(SocketAddr::new(address.ip(), port))) {
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
}
