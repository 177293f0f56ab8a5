//! What all connections share, and how notifications get to them.

use std::sync::Arc;

use adit_proto::TunnelId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tracing::{debug, error};

use super::codec::Ending;
use super::connection::Connection;
use super::limits::BrokerLimits;
use super::live::Live;
use super::rules::Rules;
use crate::clock::{Clock, Timestamp};
use crate::notify::{Mailbox, MailboxError, Message, Notification, Notifier, Pending, Sealer};
use crate::registry::{CertificateId, Change, Changes, Device, Registry, RegistryError};
use crate::room::{Place, Room};
use crate::token::TokenHash;
use crate::tunnels::ThingName;

/// The embedded notifier. Listeners hand it connections whose client has proved to hold the key of a
/// certificate; everything else is decided here.
pub struct Broker<M, R> {
    pub(super) mailbox: Arc<M>,
    pub(super) registry: Arc<R>,
    pub(super) sealer: Sealer,
    pub(super) clock: Clock,
    pub(super) limits: BrokerLimits,
    pub(super) rules: Rules,
    pub(super) live: Arc<Live>,
    pub(super) connections: Arc<Semaphore>,
    pub(super) strangers: Arc<Room>,
}

impl<M: Mailbox, R: Registry> Broker<M, R> {
    /// A broker without connections. Region and account are those of the ARNs in policies.
    pub fn new(
        mailbox: Arc<M>,
        registry: Arc<R>,
        sealer: Sealer,
        clock: Clock,
        limits: BrokerLimits,
        (region, account): (&str, &str),
    ) -> Self {
        Self {
            mailbox,
            registry,
            sealer,
            clock,
            rules: Rules::new(region, account),
            live: Arc::default(),
            connections: Arc::new(Semaphore::new(limits.connections_max)),
            strangers: Room::new(limits.strangers_max, limits.patience),
            limits,
        }
    }

    /// Serves one client until it leaves, breaks a rule, loses its right, or `stop` says so.
    ///
    /// `certificate` is the one whose key the client has proved to hold; `place` is one of
    /// [`strangers`](Self::strangers), held since before the TLS handshake.
    pub(crate) async fn serve<S>(
        &self,
        stream: S,
        certificate: CertificateId,
        place: Place,
        stop: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        Connection::new(self, stream, certificate, stop)
            .run(place)
            .await;
    }

    /// Places for clients that are not let in yet.
    pub(crate) fn strangers(&self) -> Arc<Room> {
        Arc::clone(&self.strangers)
    }

    /// Its bounds.
    pub fn limits(&self) -> &BrokerLimits {
        &self.limits
    }

    /// There may be a message for this device that another node has queued.
    pub fn wake(&self, thing: &ThingName) {
        self.live.wake(thing);
    }

    /// There may be messages for all devices, and other nodes may have their sessions: what was said is lost.
    pub fn wake_all(&self) {
        self.live.wake_all();
    }

