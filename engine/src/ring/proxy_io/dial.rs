//! Local connections of a destination: dialled, tried again, given up.

use super::ProxyIo;
use super::announce::peer_text;
use crate::failpoint::failpoint;
use crate::ring::backend::Backend;
use crate::ring::handle::TunnelEvent;
use crate::ring::io::{DIAL_TIMEOUT, Io, Owner};
use crate::ring::socket::Address;
use crate::tunnel::endpoint::Endpoint;
use crate::tunnel::key::ConnectionKey;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Dials begun in one turn: a peer may ask for thousands in a few reads, and others of the loop get their turns between.
pub(super) const DIALS_PER_TURN: usize = 64;

/// Least pause before a further dial: one that fails at once would be tried for ever within a turn.
const REDIAL_DELAY_MIN: Duration = Duration::from_millis(10);

/// How a dial was tried again.
#[derive(Default)]
pub(super) struct Tries {
    count: u32,
    /// Up to when a full queue is no failure; `None` before it was met.
    full_until: Option<Instant>,
}

impl ProxyIo {
    /// The dialler outside of the loop is done.
    pub(in crate::ring) fn dialled_outside(
        &mut self,
        io: &mut Io,
        key: ConnectionKey,
        result: io::Result<OwnedFd>,
    ) {
        let owner = Owner::Local {
            tunnel: self.tunnel,
            key,
        };
        match result.and_then(|fd| io.insert(fd, owner)) {
            Ok(socket) => self.connected(io, key, socket, Some(false)),
            Err(error) => self.dial_failed(io, key, &error),
        }
    }

