//! One connection to the broker after the other, and what is sent over it.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use adit_engine::link::{Backoff, BackoffPolicy, dial_tcp};
use rumqttc::{
    AsyncClient, Broker, Event, EventLoop, MqttOptions, Packet, PublishOptions, TlsConfiguration,
    Transport,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};
use uuid::Uuid;

use super::ExternalSettings;
use super::current::MayTell;
use super::hint::hint;
use super::queue::{Handed, Queue};
use crate::clock::{Clock, Timestamp};
use crate::mqtt::fault::reason;

/// Keeps the connection. The broker keeps nothing of ours: what is not acknowledged is in the queue, and
/// each connection begins anew.
pub(super) struct Session<'a> {
    settings: &'a ExternalSettings,
    queue: &'a Queue,
    clock: &'a Clock,
    current: &'a dyn MayTell,
    client_id: String,
    /// For the broker to acknowledge what is published.
    answer_limit: Duration,
}

/// Why a connection ended, or never came about.
pub(super) struct Ended {
    pub(super) reason: String,
    pub(super) hint: Option<&'static str>,
    /// How long the broker had us.
    pub(super) lasted: Option<Duration>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        settings: &'a ExternalSettings,
        queue: &'a Queue,
        clock: &'a Clock,
        current: &'a dyn MayTell,
    ) -> Self {
        Self {
            settings,
            queue,
            clock,
            current,
            // Nodes and restarts must not push each other out: a broker lets in one client of a name.
            client_id: format!("adit-{}", Uuid::new_v4().simple()),
            answer_limit: ANSWER_LIMIT,
        }
    }

    #[cfg(test)]
    pub(super) fn with_answer_limit(self, answer_limit: Duration) -> Self {
        Self {
            answer_limit,
            ..self
        }
    }

    /// Connects again and again, until it is to leave.
    pub(super) async fn keep(&self, leave: watch::Receiver<bool>) {
        let mut backoff = Backoff::new(BACKOFF);
        loop {
            let ended = self.connect(leave.clone()).await;
            let given_up = self.queue.take_back(self.now());
            if *leave.borrow() {
                return;
            }
            let delay = match ended.lasted {
                Some(lasted) => backoff.after_loss(lasted, random()),
                // Its retries never end.
                None => backoff.after_failure(random()).unwrap_or(BACKOFF.cap),
            };
            self.tell(&ended, given_up, delay);
            tokio::select! {
                () = sleep(delay) => {}
                () = told(leave.clone()) => return,
            }
        }
    }

    /// One connection, until it ends.
    pub(super) async fn connect(&self, leave: watch::Receiver<bool>) -> Ended {
        // All new each time: the client would send again by itself what it has not seen acknowledged,
        // and would not ask whether the tokens in it still hold.
        let (client, events) = fresh(self.settings, &self.client_id);
        let (admitted, is_admitted) = watch::channel(None);
        tokio::select! {
            ended = self.drive(events, admitted) => ended,
            ended = self.feed(client, is_admitted, leave) => ended,
        }
    }

    /// Lets the client work. It is never cancelled in the middle but to be dropped.
    async fn drive(
        &self,
        mut events: EventLoop,
        admitted: watch::Sender<Option<Timestamp>>,
    ) -> Ended {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    admitted.send_replace(Some(self.now()));
                    info!(broker = %self.settings.address, "connected to the MQTT broker");
                }
                Ok(_) => {}
                Err(fault) => {
                    let since = *admitted.borrow();
                    return Ended {
                        reason: reason(&fault, "the broker"),
                        hint: hint(&fault, self.settings.address.is_secure(), since.is_some()),
                        lasted: since.map(|since| self.now().since(since)),
                    };
                }
            }
        }
    }

    /// Hands letters to the client once the broker has us. Returns when the broker takes none any more; how
    /// a connection ends otherwise is [`drive`](Self::drive)'s to tell.
    async fn feed(
        &self,
        client: AsyncClient,
        mut admitted: watch::Receiver<Option<Timestamp>>,
        leave: watch::Receiver<bool>,
    ) -> Ended {
        let since = admitted.wait_for(Option::is_some).await;
        let since = since.ok().and_then(|since| *since);
        if let Some(since) = since
            && self.hand_over(&client, leave).await.is_err()
        {
            return Ended {
                reason: "the broker does not acknowledge what is published".to_owned(),
                hint: None,
                lasted: Some(self.now().since(since)),
            };
        }
        pending().await
    }

    /// A few at a time, until the connection is lost or to be left.
    async fn hand_over(
        &self,
        client: &AsyncClient,
        leave: watch::Receiver<bool>,
    ) -> Result<(), NoAnswer> {
        let mut answers = JoinSet::new();
        let mut due = BTreeMap::new();
        loop {
            let overdue = due.values().min().copied();
            tokio::select! {
                // An answer that came while the store was asked is not overdue.
                biased;
                Some(answer) = answers.join_next() => match answer {
                    Ok((ticket, Ok(_))) => {
                        due.remove(&ticket);
                        self.queue.settled(ticket);
                    }
                    Ok((_, Err(_))) | Err(_) => return Ok(()),
                },
                handed = self.queue.next(self.clock), if answers.len() < WINDOW => {
                    let Handed { ticket, tunnel, token, topic, payload } = handed;
                    if !self.current.may_tell(&tunnel, token).await {
                        self.queue.settled(ticket);
                    }
                    // Or it was revoked while the store was asked.
                    if !self.queue.holds(ticket) {
                        continue;
                    }
                    let options = PublishOptions::at_least_once();
                    match client.publish_tracked(topic, payload, options).await {
                        Ok(notice) => {
                            due.insert(ticket, Instant::now() + self.answer_limit);
                            answers.spawn(async move { (ticket, notice.wait_async().await) });
                        }
                        Err(_) => return Ok(()),
                    }
                }
                () = sleep_until(overdue.unwrap_or_else(Instant::now)), if overdue.is_some() => {
                    return Err(NoAnswer);
                }
                () = told(leave.clone()) => {
                    // Refused: the connection is gone already.
                    let _ = client.try_disconnect_now();
                    return Ok(());
                }
            }
        }
    }

    /// In steady time.
    fn now(&self) -> Timestamp {
        self.clock.now().steady
    }

    /// One line for one attempt.
    fn tell(&self, ended: &Ended, given_up: usize, delay: Duration) {
        let (broker, reason) = (&self.settings.address, &ended.reason);
        let lost = match given_up {
            0 => String::new(),
            count => format!("; {count} notifications that ended every connection are given up"),
        };
        let hint = ended.hint.map(|hint| format!("; hint: {hint}"));
        let (hint, delay) = (hint.unwrap_or_default(), delay.as_secs_f32());
        warn!("{broker}: {reason}{lost}; connecting again in {delay:.1} s{hint}");
    }
}

