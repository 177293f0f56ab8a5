//! Messages, sessions, and who is let in.

use super::client::packet;
use super::*;
use crate::registry::{Change, ChangeSender};

#[tokio::test]
async fn a_notification_reaches_a_listening_device_exactly_as_specified() {
    let lab = Lab::new();
    let certificate = lab.device("a").await;
    for v5 in [false, true] {
        let mut client = lab.dial(certificate).await;
        if v5 {
            let body = client.connect_v5("a", true, 0).await;
            assert_eq!(body[..2], [0, 0]);
            // Maximum QoS 1; no retained messages, wildcards, identifiers, shared subscriptions.
            for property in [[0x24, 1], [0x25, 0], [0x28, 0], [0x29, 0], [0x2a, 0]] {
                assert!(
                    body.windows(2).any(|pair| pair == property),
                    "{property:x?}: {body:x?}"
                );
            }
        } else {
            assert_eq!(client.connect("a", true).await, (0, false));
        }
        assert_eq!(client.subscribe(&own_topic("a"), 1).await, 1);
        lab.publish("a", "t", "secret").await;
        let delivery = client.delivery().await;
        assert_eq!(delivery.topic, own_topic("a"));
        let text = r#"{"clientAccessToken":"secret","clientMode":"destination","region":"us-east-1","services":["SSH"]}"#;
        assert_eq!(delivery.payload, text);
        assert!(delivery.packet_id.is_some() && !delivery.again && !delivery.retain);
        client.acknowledge(&delivery).await;
        client.ping().await;
        client.silence().await;
    }
}

#[tokio::test]
async fn an_unacknowledged_message_comes_again_with_dup_and_the_same_id() {
    let lab = Lab::new();
    let certificate = lab.device("a").await;
    let mut client = lab.dial(certificate).await;
    client.connect("a", false).await;
    client.subscribe(&own_topic("a"), 1).await;
    lab.publish("a", "t1", "one").await;
    lab.publish("a", "t2", "two").await;
    let first = client.delivery().await;
    client.silence().await; // one in flight
    drop(client);
    let mut client = lab.dial(certificate).await;
    assert_eq!(client.connect("a", false).await, (0, true));
    let again = client.delivery().await;
    assert!(again.again && again.packet_id == first.packet_id && again.token() == "one");
    client.acknowledge(&again).await;
    let second = client.delivery().await;
    assert!(!second.again && second.token() == "two");
}

#[tokio::test]
async fn a_persistent_session_outlives_a_restart_of_the_broker() {
    let mut lab = Lab::new();
    let directory = tempfile::tempdir().unwrap();
    let dir = crate::data_dir::DataDir::open(directory.path()).unwrap();
    let restart = |lab: &mut Lab| {
        let sealer = Sealer::in_dir(&dir).unwrap();
        lab.broker = broker(&lab.mailbox, &lab.registry, sealer, &lab.clock, &lab.limits);
    };
    restart(&mut lab);
    let certificate = lab.device("a").await;
    let mut client = lab.dial(certificate).await;
    client.connect("a", false).await;
    client.subscribe(&own_topic("a"), 1).await;
    client.leave().await;
    lab.publish("a", "t1", "one").await;
    restart(&mut lab);
    lab.publish("a", "t2", "two").await;
    let mut client = lab.dial(certificate).await;
    assert_eq!(client.connect("a", false).await, (0, true));
    assert_eq!(
        (client.take().await, client.take().await),
        ("one".into(), "two".into())
    );
}

#[tokio::test]
async fn a_clean_session_leaves_nothing_behind() {
    let lab = Lab::new();
    let certificate = lab.device("a").await;
    let mut client = lab.dial(certificate).await;
    client.connect("a", true).await;
    client.subscribe(&own_topic("a"), 1).await;
    client.leave().await;
    lab.publish("a", "t1", "one").await;
    let mut client = lab.dial(certificate).await;
    assert_eq!(client.connect("a", false).await, (0, false));
    client.silence().await;
}

