//! Keeps one proxy connected: dials, hands links to the loop, makes its listeners and the
//! connections it needs by name, and decides what an end means.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use adit_proto::ids::ServiceId;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::listening::{Bound, Listening, Patience, Ports};
use super::{Backoff, BackoffPolicy, Dialer, LinkError, Lookups};
use crate::ring::{self, Address, LinkEnd, LoopHandle, ProxyId, ProxyOptions, TunnelEvent};
use crate::tunnel::endpoint::Endpoint;
use crate::tunnel::mapping::MappingMismatch;
use crate::tunnel::proxy::{Counters, Proxy};

/// Time for connecting to a local service by name, look-up included.
const LOCAL_DIAL_DEADLINE: Duration = Duration::from_secs(10);

/// What a keeper is told once.
#[derive(Debug, Clone)]
pub struct KeeperSettings {
    /// When to dial again. Its number of retries is for dialling: a link that was lost is always
    /// dialled once more (specification 10.1), unless `reconnect` forbids it.
    pub backoff: BackoffPolicy,
    /// Whether a link that broke is replaced; else its loss ends the proxy.
    pub reconnect: bool,
    /// Where a source listens for endpoints without a host.
    pub bind_host: String,
    /// Retries of a failed listen, and the pause between them; `None`: for ever.
    pub listen_retries: Option<u32>,
    /// Pause between tries to listen.
    pub listen_delay: Duration,
    /// How long open connections may go on once the end is asked for.
    pub drain_timeout: Duration,
    /// What the loop has to know.
    pub options: ProxyOptions,
}

/// What happened; for the log and for whoever waits.
pub enum Notice<'a> {
    /// The WebSocket is up; the service's name for the session.
    Connected {
        /// Empty where the service gave none.
        channel_id: &'a str,
    },
    /// A listener is ready.
    Listening {
        /// The service, unless the tunnel has none.
        service: Option<&'a ServiceId>,
        /// Where.
        address: &'a Address,
        /// The port was picked by the system.
        is_assigned: bool,
    },
    /// The link is lost, or did not come about; it is dialled again.
    Retrying {
        /// Why.
        reason: &'a dyn std::fmt::Display,
        /// What a person can do, where known.
        hint: Option<&'a str>,
        /// When.
        delay: Duration,
    },
}

