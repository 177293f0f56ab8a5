//! The broker against clients that are written down byte by byte.

mod client;
mod crowd;
mod mosquitto;
mod protocol;
mod sessions;
mod subscriptions;
mod trouble;
mod troubled;

use std::sync::Arc;
use std::time::Duration;

use adit_proto::{AccessToken, TunnelId};
use tokio::io::DuplexStream;
use tokio::sync::watch;

use super::{Broker, BrokerLimits};
use crate::clock::Timestamp;
use crate::clock::manual::ManualClock;
use crate::notify::{MailboxLimits, MemoryMailbox, Notification, Notifier, Sealer};
use crate::registry::{
    Certificate, CertificateId, CertificateOrigin, CertificateStatus, MemoryRegistry, NewThing,
    Policy, PolicyName, Registry, RegistryLimits,
};
use crate::tunnels::ThingName;
use client::Client;
use troubled::Troubled;

type TestMailbox = Troubled<MemoryMailbox>;
type TestRegistry = Troubled<MemoryRegistry>;
type TestBroker = Broker<TestMailbox, TestRegistry>;

/// A broker with a registry of its own.
struct Lab {
    broker: Arc<TestBroker>,
    registry: Arc<TestRegistry>,
    mailbox: Arc<TestMailbox>,
    clock: ManualClock,
    limits: BrokerLimits,
    stop: watch::Sender<bool>,
}

impl Lab {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut BrokerLimits)) -> Self {
        let registry = MemoryRegistry::new(RegistryLimits::default());
        let registry = Arc::new(Troubled::new(registry));
        let mailbox = MemoryMailbox::new(MailboxLimits::default(), |_, _, _| true);
        let mailbox = Arc::new(Troubled::new(mailbox));
        let clock = ManualClock::new();
        let mut limits = BrokerLimits::default();
        change(&mut limits);
        let broker = broker(
            &mailbox,
            &registry,
            Sealer::in_memory().unwrap(),
            &clock,
            &limits,
        );
        let stop = watch::Sender::new(false);
        Self {
            broker,
            registry,
            mailbox,
            clock,
            limits,
            stop,
        }
    }

    /// Registers a thing with a certificate of this content.
    async fn device(&self, name: &str) -> CertificateId {
        let id = CertificateId::of(name.as_bytes());
        self.device_with(name, id).await;
        id
    }

    async fn device_with(&self, name: &str, id: CertificateId) {
        let thing = thing(name);
        let new = NewThing {
            name: thing.clone(),
            id: uuid::Uuid::new_v4(),
            type_name: None,
            attributes: Default::default(),
        };
        self.registry.create_thing(new).await.unwrap();
        let now = Timestamp::from_millis(1);
        let certificate = Certificate {
            id,
            pem: "".into(),
            status: CertificateStatus::Active,
            origin: CertificateOrigin::Registered,
            created: now,
            updated: now,
            not_before: now,
            not_after: now,
        };
        self.registry.add_certificate(certificate).await.unwrap();
        self.registry.attach_thing(&thing, &id).await.unwrap();
    }

    async fn policy(&self, certificate: &CertificateId, document: &str) {
        let name = PolicyName::new("p").unwrap();
        let policy = Policy {
            name: name.clone(),
            document: document.into(),
            version: 1,
            created: Timestamp::from_millis(1),
        };
        self.registry.create_policy(policy).await.unwrap();
        self.registry
            .attach_policy(&name, certificate)
            .await
            .unwrap();
    }

    async fn set_status(&self, certificate: &CertificateId, status: CertificateStatus) {
        let now = Timestamp::from_millis(2);
        let set = self
            .registry
            .set_certificate_status(now, certificate, status);
        set.await.unwrap();
    }

    /// Follows the registry's changes from now on.
    fn follow(&self) {
        let (broker, changes) = (Arc::clone(&self.broker), self.registry.changes());
        tokio::spawn(async move { broker.follow(changes).await });
    }

    /// A connection whose TLS handshake is over.
    async fn dial(&self, certificate: CertificateId) -> Client {
        Client::new(self.socket(certificate, 64 * 1024).await)
    }

    async fn socket(&self, certificate: CertificateId, buffer_size: usize) -> DuplexStream {
        let (near, far) = tokio::io::duplex(buffer_size);
        let (broker, stop) = (Arc::clone(&self.broker), self.stop.subscribe());
        let peer = "127.0.0.1:1".parse().unwrap();
        let place = broker.strangers().enter(peer).await.unwrap();
        tokio::spawn(async move { broker.serve(far, certificate, place, stop).await });
        near
    }

    async fn publish(&self, name: &str, tunnel: &str, token: &str) {
        let notification = notification(tunnel, token);
        self.broker.publish(&thing(name), notification).await;
    }

    /// As a rotation does it.
    fn revoke(&self, tunnel: &str) {
        self.mailbox
            .inner
            .revoke(&tunnel.parse::<TunnelId>().unwrap());
    }
}

fn broker(
    mailbox: &Arc<TestMailbox>,
    registry: &Arc<TestRegistry>,
    sealer: Sealer,
    clock: &ManualClock,
    limits: &BrokerLimits,
) -> Arc<TestBroker> {
    Arc::new(Broker::new(
        Arc::clone(mailbox),
        Arc::clone(registry),
        sealer,
        clock.clock(),
        limits.clone(),
        ("us-east-1", "123456789012"),
    ))
}

fn thing(name: &str) -> ThingName {
    ThingName::new(name).unwrap()
}

fn notification(tunnel: &str, token: &str) -> Notification {
    Notification {
        tunnel: tunnel.parse().unwrap(),
        token: AccessToken::new(token.to_owned()).unwrap(),
        region: "us-east-1".into(),
        services: ["SSH".parse().unwrap()].into(),
    }
}

fn own_topic(name: &str) -> String {
    format!("$aws/things/{name}/tunnels/notify")
}

const SHORT: Duration = Duration::from_millis(300);