    /// Cuts connections that lost their right, and forgets what has run out, until the registry is gone.
    ///
    /// `changes` has to be listening since before the first connection was served.
    pub async fn follow(&self, mut changes: Changes) {
        let every = self.limits.sweep_interval;
        // Runs on, however often something changes.
        let mut sweep = interval_at(Instant::now() + every, every);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(change) => self.take_in(&change).await,
                    None => return,
                },
                _ = sweep.tick() => self.sweep().await,
            }
        }
    }

    /// What the certificate stands for; `None` if it may not be here at all.
    ///
    /// # Errors
    /// That is not known now, and is nothing that a device may be made to pay for: what it has is kept.
    pub(super) async fn device(
        &self,
        certificate: CertificateId,
    ) -> Result<Option<Device>, RegistryError> {
        let device = self.registry.device(&certificate).await;
        let device = device.inspect_err(|error| error!(%error, "a device cannot be looked up"))?;
        Ok(device.filter(Rules::is_active))
    }

    /// Whether a certificate may be here, for the TLS handshake, which cannot wait: the thread does, for
    /// one look-up, while others take over its tasks. On a runtime of one thread nobody could, and there
    /// the answer is yes: the certificate is looked up again before the first packet is answered. So it is
    /// when the registry does not answer: an alert would say that the certificate is bad.
    pub(crate) fn look_up(
        broker: &Arc<Self>,
    ) -> impl Fn(CertificateId) -> bool + Send + Sync + use<M, R> {
        let broker = Arc::clone(broker);
        move |certificate| {
            let runtime = Handle::current();
            match runtime.runtime_flavor() {
                RuntimeFlavor::MultiThread => {
                    let found = || runtime.block_on(broker.device(certificate));
                    !matches!(block_in_place(found), Ok(None))
                }
                _ => true,
            }
        }
    }

    /// In steady time.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now().steady
    }

    async fn take_in(&self, change: &Change) {
        let concerned = self.live.seen(|thing, certificate| match change {
            Change::Certificate(changed) => *changed == certificate,
            Change::ThingDeleted(deleted) => deleted == thing,
            Change::Anything => true,
        });
        for (thing, generation, certificate) in concerned {
            let ending = match self.device(certificate).await {
                Ok(Some(device)) if self.rules.may_stay(&device, &thing) => {
                    if matches!(change, Change::ThingDeleted(_)) {
                        // There is one of this name again. The session may have gone with the one before.
                        self.live.doubt(&thing);
                    }
                    continue;
                }
                Ok(_) => Ending::Revoked,
                // It may have lost its right. If not, it comes again, to its session.
                Err(_) => Ending::Unavailable,
            };
            debug!(
                thing = thing.as_str(),
                ?ending,
                "a connected device has to go"
            );
            self.live.end(&thing, generation, ending);
        }
    }

    async fn sweep(&self) {
        match self.mailbox.expire(self.now()).await {
            Ok(0) => {}
            Ok(removed) => debug!(removed, "sessions and messages ran out"),
            Err(error) => error!(%error, "sessions and messages that ran out stay"),
        }
    }

    /// Keeps a message and wakes its device, however long that takes: whoever waits for it may give up.
    fn queue(
        &self,
        thing: &ThingName,
        notification: &Notification,
    ) -> JoinHandle<Result<bool, MailboxError>> {
        let now = self.now();
        let message = Message {
            tunnel: notification.tunnel.clone(),
            token: TokenHash::of(&notification.token),
            expires: now.after(self.limits.retention),
            sealed: self
                .sealer
                .seal(thing, &notification.tunnel, &notification.payload()),
        };
        let (mailbox, live) = (Arc::clone(&self.mailbox), Arc::clone(&self.live));
        let thing = thing.clone();
        tokio::spawn(async move {
            let queued = mailbox.push(now, &thing, message).await;
            // Where the answer to a commit was lost, the message may be there all the same.
            if queued != Ok(false) {
                live.wake(&thing);
            }
            queued
        })
    }
}

impl<M: Mailbox, R: Registry> Notifier for Broker<M, R> {
    fn publish<'a>(&'a self, thing: &'a ThingName, notification: Notification) -> Pending<'a> {
        Box::pin(async move {
            let tunnel = &notification.tunnel;
            let queued = self.queue(thing, &notification);
            match timeout(self.limits.publish_timeout, queued).await {
                Ok(Ok(Ok(true))) => {}
                Ok(Ok(Ok(false))) => {
                    let thing = thing.as_str();
                    debug!(%tunnel, thing, "the device does not listen, or the token is not the last");
                }
                Ok(Ok(Err(error))) => error!(%error, %tunnel, "a notification is lost"),
                Ok(Err(error)) => error!(%error, %tunnel, "a notification is lost"),
                Err(_) => error!(%tunnel, "a notification is late or lost: the store is slow"),
            }
        })
    }

    /// The store has done it, in the transaction that rotated the token or ended the tunnel.
    fn revoke<'a>(&'a self, _: &'a TunnelId) -> Pending<'a> {
        Box::pin(std::future::ready(()))
    }
}
