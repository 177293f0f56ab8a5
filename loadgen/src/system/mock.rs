//! The mock service: the engine's relay, and tokens in memory instead of a control plane.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adit_engine::link::{Admission, Denial, Grant, Relay, RelayControl as _, ServeConfig};
use adit_engine::tls::server_config_from;
use adit_proto::handshake::ServerRequest;
use adit_proto::{ClientToken, Mode, ServiceId, TunnelId};
use anyhow::{Context as _, Result, bail};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;

use super::part::tell;
use super::role::{Order, Report, ServiceRole};
use super::tickets::Ticket;

/// The one service of every tunnel of a system.
pub(crate) const SERVICE: &str = "LOAD";

/// Connections that may wait to be accepted: a storm of all tunnels, as far as the kernel allows.
const BACKLOG: i32 = 4_096;

pub(super) async fn run(role: ServiceRole, mut orders: UnboundedReceiver<Order>) -> Result<()> {
    let listener = listen(role.listen, role.resets_links)
        .with_context(|| format!("cannot listen on {}", role.listen))?;
    let address = listener.local_addr()?;
    let io = role.tuning.io()?;
    let config = ServeConfig {
        tls: Some(tls(&role)?),
        records: role.tuning.records(),
        // All clients have one address here, and those of a storm fail by the hundred.
        failures: None,
        ..ServeConfig::default()
    };
    let desk = Arc::new(Desk::new(&role.tickets)?);
    loop {
        let relay = Relay::start(
            TcpListener::from_std(listener.try_clone()?)?,
            config.clone(),
            Arc::clone(&desk),
            io,
            role.loops,
        )?;
        tell(&Report::Ready {
            address: Some(address),
            backend: relay.backend().to_owned(),
        });
        tokio::select! {
            part = relay.failed() => bail!("{part} of the relay has ended"),
            order = orders.recv() => {
                // The listener itself stays: who comes back waits in its queue.
                relay.stop().await;
                if let Some(order) = order {
                    tell(&Report::Done(order));
                }
            }
        }
    }
}

/// A listener whose connections end by a reset if asked for: Linux hands `SO_LINGER` on to them.
fn listen(address: SocketAddr, resets: bool) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A service that is started again takes the port of the last one.
    socket.set_reuse_address(true)?;
    if resets {
        socket.set_linger(Some(Duration::ZERO))?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn tls(role: &ServiceRole) -> Result<Arc<rustls::ServerConfig>> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(role.certificate.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(role.key.as_bytes())?;
    Ok(server_config_from(chain?, key)?)
}

/// Knows the tokens.
struct Desk {
    sides: HashMap<String, (TunnelId, Mode)>,
    services: Arc<[ServiceId]>,
    sessions: AtomicU64,
    /// By access token, the client token that it was used with first. At most one for each side.
    bound: Mutex<HashMap<String, Option<ClientToken>>>,
}

impl Desk {
    fn new(tickets: &[Ticket]) -> Result<Self> {
        let mut sides = HashMap::with_capacity(2 * tickets.len());
        for ticket in tickets {
            let tunnel = TunnelId::try_from(&*ticket.tunnel)?;
            sides.insert(ticket.source_token.clone(), (tunnel.clone(), Mode::Source));
            sides.insert(
                ticket.destination_token.clone(),
                (tunnel, Mode::Destination),
            );
        }
        Ok(Self {
            sides,
            services: [ServiceId::try_from(SERVICE)?].into(),
            sessions: AtomicU64::new(1),
            bound: Mutex::default(),
        })
    }

    fn decide(&self, request: &ServerRequest) -> Result<Grant, &'static str> {
        let token = request.access_token.expose();
        let (tunnel, mode) = self.sides.get(token).ok_or("no such access token")?;
        if *mode != request.mode {
            return Err("the access token is for the other side");
        }
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        match bound.get(token) {
            None => {
                bound.insert(token.to_owned(), request.client_token.clone());
            }
            Some(Some(first)) if request.client_token.as_ref() == Some(first) => {}
            Some(_) => return Err("the access token was used before, without this client token"),
        }
        Ok(Grant {
            tunnel: tunnel.clone(),
            mode: *mode,
            services: Arc::clone(&self.services),
            session: self.sessions.fetch_add(1, Ordering::Relaxed),
            bytes_per_second: None,
            connections_per_second: None,
        })
    }
}

impl Admission for Desk {
    async fn admit(
        &self,
        request: &ServerRequest,
        _: SocketAddr,
        _: &str,
    ) -> Result<Grant, Denial> {
        self.decide(request).map_err(|text| Denial {
            status: 400,
            text: text.to_owned(),
        })
    }

    fn connected(&self, _: &Grant) {}

    fn disconnected(&self, _: &Grant) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use adit_proto::{AccessToken, Subprotocol};

    fn request(mode: Mode, token: &str, client_token: Option<&str>) -> ServerRequest {
        ServerRequest {
            mode,
            access_token: AccessToken::new(token.to_owned()).unwrap(),
            client_token: client_token.map(|it| ClientToken::strict(it.to_owned()).unwrap()),
            offered: vec![Subprotocol::V3],
            key: String::new(),
            user_agent: None,
        }
    }

    #[test]
    fn a_token_opens_its_side_and_is_bound_to_its_first_client() {
        let tickets = [Ticket::new(0).unwrap(), Ticket::new(1).unwrap()];
        let desk = Desk::new(&tickets).unwrap();
        let token = &tickets[1].source_token;
        let clients = [
            &tickets[1].source_client_token,
            &tickets[0].source_client_token,
        ];
        let ask = |mode, client: Option<&String>| {
            desk.decide(&request(mode, token, client.map(String::as_str)))
        };
        let wrong_side = ask(Mode::Destination, Some(clients[0]));
        assert_eq!(wrong_side, Err("the access token is for the other side"));
        let first = ask(Mode::Source, Some(clients[0])).unwrap();
        assert_eq!(
            (first.tunnel.as_str(), first.mode),
            ("load-1", Mode::Source)
        );
        let again = ask(Mode::Source, Some(clients[0])).unwrap();
        assert!(again.session > first.session);
        ask(Mode::Source, Some(clients[1])).unwrap_err();
        ask(Mode::Source, None).unwrap_err();
        desk.decide(&request(Mode::Source, "unknown", None))
            .unwrap_err();
    }
}
