//! Local connections of a source: listeners, and what comes to them.

use super::ProxyIo;
use super::announce::port_text;
use crate::failpoint::failpoint;
use crate::ring::backend::Backend;
use crate::ring::handle::TunnelEvent;
use crate::ring::io::{Io, Owner};
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
        match io.insert(fd, owner) {
            Ok(socket) => self.listeners.push(Listener {
                socket,
                service,
                is_ready: true,
            }),
            Err(error) => tracing::error!(%error, "a listener cannot be watched"),
        }
    }

    /// A connected socket to be carried as if it had been accepted for `service`.
    pub(in crate::ring) fn add_local(&mut self, io: &mut Io, service: u32, fd: OwnedFd) {
        self.take_accepted(io, service, fd);
    }

    /// Accepts what waits at listeners, or leaves it there while the tunnel is down.
    pub(super) fn accept(&mut self, io: &mut Io) {
        if self.accept_at.is_some_and(|at| at > io.now) {
            return;
        }
        self.accept_at = None;
        // Each would add to what waits for the tunnel already.
        if self.proxy.is_outbox_full() {
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
        let (socket, service) = (self.listeners[index].socket, self.listeners[index].service);
        let listener = io.fd(socket);
        for _ in 0..ACCEPTS_PER_TURN {
            match io.backend.accept(listener) {
                Ok(fd) => self.take_accepted(io, service, fd),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.listeners[index].is_ready = false;
                    return;
                }
                Err(error) => {
                    // The connection stays in the queue without a new edge: try again.
                    tracing::warn!(%error, "cannot accept connections; trying again every {ACCEPT_PAUSE:?}");
                    self.accept_at = Some(io.now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        // More may wait; others get their turn first.
        self.accept_at = Some(io.now);
    }

    pub(super) fn take_accepted(&mut self, io: &mut Io, service: u32, fd: OwnedFd) {
        if let Some(reason) = self.proxy.unwelcome(service) {
            let endpoint = self.endpoint_text(service);
            let service = self.service_text(service);
            tracing::warn!(service, endpoint, %reason, "refused a local connection");
            return socket::reset(fd);
        }
        if let (Ok(local), Ok(peer)) = (socket::local_address(&fd), socket::peer_address(&fd)) {
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
                self.proxy.readable(key, false);
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