#[tokio::test]
async fn a_session_of_mqtt_5_lives_as_long_as_asked_for_but_an_hour_at_most() {
    let lab = Lab::new();
    let certificate = lab.device("a").await;
    for (expiry, after, present) in [
        (60, 59, true),
        (60, 61, false),
        (u32::MAX, 3599, true),
        (u32::MAX, 3601, false),
    ] {
        let mut client = lab.dial(certificate).await;
        let body = client.connect_v5("a", true, expiry).await;
        let told = body.windows(5).any(|w| w == [0x11, 0, 0, 0x0e, 0x10]);
        assert_eq!(told, expiry == u32::MAX, "{body:x?}");
        client.subscribe(&own_topic("a"), 1).await;
        client.leave().await;
        lab.clock.advance(Duration::from_secs(after));
        let mut client = lab.dial(certificate).await;
        let body = client.connect_v5("a", false, 0).await;
        assert_eq!(body[0] == 1, present, "{expiry} s, after {after} s");
        client.leave().await;
    }
}

#[tokio::test]
async fn a_rotated_token_is_not_delivered_and_the_new_one_is() {
    let lab = Lab::new();
    let certificate = lab.device("a").await;
    let mut client = lab.dial(certificate).await;
    client.connect("a", false).await;
    client.subscribe(&own_topic("a"), 1).await;
    client.leave().await;
    lab.publish("a", "t1", "old").await;
    lab.publish("a", "t2", "closed").await;
    lab.revoke("t1");
    lab.publish("a", "t1", "new").await;
    lab.revoke("t2");
    let mut client = lab.dial(certificate).await;
    client.connect("a", false).await;
    assert_eq!(client.take().await, "new");
    client.silence().await;
}

#[tokio::test]
async fn a_message_nobody_fetched_for_an_hour_is_gone() {
    let lab = Lab::with(|l| l.session_expiry_max = Duration::from_secs(7200));
    let certificate = lab.device("a").await;
    let mut client = lab.dial(certificate).await;
    client.connect("a", false).await;
    client.subscribe(&own_topic("a"), 1).await;
    client.leave().await;
    lab.publish("a", "t1", "old").await;
    lab.clock.advance(Duration::from_secs(3600));
    let mut client = lab.dial(certificate).await;
    assert_eq!(client.connect("a", false).await, (0, true));
    client.silence().await;
}

#[tokio::test]
async fn a_second_connection_of_a_device_displaces_the_first() {
    let lab = Lab::new();
    let certificate = lab.device("a").await;
    let mut first = lab.dial(certificate).await;
    first.connect_v5("a", true, 600).await;
    first.subscribe(&own_topic("a"), 1).await;
    let mut second = lab.dial(certificate).await;
    assert_eq!(second.connect("a", false).await, (0, true));
    let goodbye = first.receive().await.unwrap();
    assert_eq!((goodbye.0, goodbye.1[0]), (0xe0, 0x8e));
    first.closed().await;
    lab.publish("a", "t1", "one").await;
    assert_eq!(second.take().await, "one");
    // A stranger with the same client id displaces nobody.
    let mut stranger = lab.dial(lab.device("b").await).await;
    assert_eq!(stranger.connect("a", true).await.0, 5);
    stranger.closed().await;
    second.ping().await;
}

#[tokio::test]
async fn a_foreign_or_impossible_client_id_is_refused_with_the_right_code() {
    let lab = Lab::new();
    let certificate = lab.device("a").await;
    lab.device("b").await;
    for (id, v3, v5) in [
        ("b", 5, 0x87),
        ("nobody", 5, 0x87),
        ("not a name", 2, 0x85),
        ("", 2, 0x85),
    ] {
        let mut client = lab.dial(certificate).await;
        assert_eq!(client.connect(id, true).await, (v3, false), "{id}");
        client.closed().await;
        let mut client = lab.dial(certificate).await;
        assert_eq!(client.connect_v5(id, true, 0).await[1], v5, "{id}");
        client.closed().await;
    }
}

#[tokio::test]
async fn an_unknown_or_inactive_certificate_gets_no_answer() {
    let lab = Lab::new();
    let inactive = lab.device("a").await;
    lab.set_status(&inactive, CertificateStatus::Inactive).await;
    for certificate in [CertificateId::of(b"unknown"), inactive] {
        let mut client = lab.dial(certificate).await;
        client.closed().await;
    }
}