    /// A socket that is being connected has news, or is looked at. `reads_short`: as of its event; `None` where that is
    /// still to come, and tells of bytes by itself.
    pub(in crate::ring) fn dial_ready(
        &mut self,
        io: &mut Io,
        socket: u32,
        reads_short: Option<bool>,
        overdue: bool,
    ) {
        let fd = io.fd(socket);
        let result = match io.backend.connect_result(fd) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !overdue => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::TimedOut.into())
            }
            result => result,
        };
        let Some(Owner::Dialling { key, rest, .. }) = io.take_owner(socket, self.tunnel) else {
            return;
        };
        failpoint("proxy-dialled", &self.tunnel);
        self.dials.remove(&key);
        match result {
            Ok(()) => {
                io.set_owner(
                    socket,
                    Owner::Local {
                        tunnel: self.tunnel,
                        key,
                    },
                );
                // Its end may have come along with its beginning, in one edge.
                self.connected(io, key, socket, reads_short);
            }
            Err(error) => {
                io.close(socket);
                match io.dial(self.tunnel, key, rest, error) {
                    Ok(next) => drop(self.dials.insert(key, next)),
                    Err(error) => self.dial_failed(io, key, &error),
                }
            }
        }
    }

    pub(super) fn dial(&mut self, io: &mut Io, key: ConnectionKey, service: u32) {
        let addresses = match self.proxy.endpoint(service) {
            Some(Endpoint::Unix(path)) => vec![Address::Unix(path.clone())],
            Some(Endpoint::Tcp { host, port }) => {
                // A name is looked up for each connection: what it stands for may change, and a
                // look-up that failed once may succeed the next time.
                let host = host.as_ref().unwrap_or(&self.options.default_host);
                match literal_addresses(host, *port) {
                    Some(addresses) => addresses,
                    None => {
                        return self.tell(TunnelEvent::Dial {
                            key,
                            host: host.clone(),
                            port: *port,
                        });
                    }
                }
            }
            Some(Endpoint::Stdio) | None => Vec::new(),
        };
        let nowhere = io::ErrorKind::AddrNotAvailable.into();
        let is_near = addresses.first().is_some_and(Address::is_local);
        match io.dial(self.tunnel, key, addresses, nowhere) {
            Ok(socket) => {
                self.dials.insert(key, socket);
                if is_near {
                    self.near_dials.push(socket);
                }
            }
            Err(error) => self.dial_failed(io, key, &error),
        }
    }

    /// What was dialled on this machine in this turn is there already, as a rule: to wait for its event would cost the
    /// connection a turn.
    pub(super) fn look_at_dials(&mut self, io: &mut Io) {
        while let Some(socket) = self.near_dials.pop() {
            // It may have been given up meanwhile, and its slot be another's.
            if let Some(Owner::Dialling { tunnel, .. }) = io.owner_at(socket)
                && *tunnel == self.tunnel
            {
                self.dial_ready(io, socket, None, false);
            }
        }
    }

    /// Ends a dial that nobody waits for any more: its socket must not outlive the proxy, whose
    /// place on the loop another one takes. What is dialled outside of the loop, or waits to be
    /// tried again, ends when it reports.
    pub(super) fn cancel_dial(&mut self, io: &mut Io, key: ConnectionKey) {
        if let Some(socket) = self.dials.remove(&key) {
            io.close(socket);
            self.tries.remove(&key);
            self.proxy.dial_failed(key);
        }
    }

    pub(super) fn connected(
        &mut self,
        io: &mut Io,
        key: ConnectionKey,
        socket: u32,
        reads_short: Option<bool>,
    ) {
        if self.announces()
            && let Ok(peer) = io.peer(socket)
        {
            self.announce(format_args!("Connected to {}", peer_text(&peer)));
        }
        self.tries.remove(&key);
        let service = self.proxy.dialled_service(key);
        let endpoint = service.and_then(|service| self.proxy.endpoint(service));
        let is_unix = matches!(endpoint, Some(Endpoint::Unix(_)));
        if self.proxy.dialled(io.now, key, socket) {
            self.flush_one(io, key);
            if is_unix || reads_short.is_some() {
                self.proxy
                    .readable(key, is_unix || reads_short == Some(true));
            }
        } else {
            io.close(socket);
        }
    }

    /// Dials, or leaves that to a further turn.
    pub(super) fn dial_in_turn(&mut self, io: &mut Io, key: ConnectionKey, service: u32) {
        if self.dials_left == 0 || !self.later_dials.is_empty() {
            return self.later_dials.push_back(key);
        }
        self.dials_left -= 1;
        self.dial(io, key, service);
    }

    /// Dials what was left by earlier turns and is still wanted.
    pub(super) fn dial_later(&mut self, io: &mut Io) {
        while self.dials_left > 0
            && let Some(key) = self.later_dials.pop_front()
        {
            self.dials_left -= 1;
            self.dial_if_wanted(io, key);
        }
    }

    fn dial_if_wanted(&mut self, io: &mut Io, key: ConnectionKey) {
        match self.proxy.dialled_service(key) {
            Some(service) => self.dial(io, key, service),
            None => {
                self.tries.remove(&key);
                self.proxy.dial_failed(key);
            }
        }
    }

    pub(super) fn dial_failed(&mut self, io: &mut Io, key: ConnectionKey, error: &io::Error) {
        let dialled = self.proxy.dialled_service(key);
        if dialled.is_some() && self.may_try_again(io.now, key, error) {
            let retries = self.options.dial_retries;
            let delay = retries.map_or(REDIAL_DELAY_MIN, |it| it.delay.max(REDIAL_DELAY_MIN));
            return self.redials.push_back((io.now + delay, key));
        }
        // `None`: the peer has ended the connection meanwhile, and nobody misses it.
        if let Some(service) = dialled
            && let Some(left_out) = self.complaints.admit(io.now)
        {
            let endpoint = self.endpoint_text(service);
            let service = self.service_text(service);
            let left_out = (left_out > 0).then_some(left_out);
            tracing::warn!(service, endpoint, %error, left_out, "could not connect to the local service; its connection was reset");
        }
        self.tries.remove(&key);
        self.proxy.dial_failed(key);
    }

    /// Whether a dial that failed is made once more. One that found the queue of a Unix socket full is, for as long as the
    /// system itself tries where that of a TCP port is.
    fn may_try_again(&mut self, now: Instant, key: ConnectionKey, error: &io::Error) -> bool {
        let is_full = error.kind() == io::ErrorKind::WouldBlock;
        if !is_full && self.options.dial_retries.is_none() {
            return false;
        }
        let tries = self.tries.entry(key).or_default();
        if is_full && now < *tries.full_until.get_or_insert(now + DIAL_TIMEOUT) {
            return true;
        }
        let count = self.options.dial_retries.map_or(Some(0), |it| it.count);
        let may = count.is_none_or(|count| tries.count < count);
        tries.count += u32::from(may);
        may
    }

    /// Tries again what failed a while ago and is still wanted, as far as this turn may dial.
    pub(super) fn redial(&mut self, io: &mut Io) {
        while self.dials_left > 0
            && let Some(&(at, key)) = self.redials.front()
            && at <= io.now
        {
            self.redials.pop_front();
            self.dials_left -= 1;
            self.dial_if_wanted(io, key);
        }
    }
}

