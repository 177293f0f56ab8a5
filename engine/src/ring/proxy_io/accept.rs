//! Local connections of a source: listeners, and what comes to them.

use super::ProxyIo;
use super::announce::port_text;
use crate::failpoint::failpoint;
use crate::ring::backend::Backend;
use crate::ring::handle::TunnelEvent;
use crate::ring::io::{Io, Owner};
use crate::ring::link_io::LinkIo;
use crate::ring::socket;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Connections accepted from one listener in one turn.
const ACCEPTS_PER_TURN: usize = 64;

/// How long applications that connect while the tunnel is down are kept waiting for it; later
/// ones are reset at once, so that they do not hang.
pub(super) const DOWN_PATIENCE: Duration = Duration::from_secs(10);

/// Pause of a listener after the system refused a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Listener {
    pub(super) socket: u32,
    pub(super) service: u32,
    /// Connections may wait; cleared when the system says that none does.
    pub(super) is_ready: bool,
    /// Of its connections, see [`socket::may_read_short`].
    reads_short: bool,
}

impl ProxyIo {
    pub(in crate::ring) fn listener_ready(&mut self, service: u32) {
        for listener in self
            .listeners
            .iter_mut()
            .filter(|listener| listener.service == service)
        {
            listener.is_ready = true;
        }
    }

    /// A listening socket for a service, made elsewhere.
    pub(in crate::ring) fn add_listener(&mut self, io: &mut Io, service: u32, fd: OwnedFd) {
        let owner = Owner::Listener {
            tunnel: self.tunnel,
            service,
        };
        let reads_short = socket::may_read_short(&fd);
        match io.insert(fd, owner) {
            Ok(socket) => self.listeners.push(Listener {
                socket,
                service,
                is_ready: true,
                reads_short,
            }),
            Err(error) => tracing::error!(%error, "a listener cannot be watched"),
        }
    }

    /// A connected socket to be carried as if it had been accepted for `service`.
    pub(in crate::ring) fn add_local(&mut self, io: &mut Io, service: u32, fd: OwnedFd) {
        let reads_short = socket::may_read_short(&fd);
        self.take_accepted(io, service, fd, reads_short);
    }

    /// Accepts what waits at listeners, or leaves it there while the tunnel is down.
    pub(super) fn accept(&mut self, io: &mut Io) {
        if self.accept_at.is_some_and(|at| at > io.now) {
            return;
        }
        self.accept_at = None;
        // Each would add to what waits for the tunnel already, or be cut in a moment.
        if self.proxy.is_outbox_full() || self.link.as_ref().is_some_and(LinkIo::is_deaf) {
            return;
        }
        let is_patient = !self.proxy.is_running() && io.now < self.down_since + DOWN_PATIENCE;
        if is_patient {
            return;
        }
        for index in 0..self.listeners.len() {
            let Listener {
                is_ready, service, ..
            } = self.listeners[index];
            if is_ready && !self.proxy.keeps_waiting(service) {
                self.accept_from(io, index);
            }
        }
    }

    /// Listeners whose applications wait for another's connection to end.
    pub(super) fn kept_waiting(&self) -> usize {
        let waiting = self.listeners.iter().filter(|listener| listener.is_ready);
        waiting
            .filter(|listener| self.proxy.keeps_waiting(listener.service))
            .count()
    }

