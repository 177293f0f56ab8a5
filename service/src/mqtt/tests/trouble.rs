//! A registry or a mailbox that does not answer for a while: nothing is lost by it, and nobody is let in.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

use super::troubled::Trouble;
use super::*;
use crate::notify::Mailbox;

/// Takes everything away but to connect.
const CONNECT_ONLY: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}}"#;

/// A device that has a session with this message in it, and no connection.
async fn away(lab: &Lab, token: &str) -> CertificateId {
    let certificate = lab.device("a").await;
    let mut client = lab.dial(certificate).await;
    client.connect("a", false).await;
    client.subscribe(&own_topic("a"), 1).await;
    client.leave().await;
    lab.publish("a", "t", token).await;
    certificate
}

/// A device that listens, with this quality of service.
async fn listening(lab: &Lab, qos: u8) -> Client {
    let mut client = lab.dial(lab.device("a").await).await;
    client.connect("a", false).await;
    assert_eq!(client.subscribe(&own_topic("a"), qos).await, qos);
    client
}

#[tokio::test]
async fn a_device_that_cannot_be_looked_up_is_told_to_come_later_and_keeps_everything() {
    let lab = Lab::new();
    let certificate = away(&lab, "one").await;
    // Each look-up on the way to CONNACK fails once.
    for good in 0..3 {
        for v5 in [false, true] {
            let mut left = good;
            lab.registry.plan(move |name| match (name, left) {
                ("device", 0) => Trouble::Refused,
                ("device", _) => {
                    left -= 1;
                    Trouble::None
                }
                _ => Trouble::None,
            });
            let mut client = lab.dial(certificate).await;
            if v5 {
                let body = client.connect_v5("a", false, 600).await;
                assert_eq!(body[..2], [0, 0x88], "after {good} look-ups");
            } else {
                assert_eq!(client.connect("a", false).await, (3, false), "{good}");
            }
            client.closed().await;
        }
    }
    lab.registry.plan(|_| Trouble::None);
    let mut client = lab.dial(certificate).await;
    assert_eq!(client.connect("a", false).await, (0, true));
    assert_eq!(client.take().await, "one");
    lab.publish("a", "t2", "two").await;
    assert_eq!(client.take().await, "two");
}

#[tokio::test]
async fn a_device_that_may_not_subscribe_any_more_hears_that_its_session_is_over() {
    let lab = Lab::new();
    let certificate = away(&lab, "one").await;
    lab.policy(&certificate, CONNECT_ONLY).await;
    let mut client = lab.dial(certificate).await;
    assert_eq!(client.connect("a", false).await, (0, false));
    client.silence().await;
    assert_eq!(client.subscribe(&own_topic("a"), 1).await, 0x80);
    client.leave().await;
    let name = PolicyName::new("p").unwrap();
    let detached = lab.registry.detach_policy(&name, &certificate).await;
    detached.unwrap();
    let mut client = lab.dial(certificate).await;
    client.connect("a", false).await;
    assert_eq!(client.subscribe(&own_topic("a"), 1).await, 1);
    lab.publish("a", "t2", "two").await;
    assert_eq!(client.take().await, "two");
}

#[tokio::test]
async fn a_subscription_that_cannot_be_judged_is_not_refused() {
    let lab = Lab::new();
    let certificate = lab.device("a").await;
    for v5 in [false, true] {
        let mut client = lab.dial(certificate).await;
        if v5 {
            client.connect_v5("a", true, 600).await;
        } else {
            client.connect("a", false).await;
        }
        lab.registry.refuse("device", 1);
        let bytes = client::subscribe(7, &[(&own_topic("a"), 1)], v5);
        client.send(&bytes).await;
        if v5 {
            let goodbye = client.receive().await.unwrap();
            assert_eq!((goodbye.0, goodbye.1[0]), (0xe0, 0x80));
        }
        client.closed().await;
    }
}

#[tokio::test]
async fn a_change_that_cannot_be_looked_into_cuts_the_connection_and_keeps_its_session() {
    let lab = Lab::new();
    lab.follow();
    let certificate = lab.device("a").await;
    let mut client = lab.dial(certificate).await;
    client.connect_v5("a", true, 600).await;
    client.subscribe(&own_topic("a"), 1).await;
    lab.registry.refuse("device", 1);
    lab.policy(
        &certificate,
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#,
    )
    .await;
    let goodbye = client.receive().await.unwrap();
    assert_eq!((goodbye.0, goodbye.1[0]), (0xe0, 0x80));
    client.closed().await;
    lab.publish("a", "t", "one").await;
    let mut client = lab.dial(certificate).await;
    assert_eq!(client.connect_v5("a", false, 600).await[..2], [1, 0]);
    assert_eq!(client.take().await, "one");
}

#[tokio::test]
async fn a_message_whose_device_cannot_be_looked_up_is_kept_and_sent_later() {
    let lab = Lab::new();
    for qos in [1, 0] {
        let mut client = match qos {
            1 => listening(&lab, qos).await,
            _ => {
                let mut client = lab.dial(CertificateId::of(b"a")).await;
                client.connect("a", false).await;
                client.subscribe(&own_topic("a"), qos).await;
                client
            }
        };
        lab.registry.refuse("device", 2);
        lab.publish("a", "t", "one").await;
        let delivery = client.delivery().await;
        // It is the first attempt at it, whatever became of the look-ups.
        assert!(delivery.token() == "one" && !delivery.again, "QoS {qos}");
        if qos == 1 {
            client.acknowledge(&delivery).await;
        }
        client.leave().await;
    }
}