/// Why a proxy ended.
#[derive(Debug)]
pub enum Outcome {
    /// The service closed the tunnel, with this code.
    Closed(Option<u16>),
    /// Ended on request, in an orderly way.
    Drained,
    /// There is no link, and another try would end the same way
    /// (`LinkError::is_retryable`): refused by the service, or an answer that cannot be used.
    Refused(LinkError),
    /// The retries are used up.
    Unreachable(LinkError),
    /// The link broke and is not to be replaced.
    Broken(String),
    /// A mistake of ours, told in words, has ended it; nothing else on its loop was touched.
    Failed(String),
    /// The services of the tunnel do not fit the configuration.
    Mismatch(MappingMismatch),
    /// A listener could not be made.
    CannotListen {
        /// Where.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
}

/// Keeps one proxy connected.
pub struct Keeper<N> {
    dialer: Dialer,
    event_loop: LoopHandle,
    id: ProxyId,
    settings: KeeperSettings,
    notify: N,
    backoff: Backoff,
    /// Unix socket files that listeners left behind; removed at the end.
    socket_files: Vec<PathBuf>,
    listening: Listening,
    /// Sockets that outlive this proxy, if any do.
    ports: Option<Ports>,
    lookups: Lookups,
    /// The one connection of a source on standard input and output, until it is handed over.
    stdio: Option<OwnedFd>,
}

impl<N: FnMut(Notice<'_>)> Keeper<N> {
    /// A keeper of the proxy that will be `id` on `event_loop`.
    pub fn new(
        dialer: Dialer,
        event_loop: LoopHandle,
        id: ProxyId,
        settings: KeeperSettings,
        notify: N,
    ) -> Self {
        let backoff = Backoff::new(settings.backoff);
        Self {
            dialer,
            event_loop,
            id,
            settings,
            notify,
            backoff,
            socket_files: Vec::new(),
            listening: Listening::default(),
            ports: None,
            lookups: Lookups::default(),
            stdio: None,
        }
    }

    /// Has it listen on the sockets of `ports` where there are some, and leave there those that it makes.
    #[must_use]
    pub fn with_ports(mut self, ports: Ports) -> Self {
        self.ports = Some(ports);
        self
    }

    /// Has it look names up together with other proxies.
    #[must_use]
    pub fn with_lookups(mut self, lookups: Lookups) -> Self {
        self.lookups = lookups;
        self
    }

    /// Gives it the socket that stands for [`Endpoint::Stdio`]: non-blocking, connected.
    #[must_use]
    pub fn with_stdio(mut self, socket: OwnedFd) -> Self {
        self.stdio = Some(socket);
        self
    }

    /// Runs `proxy` until it is over. When `stop` completes, open connections may go on for the
    /// drain timeout, then the WebSocket is closed with 1000.
    pub async fn run(self, proxy: Proxy, stop: impl Future<Output = ()>) -> Outcome {
        self.run_counting(proxy, stop).await.0
    }

    /// As [`run`](Self::run); also says what the proxy has counted, to its very end if it came to one in time.
    pub async fn run_counting(
        mut self,
        proxy: Proxy,
        stop: impl Future<Output = ()>,
    ) -> (Outcome, Counters) {
        let (sender, mut events) = unbounded_channel();
        self.event_loop
            .add_proxy(self.id, proxy, self.settings.options.clone(), sender);
        let outcome = tokio::select! {
            outcome = self.keep(&mut events) => outcome,
            () = stop => Outcome::Drained,
        };
        let status = self.event_loop.status(self.id).await;
        // Whatever the end was: what came before it is still delivered, and a loop that serves
        // others as well is left without a trace.
        let at_its_end = self.drain(&mut events).await;
        self.remove_socket_files();
        let counters = at_its_end.unwrap_or(status.unwrap_or_default().counters);
        (outcome, counters)
    }

    /// Runs `proxy` until `stop` completes, though it may be over before; `over` hears of that. Until `stop`
    /// its listeners are then served as while any link is lost: who connects in the first ten seconds waits,
    /// for a proxy that has the same [`Ports`], and who comes later is reset at once.
    ///
    /// `stop` says for how long open connections may go on.
    pub async fn hold(
        mut self,
        proxy: Proxy,
        over: impl FnOnce(Outcome),
        stop: impl Future<Output = Duration>,
    ) {
        let (sender, mut events) = unbounded_channel();
        self.event_loop
            .add_proxy(self.id, proxy, self.settings.options.clone(), sender);
        let mut stop = pin!(stop);
        let outcome = tokio::select! {
            outcome = self.keep(&mut events) => Ok(outcome),
            patience = &mut stop => Err(patience),
        };
        self.settings.drain_timeout = match outcome {
            Ok(outcome) => {
                over(outcome);
                stop.await
            }
            Err(patience) => patience,
        };
        self.drain(&mut events).await;
        self.remove_socket_files();
    }

    async fn keep(&mut self, events: &mut UnboundedReceiver<TunnelEvent>) -> Outcome {
        loop {
            let connected_at = match self.dial(events).await {
                Ok(at) => at,
                Err(outcome) => return outcome,
            };
            let reason = match self.serve(events).await {
                Ok(reason) => reason,
                Err(outcome) => return outcome,
            };
            if !self.settings.reconnect {
                return Outcome::Broken(reason);
            }
            let lasted = connected_at.elapsed();
            let delay = self.backoff.after_loss(lasted, random());
            (self.notify)(Notice::Retrying {
                reason: &reason,
                hint: None,
                delay,
            });
            tokio::time::sleep(delay).await;
        }
    }

    /// Dials until a link is up.
    async fn dial(
        &mut self,
        events: &mut UnboundedReceiver<TunnelEvent>,
    ) -> Result<Instant, Outcome> {
        loop {
            let error = match self.dialer.dial().await {
                Ok(link) => {
                    (self.notify)(Notice::Connected {
                        channel_id: &link.channel_id,
                    });
                    // What was said about the link before is not about this one.
                    while let Ok(event) = events.try_recv() {
                        match event {
                            TunnelEvent::Failed(mistake) => {
                                return Err(Outcome::Failed(mistake));
                            }
                            event => self.handle_aside(event),
                        }
                    }
                    self.event_loop.link_up(self.id, link);
                    return Ok(Instant::now());
                }
                Err(error) => error,
            };
            if !error.is_retryable() {
                return Err(Outcome::Refused(error));
            }
            let Some(delay) = self.backoff.after_failure(random()) else {
                return Err(Outcome::Unreachable(error));
            };
            (self.notify)(Notice::Retrying {
                reason: &error,
                hint: error.hint(),
                delay,
            });
            tokio::time::sleep(delay).await;
        }
    }

    /// Serves the proxy's needs while its link lives. Returns why the link was lost.
    async fn serve(
        &mut self,
        events: &mut UnboundedReceiver<TunnelEvent>,
    ) -> Result<String, Outcome> {
        loop {
            let event = tokio::select! {
                // What the loop says may end the listening.
                biased;
                event = events.recv() => event,
                Some(bound) = self.listening.next() => {
                    match self.bound(bound) {
                        Some(outcome) => return Err(outcome),
                        None => continue,
                    }
                }
            };
            let Some(event) = event else {
                return Err(Outcome::Broken("the event loop has ended".into()));
            };
            match event {
                TunnelEvent::Listen {
                    service,
                    name,
                    endpoint,
                } => self.listen(service, name, endpoint),
                TunnelEvent::Unlisten => self.listening.end(),
                TunnelEvent::LinkEnded(LinkEnd::Closed(code)) => return Err(Outcome::Closed(code)),
                TunnelEvent::LinkEnded(LinkEnd::Lost(reason) | LinkEnd::Violation(reason)) => {
                    return Ok(reason);
                }
                TunnelEvent::LinkEnded(LinkEnd::Drained) => {}
                TunnelEvent::Mismatch(mismatch) => return Err(Outcome::Mismatch(mismatch)),
                TunnelEvent::Failed(mistake) => return Err(Outcome::Failed(mistake)),
                TunnelEvent::Over(_) => return Err(Outcome::Drained),
                other @ TunnelEvent::Dial { .. } => self.handle_aside(other),
            }
        }
    }

    /// What needs no waiting and no decision.
    fn handle_aside(&self, event: TunnelEvent) {
        if let TunnelEvent::Dial { key, host, port } = event {
            let (event_loop, id) = (self.event_loop.clone(), self.id);
            let lookups = self.lookups.clone();
            tokio::spawn(async move {
                let dialled = lookups.dial(&host, port, LOCAL_DIAL_DEADLINE).await;
                let socket = dialled.and_then(|stream| stream.into_std());
                event_loop.dialled(id, key, socket.map(OwnedFd::from));
            });
        }
    }

    /// What the proxy had counted, if it ended in time.
    async fn drain(&mut self, events: &mut UnboundedReceiver<TunnelEvent>) -> Option<Counters> {
        self.event_loop.drain(self.id, self.settings.drain_timeout);
        // The loop keeps the time; a little more is for the way back.
        let patience = self.settings.drain_timeout + Duration::from_secs(2);
        let drained = async {
            while let Some(event) = events.recv().await {
                match event {
                    TunnelEvent::Over(counters) => return Some(counters),
                    event => self.handle_aside(event),
                }
            }
            None
        };
        tokio::time::timeout(patience, drained).await.ok().flatten()
    }

    fn remove_socket_files(&self) {
        for path in &self.socket_files {
            let _ = std::fs::remove_file(path);
        }
    }

    fn listen(&mut self, service: u32, name: Option<ServiceId>, endpoint: Endpoint) {
        if endpoint == Endpoint::Stdio
            && let Some(socket) = self.stdio.take()
        {
            return self.event_loop.add_local(self.id, service, socket);
        }
        let patience = Patience {
            bind_host: self.settings.bind_host.clone(),
            retries: self.settings.listen_retries,
            delay: self.settings.listen_delay,
            ports: self.ports.clone(),
        };
        self.listening.begin(service, name, endpoint, patience);
    }

    /// Hands a listener over; returns the proxy's end if there is none.
    fn bound(&mut self, bound: Bound) -> Option<Outcome> {
        let endpoint = bound.endpoint;
        let sockets = match bound.sockets {
            Ok(sockets) => sockets,
            Err(source) => {
                let endpoint = endpoint.to_string();
                return Some(Outcome::CannotListen { endpoint, source });
            }
        };
        // Sockets that outlive the proxy do so with their files.
        if let (Endpoint::Unix(path), None) = (&endpoint, &self.ports) {
            self.socket_files.push(path.clone());
        }
        let address = sockets.first().map(ring::local_address);
        for socket in sockets {
            self.event_loop.add_listener(self.id, bound.service, socket);
        }
        if let Some(Ok(address)) = address {
            (self.notify)(Notice::Listening {
                service: bound.name.as_ref(),
                address: &address,
                is_assigned: matches!(endpoint, Endpoint::Tcp { port: 0, .. }),
            });
        }
        None
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the delay is the longest, which is safe.
    if getrandom::fill(&mut bytes).is_err() {
        return u64::MAX;
    }
    u64::from_ne_bytes(bytes)
}
