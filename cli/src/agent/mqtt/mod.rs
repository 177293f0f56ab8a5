//! Hears notifications: an MQTT 3.1.1 session that outlives connections and processes.
//!
//! The session is persistent and the subscription has QoS 1, so the service keeps what comes while this
//! device is away. Each message is acknowledged once it was acted on or refused, and not before: what is
//! lost in between comes again.

mod fault;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_engine::link::{Backoff, BackoffPolicy, dial_tcp};
use adit_proto::escape::escape_bytes;
use adit_proto::notification;
use adit_service::mqtt::fault::reason;
use bytes::Bytes;
use rumqttc::{
    AckMode, AsyncClient, Broker, ConnectionError, Event, EventLoop, MqttOptions, Packet, Publish,
    QoS, SubscribeReasonCode, TlsConfiguration, Transport,
};
use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, error, info, warn};

use super::passed;
use super::settings::Thing;
use super::standing::Standing;
use crate::settings::service::ServiceAddress;

/// A payload that came on this thing's topic. Dropping `handled` lets it come again.
pub(super) struct Delivery {
    pub(super) payload: Bytes,
    /// To be told when it was acted on or refused.
    pub(super) handled: oneshot::Sender<()>,
}

/// Where to connect, and as whom.
pub(super) struct MqttSettings {
    pub(super) endpoint: ServiceAddress,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) thing: Thing,
    pub(super) standing: watch::Sender<Standing>,
}