#[tokio::test]
async fn a_mailbox_that_cannot_be_read_is_read_again() {
    let lab = Lab::new();
    let mut client = listening(&lab, 1).await;
    lab.mailbox.refuse("next", 2);
    lab.publish("a", "t", "one").await;
    assert_eq!(client.take().await, "one");
    // And when it is the first thing that a connection does.
    client.leave().await;
    lab.publish("a", "t2", "two").await;
    lab.mailbox.refuse("next", 1);
    let mut client = lab.dial(CertificateId::of(b"a")).await;
    assert_eq!(client.connect("a", false).await, (0, true));
    assert_eq!(client.take().await, "two");
}

#[tokio::test]
async fn a_message_that_cannot_be_settled_is_not_sent_in_a_circle() {
    let lab = Lab::new();
    let mut client = listening(&lab, 1).await;
    lab.mailbox.refuse("settle", 1);
    lab.publish("a", "t", "one").await;
    assert_eq!(client.take().await, "one");
    client.silence().await;
    let again = client.delivery().await;
    assert!(again.token() == "one" && again.again);
    client.acknowledge(&again).await;
    client.silence().await;
    // Nor is one asked for in a circle that the device may not have.
    lab.policy(
        &CertificateId::of(b"a"),
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"iot:Receive","Resource":"*"}}"#,
    )
    .await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    lab.mailbox.plan(move |name| {
        counted.fetch_add(usize::from(name == "next"), Ordering::Relaxed);
        match name {
            "settle" => Trouble::Refused,
            _ => Trouble::None,
        }
    });
    lab.publish("a", "t", "two").await;
    client.silence().await;
    client.ping().await;
    assert!((1..=3).contains(&asked.load(Ordering::Relaxed)));
}

#[tokio::test]
async fn a_message_that_is_kept_too_late_for_the_caller_reaches_its_device() {
    let lab = Lab::with(|l| l.publish_timeout = Duration::from_millis(50));
    let mut client = listening(&lab, 1).await;
    let (go, going) = oneshot::channel::<()>();
    let mut going = Some(going);
    lab.mailbox
        .plan(move |name| match going.take_if(|_| name == "push") {
            Some(going) => Trouble::Later(Box::pin(async move { going.await.unwrap() })),
            None => Trouble::None,
        });
    lab.publish("a", "t", "one").await;
    client.silence().await;
    go.send(()).expect("somebody still keeps the message");
    assert_eq!(client.take().await, "one");
}

#[tokio::test]
async fn changes_of_the_registry_do_not_put_off_the_sweep() {
    let lab = Lab::with(|l| l.sweep_interval = SHORT);
    let (swept, told) = (Arc::new(AtomicUsize::new(0)), lab.registry.clone());
    let counted = Arc::clone(&swept);
    lab.mailbox.plan(move |name| {
        counted.fetch_add(usize::from(name == "expire"), Ordering::Relaxed);
        Trouble::None
    });
    lab.follow();
    let certificate = lab.device("a").await;
    let changing = tokio::spawn(async move {
        for status in [CertificateStatus::Inactive, CertificateStatus::Active]
            .into_iter()
            .cycle()
        {
            let now = Timestamp::from_millis(2);
            let set = told.set_certificate_status(now, &certificate, status);
            set.await.unwrap();
            tokio::time::sleep(SHORT / 10).await;
        }
    });
    crate::testing::eventually("two sweeps", async || swept.load(Ordering::Relaxed) >= 2).await;
    changing.abort();
}

#[tokio::test]
async fn a_device_whose_session_was_taken_for_gone_is_sent_away_to_come_again() {
    // Renewed every 16 s; when in doubt, a fifth of a second after the last time.
    let lab = Lab::with(|l| l.lease = Duration::from_secs(48));
    let mut client = lab.dial(lab.device("a").await).await;
    client.connect_v5("a", true, 600).await;
    client.subscribe(&own_topic("a"), 1).await;
    lab.broker.wake_all();
    tokio::time::sleep(SHORT).await;
    client.ping().await;
    // As the first node after a while does it.
    let (now, thing) = (lab.clock.now().steady, thing("a"));
    for number in 0..10 {
        let closed = lab
            .mailbox
            .close(now, &thing, number, Duration::from_secs(600));
        closed.await.unwrap();
    }
    lab.publish("a", "t", "one").await;
    client.silence().await;
    lab.broker.wake_all();
    let goodbye = client.receive().await.unwrap();
    assert_eq!((goodbye.0, goodbye.1[0]), (0xe0, 0x8e));
    client.closed().await;
    let mut client = lab.dial(CertificateId::of(b"a")).await;
    assert_eq!(client.connect_v5("a", false, 600).await[..2], [1, 0]);
    assert_eq!(client.take().await, "one");
}