    pub(super) fn accept_from(&mut self, io: &mut Io, index: usize) {
        let Listener {
            socket,
            service,
            reads_short,
            ..
        } = self.listeners[index];
        let listener = io.fd(socket);
        for _ in 0..ACCEPTS_PER_TURN {
            match io.backend.accept(listener) {
                Ok(fd) => self.take_accepted(io, service, fd, reads_short),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.listeners[index].is_ready = false;
                    return;
                }
                Err(error) => {
                    // The connection stays in the queue without a new edge: try again.
                    if let Some(left_out) = self.refusals.admit(io.now) {
                        let left_out = (left_out > 0).then_some(left_out);
                        tracing::warn!(%error, left_out, "cannot accept connections; trying again every {ACCEPT_PAUSE:?}");
                    }
                    self.accept_at = Some(io.now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        // More may wait; others get their turn first.
        self.accept_at = Some(io.now);
    }

    fn take_accepted(&mut self, io: &mut Io, service: u32, fd: OwnedFd, reads_short: bool) {
        if let Some(reason) = self.proxy.unwelcome(service) {
            let endpoint = self.endpoint_text(service);
            let service = self.service_text(service);
            tracing::warn!(service, endpoint, %reason, "refused a local connection");
            return socket::reset(fd);
        }
        if self.announces()
            && let (Ok(local), Ok(peer)) = (socket::local_address(&fd), socket::peer_address(&fd))
        {
            self.announce(format_args!(
                "Accepted tcp connection on port {} from {peer}",
                port_text(&local)
            ));
        }
        // The key is not known before the socket has its slot.
        let owner = Owner::Passing {
            tunnel: self.tunnel,
        };
        let Ok(socket) = io.insert(fd, owner) else {
            return;
        };
        failpoint("proxy-accepted", &self.tunnel);
        match self.proxy.accepted(io.now, service, socket) {
            Some(key) => {
                io.set_owner(
                    socket,
                    Owner::Local {
                        tunnel: self.tunnel,
                        key,
                    },
                );
                // What it sent before it was watched made no edge of its own.
                self.proxy.readable(key, reads_short);
            }
            None => io.reset(socket),
        }
    }

    pub(super) fn close_listeners(&mut self, io: &mut Io) {
        for listener in self.listeners.drain(..) {
            io.close(listener.socket);
        }
    }

    pub(super) fn listen(&mut self, service: u32) {
        let Some(endpoint) = self.proxy.endpoint(service).cloned() else {
            return;
        };
        let name = self.proxy.service_id(service).cloned();
        self.tell(TunnelEvent::Listen {
            service,
            name,
            endpoint,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::tests::log::Log;
    use crate::ring::tests::support::Alone;
    use crate::tunnel::limits::Limits;
    use adit_proto::ids::Mode;
    use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    const GRACE: Duration = Duration::from_secs(1);

    fn source() -> Alone {
        let limits = Limits {
            half_close_grace: GRACE,
            ..Limits::default()
        };
        Alone::new(Mode::Source, "", limits)
    }

    /// The system refuses descriptors, and the tunnel has been down for long.
    #[test]
    fn a_pause_of_accepting_is_one_while_the_tunnel_is_down() {
        let Alone {
            mut io, mut proxy, ..
        } = source();
        // Nothing can be accepted from it.
        let (no_listener, _other) = UnixStream::pair().expect("a pair");
        proxy.add_listener(&mut io, 0, no_listener.into());
        assert_eq!(proxy.next_timeout(), Some(io.now + DOWN_PATIENCE));
        io.now += 2 * DOWN_PATIENCE;
        proxy.turn(&mut io);
        assert_eq!(proxy.next_timeout(), Some(io.now + ACCEPT_PAUSE));
    }

    /// As while there are no descriptors.
    #[test]
    fn connections_that_cannot_be_accepted_are_a_line_each_ten_seconds() {
        let Alone {
            mut io, mut proxy, ..
        } = source();
        let (no_listener, _other) = UnixStream::pair().expect("a pair");
        proxy.add_listener(&mut io, 0, no_listener.into());
        io.now += 2 * DOWN_PATIENCE;
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            for _ in 0..101 {
                proxy.turn(&mut io);
                io.now += ACCEPT_PAUSE;
            }
        });
        let lines = log.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].contains("left_out=99 "), "{lines:?}");
    }

    /// The end of many grace times fills the queue of control messages, so nobody is accepted; then they leave at once,
    /// and no event tells of that.
    #[test]
    fn accepting_goes_on_once_control_messages_have_left() {
        const COUNT: usize = 600;
        let mut alone = source();
        // The longest name: each reset takes some 140 bytes of the queue's 64 KiB.
        let _service = alone.link_up(&"n".repeat(128));
        alone.turns();
        let mut half_closed = Vec::new();
        for _ in 0..COUNT {
            let (near, far) = UnixStream::pair().expect("a pair");
            near.set_nonblocking(true).expect("non-blocking");
            far.shutdown(Shutdown::Write).expect("shut down");
            alone.proxy.add_local(&mut alone.io, 0, near.into());
            alone.turns();
            half_closed.push(far);
        }
        assert_eq!(alone.proxy.status().connections, COUNT);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("non-blocking");
        alone.proxy.add_listener(&mut alone.io, 0, listener.into());
        alone.turns();
        let _last = TcpStream::connect(address).expect("connect");
        alone.io.now += 2 * GRACE;
        alone.turns();
        assert_eq!(alone.proxy.status().connections, 1);
    }
}