#[tokio::test]
async fn whatever_takes_the_right_away_cuts_the_live_connection() {
    let lab = Lab::new();
    lab.follow();
    for (index, how) in ["inactive", "revoked", "detached", "policy"]
        .into_iter()
        .enumerate()
    {
        let name = format!("d{index}");
        let certificate = lab.device(&name).await;
        let mut client = lab.dial(certificate).await;
        client.connect_v5(&name, true, 600).await;
        client.subscribe(&own_topic(&name), 1).await;
        match how {
            "inactive" => {
                lab.set_status(&certificate, CertificateStatus::Inactive)
                    .await
            }
            "revoked" => {
                lab.set_status(&certificate, CertificateStatus::Revoked)
                    .await
            }
            "detached" => {
                let name = thing(&name);
                lab.registry
                    .detach_thing(&name, &certificate)
                    .await
                    .unwrap();
            }
            _ => {
                let nothing = r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#;
                lab.policy(&certificate, nothing).await;
            }
        }
        let goodbye = client.receive().await.unwrap();
        assert_eq!((goodbye.0, goodbye.1[0]), (0xe0, 0x98), "{how}");
        client.closed().await;
    }
}

#[tokio::test]
async fn late_news_of_a_deleted_thing_takes_nothing_from_the_one_after_it() {
    // Renewed every 16 s; when in doubt, a fifth of a second after the last time.
    let lab = Lab::with(|l| l.lease = Duration::from_secs(48));
    let changes = ChangeSender::new();
    let (broker, heard) = (Arc::clone(&lab.broker), changes.listen());
    tokio::spawn(async move { broker.follow(heard).await });
    let mut client = lab.dial(lab.device("a").await).await;
    client.connect_v5("a", true, 600).await;
    client.subscribe(&own_topic("a"), 1).await;
    changes.send(Change::ThingDeleted(thing("a")));
    client.silence().await;
    lab.publish("a", "t", "one").await;
    assert_eq!(client.take().await, "one");
    // A connection whose session went with the thing before has to come again.
    lab.mailbox.inner.forget(&thing("a"));
    changes.send(Change::ThingDeleted(thing("a")));
    let goodbye = client.receive().await.unwrap();
    assert_eq!((goodbye.0, goodbye.1[0]), (0xe0, 0x8e));
}

#[tokio::test]
async fn unsubscribing_ends_deliveries() {
    let lab = Lab::new();
    let mut client = lab.dial(lab.device("a").await).await;
    client.connect("a", true).await;
    client.subscribe(&own_topic("a"), 1).await;
    let mut body = vec![0, 4];
    body.extend(client::text(&own_topic("a")));
    client.send(&packet(0xa2, &body)).await;
    assert_eq!(client.receive().await, Some((0xb0, vec![0, 4])));
    lab.publish("a", "t1", "one").await;
    client.silence().await;
}

#[tokio::test]
async fn devices_beyond_the_limit_are_told_to_come_later() {
    let lab = Lab::with(|l| l.connections_max = 1);
    let (a, b) = (lab.device("a").await, lab.device("b").await);
    let mut first = lab.dial(a).await;
    assert_eq!(first.connect("a", true).await.0, 0);
    let mut second = lab.dial(b).await;
    assert_eq!(second.connect("b", true).await.0, 3);
    first.leave().await;
    let mut third = lab.dial(b).await;
    assert_eq!(third.connect("b", true).await.0, 0);
}

#[tokio::test]
async fn a_device_takes_the_place_of_its_own_dead_connection_when_all_are_taken() {
    let lab = Lab::with(|l| l.connections_max = 1);
    let (a, b) = (lab.device("a").await, lab.device("b").await);
    // It says nothing more, and closes nothing.
    let mut dead = lab.dial(a).await;
    dead.connect_v5("a", true, 600).await;
    dead.subscribe(&own_topic("a"), 1).await;
    let mut alive = lab.dial(a).await;
    assert_eq!(alive.connect("a", false).await, (0, true));
    lab.publish("a", "t", "one").await;
    assert_eq!(alive.take().await, "one");
    // It was not made a place of its own, nor does it give way to others.
    let mut other = lab.dial(b).await;
    assert_eq!(other.connect("b", true).await.0, 3);
    alive.ping().await;
}

#[tokio::test]
async fn stopping_says_goodbye_and_keeps_the_session() {
    let lab = Lab::new();
    let certificate = lab.device("a").await;
    let mut client = lab.dial(certificate).await;
    client.connect_v5("a", true, 600).await;
    client.subscribe(&own_topic("a"), 1).await;
    lab.stop.send_replace(true);
    let goodbye = client.receive().await.unwrap();
    assert_eq!((goodbye.0, goodbye.1[0]), (0xe0, 0x8b));
    client.closed().await;
    lab.stop.send_replace(false);
    lab.publish("a", "t1", "one").await;
    let mut client = lab.dial(certificate).await;
    assert_eq!(client.connect_v5("a", false, 600).await[0], 1);
    assert_eq!(client.take().await, "one");
}