/// What was published is not acknowledged.
struct NoAnswer;

/// Waits until it is said.
pub(super) async fn told(mut leave: watch::Receiver<bool>) {
    // An error: nobody is there any more who could say so.
    let _ = leave.wait_for(|leave| *leave).await;
}

/// A client without a connection; the first poll makes one.
fn fresh(settings: &ExternalSettings, client_id: &str) -> (AsyncClient, EventLoop) {
    let (client, mut events) = AsyncClient::builder(options(settings, client_id))
        .capacity(WINDOW)
        .build();
    let network = &mut events.network_options;
    network.set_connection_timeout(CONNECT_DEADLINE.as_secs());
    (client, events)
}

fn options(settings: &ExternalSettings, client_id: &str) -> MqttOptions {
    let (host, port) = (settings.address.host().to_owned(), settings.address.port());
    let mut options = MqttOptions::new(client_id, Broker::tcp(host.clone(), port));
    let transport = match settings.address.is_secure() {
        true => Transport::Tls(TlsConfiguration::Rustls(Arc::clone(&settings.tls))),
        false => Transport::Tcp,
    };
    options
        .set_transport(transport)
        .set_clean_session(true)
        .set_keep_alive(KEEP_ALIVE_SECONDS)
        .set_max_packet_size(PACKET_SIZE_MAX, PACKET_SIZE_MAX)
        // Our own: both families at once, IPv6 addresses, and errors with names in them.
        .set_socket_connector(move |_, _| {
            let host = host.clone();
            async move {
                let dialled = dial_tcp(&host, port, CONNECT_DEADLINE).await;
                dialled.map_err(io::Error::other)
            }
        });
    if let Some(login) = &settings.login {
        options.set_credentials(login.user.as_str(), login.password.as_bytes().to_vec());
    }
    options
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the delay is the longest, which is safe.
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => u64::MAX,
    }
}

/// Full jitter, so that several nodes do not come back in step. Notifications wait meanwhile, and people
/// for them: the longest delay is short.
const BACKOFF: BackoffPolicy = BackoffPolicy {
    base: Duration::from_secs(1),
    cap: Duration::from_secs(15),
    jitter: true,
    retries: None,
    settled_after: Duration::from_secs(10),
};

/// Look-up, TCP, TLS and CONNECT.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);

/// A connection that died is noticed within two of them.
const KEEP_ALIVE_SECONDS: u16 = 30;

/// For the broker to acknowledge what is published.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The largest notification fits many times.
const PACKET_SIZE_MAX: usize = 256 * 1024;

/// Notifications on their way. So few that what is handed to the client is in the kernel at once, where
/// nobody gets it back: until then, a token that was rotated away is kept from leaving.
const WINDOW: usize = 16;
