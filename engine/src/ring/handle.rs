//! How the rest of the program talks to a loop, and hears from it.

use super::commands::Commands;
use super::link_io::LinkFault;
use crate::link::{Grant, Link};
use crate::tunnel::endpoint::Endpoint;
use crate::tunnel::key::ConnectionKey;
use crate::tunnel::mapping::MappingMismatch;
use crate::tunnel::proxy::{Counters, Proxy};
use adit_proto::ids::{Mode, ServiceId, TunnelId};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{oneshot, watch};

/// Name of a proxy on its loop, chosen by whoever adds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProxyId(pub u64);

/// What the loop has to know of a proxy that the core does not.
#[derive(Debug, Clone)]
pub struct ProxyOptions {
    /// Stands in for the host of an endpoint without one: a name, all of whose addresses are
    /// tried, or an address without brackets.
    pub default_host: String,
    /// Whether each local connection is logged at info, with its addresses, else at debug.
    pub announces_connections: bool,
    /// Whether a destination tries again where an application does not answer. Without, its
    /// connection is reset at once, unless only the queue of a Unix socket was full.
    pub dial_retries: Option<DialRetries>,
}

/// How often a destination tries to reach an application again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialRetries {
    /// Tries after the first; `None`: for as long as the connection is wanted.
    pub count: Option<u32>,
    /// Pause before each.
    pub delay: Duration,
}

impl Default for ProxyOptions {
    fn default() -> Self {
        Self {
            default_host: "127.0.0.1".to_owned(),
            announces_connections: false,
            dial_retries: None,
        }
    }
}

/// What a loop is asked to do.
pub(super) enum Command {
    AddProxy {
        id: ProxyId,
        proxy: Box<Proxy>,
        options: ProxyOptions,
        events: UnboundedSender<TunnelEvent>,
    },
    LinkUp {
        id: ProxyId,
        link: Box<Link>,
    },
    Listener {
        id: ProxyId,
        service: u32,
        fd: OwnedFd,
    },
    Local {
        id: ProxyId,
        service: u32,
        fd: OwnedFd,
    },
    Dialled {
        id: ProxyId,
        key: ConnectionKey,
        result: io::Result<OwnedFd>,
    },
    Drain {
        id: ProxyId,
        patience: Duration,
    },
    Status {
        id: ProxyId,
        reply: oneshot::Sender<Option<ProxyStatus>>,
    },
    Attach {
        admitted: Admitted,
        link: Box<Link>,
    },
    EndSide {
        tunnel: TunnelId,
        mode: Mode,
        newest: u64,
    },
    EndTunnel {
        tunnel: TunnelId,
    },
    Finish,
    Stop,
    /// Whatever a test wants to happen between two turns.
    #[cfg(test)]
    Run(Box<dyn FnOnce() + Send>),
}

/// What a proxy tells its owner. Bounded by what the proxy does: one event for each link, each
/// service of a session, and each connection that is being dialled by name.
#[derive(Debug)]
pub enum TunnelEvent {
    /// Make listening sockets for a service and hand them in by [`LoopHandle::add_listener`].
    Listen {
        /// Index of the service.
        service: u32,
        /// Its name, unless the tunnel has no services.
        name: Option<ServiceId>,
        /// Where.
        endpoint: Endpoint,
    },
    /// The listeners were closed: the services changed.
    Unlisten,
    /// Connect to a host by name and answer by [`LoopHandle::dialled`].
    Dial {
        /// Whose.
        key: ConnectionKey,
        /// Host name.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// The WebSocket is over. A new one may be handed in.
    LinkEnded(LinkEnd),
    /// The services of the tunnel do not fit the configuration; there is no way on.
    Mismatch(MappingMismatch),
    /// A mistake of ours, told in words: the proxy is gone from the loop, its connections are reset.
    Failed(String),
    /// Drained and closed: the proxy is gone from the loop, and had counted this.
    Over(Counters),
}

/// A grant on its way to a loop, and on it. Its end is reported when this is dropped, so that it
/// is reported whatever happens to the loop.
pub(super) struct Admitted {
    pub(super) grant: Grant,
    news: UnboundedSender<LinkNews>,
}

impl Admitted {
    /// The loop has the link.
    pub(super) fn attached(&self) {
        let _ = self.news.send(LinkNews::Attached(self.grant.clone()));
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        // Nobody listens any more when the program ends.
        let _ = self.news.send(LinkNews::Gone(self.grant.clone()));
    }
}

/// What becomes of a link at the relay.
#[derive(Debug, Clone)]
pub enum LinkNews {
    /// It is on its loop.
    Attached(Grant),
    /// It is over, or never came onto the loop.
    Gone(Grant),
}

/// Why a WebSocket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEnd {
    /// The service closed it with this code: the tunnel is over (specification 2.1).
    Closed(Option<u16>),
    /// It broke; reconnect.
    Lost(String),
    /// The service broke the protocol; reconnect after a while.
    Violation(String),
    /// Closed by this side.
    Drained,
}

