//! What parent and part say to each other, a line of JSON each.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::board::Side;
use super::tickets::Ticket;

/// What a part is to be. No `Debug`: it holds tokens and a key.
#[derive(Serialize, Deserialize)]
pub(super) enum Role {
    Service(ServiceRole),
    Proxies(ProxiesRole),
    Server(ServerRole),
}

/// The mock service.
#[derive(Serialize, Deserialize)]
pub(super) struct ServiceRole {
    pub(super) listen: SocketAddr,
    /// PEM.
    pub(super) certificate: String,
    /// PEM.
    pub(super) key: String,
    pub(super) tickets: Vec<Ticket>,
    pub(super) tuning: Tuning,
    /// Loops of the relay; `None`: one a core, as the product.
    pub(super) loops: Option<NonZeroUsize>,
    /// Links that end are reset rather than closed.
    pub(super) resets_links: bool,
}

/// Several proxies of one side, on one loop.
#[derive(Serialize, Deserialize)]
pub(super) struct ProxiesRole {
    pub(super) side: Side,
    pub(super) service: SocketAddr,
    /// PEM.
    pub(super) authority: String,
    pub(super) tunnels: Vec<ProxyTunnel>,
    pub(super) tuning: Tuning,
    /// What a destination dials.
    pub(super) target: Option<SocketAddr>,
}

/// One tunnel of a proxy.
#[derive(Serialize, Deserialize)]
pub(super) struct ProxyTunnel {
    /// Its place among all tunnels of the system.
    pub(super) index: usize,
    pub(super) access_token: String,
    pub(super) client_token: String,
}

/// The verifying server.
#[derive(Serialize, Deserialize)]
pub(super) struct ServerRole {
    pub(super) listen: SocketAddr,
    pub(super) threads: usize,
    pub(super) congestion: Option<String>,
}

/// What is handed on to every part of the product, by the product's own words.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Tuning {
    /// `auto`, `uring` or `epoll`.
    pub(super) io: String,
    pub(super) in_place_records: bool,
}

/// What a part is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// To the service: end every link, and take in clients again at once.
    CutLinks,
}

/// What a part tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// It has begun. The address of a listener, where it has one, and the kernel interface in use.
    Ready {
        address: Option<SocketAddr>,
        backend: String,
    },
    /// A link came about.
    Connected { tunnel: usize },
    /// The service has told its services over the link: the tunnel may be used from this side.
    Running { tunnel: usize },
    /// A link is lost, or did not come about; it is dialled again.
    Retrying { tunnel: usize, reason: String },
    /// A source listens.
    Listening { tunnel: usize, address: SocketAddr },
    /// A proxy has ended by itself.
    Over { tunnel: usize, reason: String },
    /// The order was carried out.
    Done(Order),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_lines() {
        for report in [
            Report::Ready {
                address: Some(([127, 0, 0, 1], 1).into()),
                backend: "epoll".to_owned(),
            },
            Report::Connected { tunnel: 7 },
            Report::Retrying {
                tunnel: 7,
                reason: "two\nlines".to_owned(),
            },
            Report::Done(Order::CutLinks),
        ] {
            let line = serde_json::to_string(&report).unwrap();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(serde_json::from_str::<Report>(&line).unwrap(), report);
        }
    }
}
