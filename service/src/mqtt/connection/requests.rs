//! What a device may ask for, and what ends its connection.

use std::num::NonZeroU16;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, error};

use super::{Left, Session};
use crate::mqtt::codec::{Ending, Filter, Incoming, Malformed, Outgoing, SubscribeOutcome};
use crate::mqtt::limits::FILTERS_MAX;
use crate::notify::{Mailbox, Qos, notify_topic};
use crate::registry::Registry;

impl<M: Mailbox, R: Registry, S> Session<'_, M, R, S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    pub(super) async fn handle(&mut self, packet: Incoming) -> Result<(), Left> {
        match packet {
            Incoming::Subscribe {
                packet_id,
                filters,
                has_identifier: false,
            } => self.subscribe(packet_id, &filters).await,
            // MQTT 5 §3.2.2.3.12: CONNACK has said that there are none.
            Incoming::Subscribe { .. } => Err(Left::Dismissed(Ending::SubscriptionIdentifier)),
            Incoming::Unsubscribe { packet_id, filters } => {
                self.unsubscribe(packet_id, &filters).await
            }
            Incoming::PublishAck(packet_id) => self.acknowledged(packet_id).await,
            Incoming::Ping => self.send(Outgoing::Pong).await,
            Incoming::Disconnect { session_expiry } => Err(self.leave(session_expiry)),
            // Only the control plane publishes here (T-10).
            Incoming::Publish => {
                debug!(thing = self.thing.as_str(), "a device tried to publish");
                Err(Left::Dismissed(Ending::NotAuthorized))
            }
            Incoming::Connect(_) | Incoming::Unexpected => {
                Err(Left::Dismissed(Ending::ProtocolError))
            }
        }
    }

    /// Stores the session's subscription; a session that is another connection's now ends this one.
    async fn set_subscription(&mut self, subscription: Option<Qos>) -> Result<(), Left> {
        let mailbox = &self.connection.broker.mailbox;
        let number = self.opened.connection;
        match mailbox.subscribe(&self.thing, number, subscription).await {
            Ok(true) => {
                self.opened.subscription = subscription;
                Ok(())
            }
            Ok(false) => Err(Left::Dismissed(Ending::TakenOver)),
            Err(error) => {
                error!(%error, "a subscription could not be stored");
                Err(Left::Dismissed(Ending::Unavailable))
            }
        }
    }

    async fn subscribe(&mut self, packet_id: NonZeroU16, filters: &[Filter]) -> Result<(), Left> {
        let mut outcomes = Vec::with_capacity(filters.len());
        for (index, filter) in filters.iter().enumerate() {
            outcomes.push(if index >= FILTERS_MAX {
                SubscribeOutcome::TooMany
            } else if self.may_subscribe(&filter.topic).await? {
                self.set_subscription(Some(filter.qos)).await?;
                SubscribeOutcome::Granted(filter.qos)
            } else {
                debug!(thing = self.thing.as_str(), filter = ?filter.topic, "not allowed to subscribe");
                SubscribeOutcome::NotAuthorized
            });
        }
        let acknowledgement = Outgoing::SubscribeAck {
            packet_id,
            outcomes,
        };
        self.send(acknowledgement).await?;
        self.deliver().await
    }

    async fn unsubscribe(&mut self, packet_id: NonZeroU16, filters: &[String]) -> Result<(), Left> {
        let own = notify_topic(&self.thing);
        let mut existed = Vec::with_capacity(filters.len());
        for filter in filters {
            let is_subscribed = *filter == own && self.opened.subscription.is_some();
            if is_subscribed {
                self.set_subscription(None).await?;
            }
            existed.push(is_subscribed);
        }
        self.send(Outgoing::UnsubscribeAck { packet_id, existed })
            .await
    }

    async fn may_subscribe(&mut self, filter: &str) -> Result<bool, Left> {
        // Cheap, and true for all that is refused in practice.
        if filter != notify_topic(&self.thing) {
            return Ok(false);
        }
        let broker = self.connection.broker;
        let device = broker.device(self.connection.certificate).await;
        // SUBACK has no word for it but a refusal.
        let device = device.map_err(|_| Left::Dismissed(Ending::Unavailable))?;
        Ok(device.is_some_and(|device| broker.rules.subscribe(&device, &self.thing, filter)))
    }

    fn leave(&mut self, session_expiry: Option<u32>) -> Left {
        let Some(seconds) = session_expiry else {
            return Left::Politely;
        };
        // MQTT 5 §3.14.2.2.2: a session that was not to outlive its connection stays that way.
        if self.keep.is_zero() && seconds > 0 {
            return Left::Dismissed(Ending::ProtocolError);
        }
        let max = self.connection.broker.limits.session_expiry_max;
        self.keep = Duration::from_secs(seconds.into()).min(max);
        Left::Politely
    }
}

impl From<Malformed> for Ending {
    fn from(fault: Malformed) -> Self {
        match fault {
            Malformed::TooLarge => Self::TooLarge,
            Malformed::Version | Malformed::Packet => Self::Malformed,
        }
    }
}