/// Connects, and stays connected until it is told to stop or nobody takes deliveries any more.
pub(super) async fn listen(
    settings: MqttSettings,
    deliveries: mpsc::Sender<Delivery>,
    mut stop: watch::Receiver<bool>,
) {
    let mut session = Session::new(settings, deliveries);
    tokio::select! {
        () = session.keep() => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    session.leave().await;
}

struct Session {
    settings: MqttSettings,
    topic: String,
    client: AsyncClient,
    events: EventLoop,
    deliveries: mpsc::Sender<Delivery>,
    backoff: Backoff,
    /// When the service took us in, while the connection lasts.
    connected_at: Option<Instant>,
    /// Until when SUBACK has to come, while it is due.
    answer_due: Option<Instant>,
}

impl Session {
    fn new(settings: MqttSettings, deliveries: mpsc::Sender<Delivery>) -> Self {
        let (client, events) = fresh(&settings);
        Self {
            topic: notification::topic(settings.thing.as_str()),
            settings,
            client,
            events,
            deliveries,
            backoff: Backoff::new(BACKOFF),
            connected_at: None,
            answer_due: None,
        }
    }

    async fn keep(&mut self) {
        while !self.deliveries.is_closed() {
            let event = tokio::select! {
                biased;
                event = self.events.poll() => event,
                () = passed(self.answer_due.map(Into::into)) => {
                    let reason = format!("no answer to the subscription within {SUBSCRIBE_LIMIT:?}");
                    self.after(Failure::plain(reason)).await;
                    continue;
                }
            };
            let failure = match event {
                Ok(Event::Incoming(packet)) => match self.on_packet(packet).await {
                    Ok(()) => continue,
                    Err(failure) => failure,
                },
                Ok(Event::Outgoing(_)) => continue,
                Err(fault) => Failure::of(&fault, self.connected_at.is_some()),
            };
            self.after(failure).await;
        }
    }

    async fn on_packet(&mut self, packet: Packet) -> Result<(), Failure> {
        match packet {
            Packet::ConnAck(_) => {
                self.connected_at = Some(Instant::now());
                let endpoint = &self.settings.endpoint;
                info!(%endpoint, thing = %self.settings.thing, "connected to MQTT");
                // Each time: a session that is present may have lost its subscription, and an agent that
                // trusts it would be deaf for ever. Asking for one that is there changes nothing of it, and
                // a message that comes twice for it has a token that is known (MQTT 3.1.1, 3.8.4).
                self.answer_due = Some(Instant::now() + SUBSCRIBE_LIMIT);
                let asked = self
                    .client
                    .try_subscribe(self.topic.as_str(), QoS::AtLeastOnce);
                asked.map_err(|fault| Failure::plain(format!("cannot subscribe: {fault}")))
            }
            Packet::SubAck(answer) => match answer.return_codes.first() {
                Some(SubscribeReasonCode::Success(_)) => {
                    self.answer_due = None;
                    self.set_waiting(true);
                    info!("waiting for tunnels");
                    Ok(())
                }
                Some(SubscribeReasonCode::Failure) | None => Err(Failure {
                    reason: format!("the service refused the subscription to {}", self.topic),
                    hint: Some(fault::SUBSCRIBE_HINT),
                }),
            },
            Packet::Publish(message) => {
                let acted = self.on_message(message).await;
                self.answer_due = self.answer_due.map(|_| Instant::now() + SUBSCRIBE_LIMIT);
                acted
            }
            _ => Ok(()),
        }
    }

    async fn on_message(&mut self, message: Publish) -> Result<(), Failure> {
        if message.topic == self.topic.as_bytes() {
            let (handled, outcome) = oneshot::channel();
            let payload = message.payload.clone();
            if self
                .deliveries
                .send(Delivery { payload, handled })
                .await
                .is_err()
            {
                // The agent ends; the message comes again.
                return Ok(());
            }
            if outcome.await.is_err() {
                return Ok(());
            }
        } else {
            // Nothing was subscribed to but the one topic.
            debug!(
                topic = escape_bytes(&message.topic),
                "a message on another topic is ignored"
            );
        }
        let acknowledged = self.client.try_ack(&message);
        acknowledged.map_err(|fault| Failure::plain(format!("cannot acknowledge: {fault}")))
    }

    fn set_waiting(&self, is_waiting: bool) {
        let standing = &self.settings.standing;
        standing.send_modify(|standing| standing.is_waiting = is_waiting);
    }

    /// Tells a failure, and waits until it is time to connect again.
    async fn after(&mut self, failure: Failure) {
        self.set_waiting(false);
        self.answer_due = None;
        // All new: the client would give out messages of the old connection on the next one, where their
        // acknowledgements are a violation. Nothing is lost by it, the service holds the session.
        (self.client, self.events) = fresh(&self.settings);
        let delay = match self.connected_at.take() {
            Some(at) => self.backoff.after_loss(at.elapsed(), random()),
            // Its retries never end.
            None => self.backoff.after_failure(random()).unwrap_or(BACKOFF.cap),
        };
        let endpoint = &self.settings.endpoint;
        let reason = &failure.reason;
        warn!(%endpoint, "MQTT: {reason}; connecting again in {:.1} s", delay.as_secs_f32());
        if let Some(hint) = failure.hint {
            error!("hint: {hint}");
        }
        tokio::time::sleep(delay).await;
    }

    /// Says good-bye; the service keeps the session.
    async fn leave(mut self) {
        if self.connected_at.is_none() || self.client.try_disconnect_now().is_err() {
            return;
        }
        let left = async { while self.events.poll().await.is_ok() {} };
        let _ = tokio::time::timeout(LEAVE_LIMIT, left).await;
    }
}

/// Why there is no connection, or none of use.
struct Failure {
    reason: String,
    hint: Option<&'static str>,
}

impl Failure {
    fn plain(reason: String) -> Self {
        Self { reason, hint: None }
    }

    fn of(fault: &ConnectionError, was_connected: bool) -> Self {
        Self {
            reason: reason(fault, "the service"),
            hint: fault::hint(fault, was_connected),
        }
    }
}

/// A client without a connection; the first poll makes one.
fn fresh(settings: &MqttSettings) -> (AsyncClient, EventLoop) {
    let (client, mut events) = AsyncClient::builder(options(settings))
        .capacity(REQUESTS_MAX)
        .build();
    let network = &mut events.network_options;
    network.set_connection_timeout(CONNECT_DEADLINE.as_secs());
    (client, events)
}

fn options(settings: &MqttSettings) -> MqttOptions {
    let ServiceAddress { host, port } = settings.endpoint.clone();
    let mut options = MqttOptions::new(settings.thing.as_str(), Broker::tcp(host.clone(), port));
    let tls = TlsConfiguration::Rustls(Arc::clone(&settings.tls));
    options
        .set_transport(Transport::Tls(tls))
        .set_clean_session(false)
        .set_ack_mode(AckMode::Manual)
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

/// Full jitter, so that a fleet which lost its service does not come back in step.
const BACKOFF: BackoffPolicy = BackoffPolicy {
    base: Duration::from_secs(1),
    cap: Duration::from_secs(60),
    jitter: true,
    retries: None,
    settled_after: Duration::from_secs(10),
};

/// From CONNACK to SUBACK, or from the last message that came between: what the service had kept may be first.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(60);

/// Look-up, TCP, TLS and CONNECT.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);

/// The least that AWS takes; a connection that died is noticed within two of them.
const KEEP_ALIVE_SECONDS: u16 = 30;

/// AWS's largest message and its topic fit twice. What is larger than a notification is refused by its
/// reader; here a limit too small would end the connection again and again, for the message comes again.
const PACKET_SIZE_MAX: usize = 512 * 1024;

/// Requests to the event loop that wait: an acknowledgement of each message that the service may have on
/// its way to us (all come before the first is sent), and a subscription. The queue grows as it is used.
const REQUESTS_MAX: usize = 65_535 + 1;

/// For the last packet.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_persistent_and_acknowledged_by_hand() {
        let settings = MqttSettings {
            endpoint: ServiceAddress {
                host: "::1".into(),
                port: 8883,
            },
            tls: adit_engine::tls::client_config(&adit_engine::tls::ClientTls {
                no_verify: true,
                ..adit_engine::tls::ClientTls::default()
            })
            .unwrap(),
            thing: "lamp".parse().unwrap(),
            standing: watch::Sender::default(),
        };
        let options = options(&settings);
        assert!(!options.clean_session());
        assert_eq!(options.ack_mode(), AckMode::Manual);
        assert_eq!(options.client_id(), "lamp");
        assert_eq!(options.keep_alive(), Duration::from_secs(30));
    }
}