/// The addresses of a host that needs no look-up: a literal one, and this machine's own name
/// (RFC 6761 §6.3: always loopback).
fn literal_addresses(host: &str, port: u16) -> Option<Vec<Address>> {
    let of = |ip: IpAddr| Address::Ip(SocketAddr::new(ip, port));
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some(vec![of(ip)]);
    }
    host.eq_ignore_ascii_case("localhost").then(|| {
        vec![
            of(Ipv4Addr::LOCALHOST.into()),
            of(Ipv6Addr::LOCALHOST.into()),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::DialRetries;
    use crate::ring::tests::support::{Alone, starts};
    use crate::tunnel::limits::Limits;
    use adit_proto::ids::Mode;
    use socket2::{Domain, Socket, Type};
    use std::iter;
    use std::net::TcpListener;

    /// A peer that asks for a thousand connections in one read leaves turns to others.
    #[test]
    fn a_turn_dials_a_few_and_the_next_ones_the_rest() {
        const COUNT: u32 = 1_000;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let port = listener.local_addr().expect("an address").port();
        let mapping = format!("A=127.0.0.1:{port}");
        let mut alone = Alone::new(Mode::Destination, &mapping, Limits::default());
        let mut service = alone.link_up("A");
        service.says(&starts(COUNT));
        alone.events();
        listener.set_nonblocking(true).expect("a socket");
        let mut counts = Vec::new();
        loop {
            let again = alone.proxy.turn(&mut alone.io);
            counts.push(iter::from_fn(|| listener.accept().ok()).count());
            if !again {
                break;
            }
        }
        assert!(counts.iter().all(|count| *count <= DIALS_PER_TURN));
        assert_eq!(counts.iter().sum::<usize>(), COUNT as usize);
        assert!(
            alone.proxy.dials.is_empty(),
            "what is near is there at once"
        );
    }

    /// So it is where all of them failed, and the time has come to try them again.
    #[test]
    fn a_turn_tries_a_few_again_and_the_next_ones_the_rest() {
        const COUNT: u32 = 1_000;
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        bound
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .expect("bind");
        let address = bound.local_addr().expect("an address").as_socket();
        let mapping = format!("A={}", address.expect("an address"));
        let mut alone = Alone::new(Mode::Destination, &mapping, Limits::default());
        let delay = Duration::from_secs(1);
        alone.proxy.options.dial_retries = Some(DialRetries { count: None, delay });
        let mut service = alone.link_up("A");
        service.says(&starts(COUNT));
        alone.turns();
        assert_eq!(alone.proxy.redials.len(), COUNT as usize);
        bound.listen(2 * COUNT as i32).expect("listen");
        let listener = TcpListener::from(bound);
        listener.set_nonblocking(true).expect("a socket");
        alone.io.now += delay;
        let mut counts = Vec::new();
        while alone
            .proxy
            .next_timeout()
            .is_some_and(|at| at <= alone.io.now)
        {
            alone.proxy.turn(&mut alone.io);
            counts.push(iter::from_fn(|| listener.accept().ok()).count());
        }
        assert!(counts.iter().all(|count| *count <= DIALS_PER_TURN));
        assert_eq!(counts.iter().sum::<usize>(), COUNT as usize);
    }
}