impl LinkEnd {
    pub(super) fn of(fault: &LinkFault) -> Self {
        Self::Lost(fault.to_string())
    }
}

/// A proxy as it stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProxyStatus {
    /// What happened so far.
    pub counters: Counters,
    /// Connections open now.
    pub connections: usize,
    /// Bytes that wait for slow local sockets.
    pub queued_size: usize,
    /// Whether SERVICE_IDS came and connections are possible.
    pub is_running: bool,
    /// Last time from ping to pong.
    pub round_trip: Option<Duration>,
    /// Bytes of TLS records in part that were moved to the front of the receive buffer, of the
    /// present link.
    pub bytes_moved: u64,
}

/// A loop, from outside. Cheap to clone; every call returns at once.
#[derive(Clone)]
pub struct LoopHandle {
    pub(super) commands: Commands,
    pub(super) backend: &'static str,
    pub(super) mistakes: Arc<AtomicU64>,
    /// Its sender lives as long as the loop's thread, however that ends.
    pub(super) life: watch::Receiver<()>,
}

impl LoopHandle {
    /// `"io_uring"` or `"epoll"`.
    pub fn backend(&self) -> &'static str {
        self.backend
    }

    /// How many tunnels have ended by a panic of their code. Counts since the start of the loop, which went on
    /// each time.
    pub fn mistakes(&self) -> u64 {
        self.mistakes.load(Ordering::Relaxed)
    }

    /// Puts a proxy on the loop; it waits for a link.
    pub fn add_proxy(
        &self,
        id: ProxyId,
        proxy: Proxy,
        options: ProxyOptions,
        events: UnboundedSender<TunnelEvent>,
    ) {
        self.send(Command::AddProxy {
            id,
            proxy: Box::new(proxy),
            options,
            events,
        });
    }

    /// Hands over an established WebSocket.
    pub fn link_up(&self, id: ProxyId, link: Link) {
        self.send(Command::LinkUp {
            id,
            link: Box::new(link),
        });
    }

    /// Hands over a listening socket for a service of a source.
    pub fn add_listener(&self, id: ProxyId, service: u32, fd: OwnedFd) {
        self.send(Command::Listener { id, service, fd });
    }

    /// Hands over a connected socket to be carried as if accepted (standard input and output).
    pub fn add_local(&self, id: ProxyId, service: u32, fd: OwnedFd) {
        self.send(Command::Local { id, service, fd });
    }

    /// Answers [`TunnelEvent::Dial`].
    pub fn dialled(&self, id: ProxyId, key: ConnectionKey, result: io::Result<OwnedFd>) {
        self.send(Command::Dialled { id, key, result });
    }

    /// Lets open connections end for at most `patience`, then closes the tunnel's WebSocket.
    pub fn drain(&self, id: ProxyId, patience: Duration) {
        self.send(Command::Drain { id, patience });
    }

    /// How a proxy stands; `None` when it is not on the loop.
    pub async fn status(&self, id: ProxyId) -> Option<ProxyStatus> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Status { id, reply });
        answer.await.ok().flatten()
    }

    /// Hands over an admitted WebSocket of a tunnel; an earlier one of the same side is closed.
    /// `news` hears when it is there and when it is over, at most twice a link.
    pub fn attach(&self, grant: Grant, link: Link, news: UnboundedSender<LinkNews>) {
        self.send(Command::Attach {
            admitted: Admitted { grant, news },
            link: Box::new(link),
        });
    }

    /// Closes one side of a tunnel at the relay: its token was replaced. A link whose session is
    /// later than `newest` stays.
    pub fn end_side(&self, tunnel: TunnelId, mode: Mode, newest: u64) {
        self.send(Command::EndSide {
            tunnel,
            mode,
            newest,
        });
    }

    /// Closes both sides of a tunnel at the relay: it is over.
    pub fn end_tunnel(&self, tunnel: TunnelId) {
        self.send(Command::EndTunnel { tunnel });
    }

    /// Completes when the loop's thread is over: after [`stop`](Self::stop), or because it has
    /// panicked.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut life = self.life.clone();
        async move { while life.changed().await.is_ok() {} }
    }

    /// Ends the loop once all that it has sent is acknowledged where it has ended a connection, after 5 s at most: a
    /// socket that is closed over bytes which nobody reads any more loses what is on its way.
    pub fn finish(&self) {
        self.send(Command::Finish);
    }

    /// Ends the loop; its sockets are closed as they are.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    /// Has the loop do something between two turns.
    #[cfg(test)]
    pub(crate) fn run(&self, action: impl FnOnce() + Send + 'static) {
        self.send(Command::Run(Box::new(action)));
    }

    fn send(&self, command: Command) {
        self.commands.send(command);
    }
}
