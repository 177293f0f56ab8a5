//! Notifications on their way to the device: one at a time, again until it has acknowledged.

use std::num::NonZeroU16;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tracing::{debug, error, warn};
use zeroize::Zeroizing;

use super::{Left, Session};
use crate::mqtt::codec::Outgoing;
use crate::notify::{Mailbox, Qos, Queued, notify_topic};
use crate::registry::Registry;

/// A message that was sent and not acknowledged yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InFlight {
    packet_id: NonZeroU16,
    message: u64,
}

/// A message with what it says.
type Readable = (Queued, Zeroizing<Vec<u8>>);

/// Why no further message goes out.
enum Stuck {
    /// The store does not answer.
    NoAnswer,
    /// The connection is over.
    Left(Left),
}

impl<M: Mailbox, R: Registry, S> Session<'_, M, R, S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    /// Sends what waits, until something has to be acknowledged first; what the store keeps from us is asked
    /// for again soon.
    ///
    /// One in flight respects every receive maximum there can be. It stays in flight when it is revoked
    /// meanwhile: the device may be at it, and its packet id must not be used for another.
    pub(super) async fn deliver(&mut self) -> Result<(), Left> {
        match self.deliver_waiting().await {
            Ok(()) => self.retry.succeeded(),
            Err(Stuck::NoAnswer) => self.retry.failed(Instant::now()),
            Err(Stuck::Left(left)) => return Err(left),
        }
        Ok(())
    }

    async fn deliver_waiting(&mut self) -> Result<(), Stuck> {
        // Without a subscription nothing is kept.
        while self.in_flight.is_none() && self.opened.subscription.is_some() {
            let Some(message) = self.take().await? else {
                break;
            };
            self.deliver_one(message).await?;
        }
        Ok(())
    }

    /// The device has acknowledged.
    pub(super) async fn acknowledged(&mut self, packet_id: NonZeroU16) -> Result<(), Left> {
        // Another id is one of an earlier connection, or an invention; neither hurts.
        if let Some(in_flight) = self.in_flight.filter(|f| f.packet_id == packet_id) {
            self.in_flight = None;
            match self.settle(in_flight.message).await {
                Ok(()) => self.deliver().await?,
                // It is still the first one, and goes out again.
                Err(_) => self.retry.failed(Instant::now()),
            }
        }
        Ok(())
    }

    /// The next message that the device may have and can read. Others are dropped on the way.
    async fn take(&mut self) -> Result<Option<Readable>, Stuck> {
        let broker = self.connection.broker;
        let number = self.opened.connection;
        loop {
            // First: the mailbox counts a message that it has given out as sent.
            let device = broker.device(self.connection.certificate).await;
            let device = device.map_err(|_| Stuck::NoAnswer)?;
            // Asked for just before it is sent: whatever was revoked until now is not there.
            let next = broker.mailbox.next(broker.now(), &self.thing, number).await;
            let next = next.map_err(|error| {
                error!(%error, "a device's messages cannot be read; trying again soon");
                Stuck::NoAnswer
            })?;
            let Some(queued) = next else {
                return Ok(None);
            };
            let tunnel = &queued.message.tunnel;
            let sealed = &queued.message.sealed;
            if !device.is_some_and(|device| broker.rules.receive(&device, &self.thing)) {
                debug!(%tunnel, "a notification that the device may not receive is dropped");
            } else if let Some(payload) = broker.sealer.open(&self.thing, tunnel, sealed) {
                return Ok(Some((queued, payload)));
            } else {
                // No node that runs opens it: they have one key. Left there, it would keep back all that came
                // after it.
                warn!(%tunnel, "a queued notification does not open with notify.key and is dropped");
            }
            self.settle(queued.id).await?;
        }
    }

    async fn deliver_one(&mut self, (queued, payload): Readable) -> Result<(), Stuck> {
        let packet_id = packet_id(queued.id);
        if queued.qos == Qos::AtLeastOnce {
            self.in_flight = Some(InFlight {
                packet_id,
                message: queued.id,
            });
        }
        debug!(tunnel = %queued.message.tunnel, again = queued.again, "notification sent");
        let publish = Outgoing::Publish {
            topic: notify_topic(&self.thing),
            payload: Bytes::from_owner(payload),
            qos: queued.qos,
            packet_id,
            again: queued.again,
        };
        self.send_or_drop(publish, queued.id).await
    }

    /// MQTT 5 §3.1.2.11.4: a message larger than the client takes is treated as delivered.
    async fn send_or_drop(&mut self, publish: Outgoing, message: u64) -> Result<(), Stuck> {
        let sent = self.connection.transport.try_send(publish).await;
        if !sent.map_err(|lost| Stuck::Left(Left::Lost(lost)))? {
            warn!(
                thing = self.thing.as_str(),
                "a notification is larger than the device takes"
            );
            self.in_flight = None;
            self.settle(message).await?;
        }
        Ok(())
    }

    async fn settle(&mut self, message: u64) -> Result<(), Stuck> {
        let mailbox = &self.connection.broker.mailbox;
        let settled = mailbox.settle(&self.thing, self.opened.connection, message);
        settled.await.map_err(|error| {
            error!(%error, "a notification that was delivered or dropped stays for now");
            Stuck::NoAnswer
        })
    }
}

/// The same for every attempt at a message (MQTT 3.1.1 §4.4), and another than its neighbours'.
fn packet_id(message: u64) -> NonZeroU16 {
    let id = (message % u64::from(u16::MAX)) as u16 + 1;
    NonZeroU16::new(id).expect("1 to 65,535")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_ids_are_never_zero_and_follow_the_message() {
        for (message, id) in [(0, 1), (1, 2), (65_534, 65_535), (65_535, 1), (65_536, 2)] {
            assert_eq!(packet_id(message).get(), id);
        }
    }
}
