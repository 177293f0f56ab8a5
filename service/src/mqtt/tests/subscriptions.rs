//! T-09 and T-10: nobody hears what is for another, and nobody speaks for the service.

use super::client::{packet, subscribe, text};
use super::*;
use crate::testing::{FOREIGN_FILTERS, asked};

#[tokio::test]
async fn no_identity_hears_what_is_for_another_whatever_it_subscribes_to() {
    let lab = Lab::new();
    let victim = lab.device("victim").await;
    let mut good = lab.dial(victim).await;
    assert_eq!(good.connect("victim", true).await.0, 0);
    assert_eq!(good.subscribe(&own_topic("victim"), 1).await, 1);
    for identity in ["other", "victi", "victim2"] {
        let certificate = lab.device(identity).await;
        for v5 in [false, true] {
            let mut client = lab.dial(certificate).await;
            if v5 {
                assert_eq!(client.connect_v5(identity, true, 0).await[1], 0);
            } else {
                assert_eq!(client.connect(identity, true).await.0, 0);
            }
            for filter in FOREIGN_FILTERS {
                let code = client.subscribe(filter, 1).await;
                assert_eq!(code, if v5 { 0x87 } else { 0x80 }, "{identity}: {filter}");
            }
            lab.publish("victim", "t", "secret").await;
            assert_eq!(good.take().await, "secret");
            client.silence().await;
        }
    }
}

#[tokio::test]
async fn a_generous_policy_grants_no_other_topic_and_a_strict_one_takes_the_own_away() {
    let lab = Lab::new();
    let (generous, strict) = (lab.device("generous").await, lab.device("strict").await);
    lab.policy(
        &generous,
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}"#,
    )
    .await;
    let mut client = lab.dial(generous).await;
    assert_eq!(client.connect("generous", true).await.0, 0);
    assert_eq!(client.subscribe(&own_topic("strict"), 1).await, 0x80);
    assert_eq!(client.subscribe("#", 1).await, 0x80);
    assert_eq!(client.subscribe(&own_topic("generous"), 1).await, 1);

    let name = PolicyName::new("connect-only").unwrap();
    let document = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect",
        "Resource":"arn:aws:iot:us-east-1:123456789012:client/${iot:Connection.Thing.ThingName}"}]}"#;
    let policy = Policy {
        name: name.clone(),
        document: document.into(),
        version: 1,
        created: Timestamp::from_millis(1),
    };
    lab.registry.create_policy(policy).await.unwrap();
    lab.registry.attach_policy(&name, &strict).await.unwrap();
    let mut client = lab.dial(strict).await;
    assert_eq!(client.connect("strict", true).await.0, 0);
    assert_eq!(client.subscribe(&own_topic("strict"), 1).await, 0x80);
}

#[tokio::test]
async fn a_policy_that_forbids_to_receive_keeps_messages_from_a_subscribed_device() {
    let lab = Lab::new();
    let certificate = lab.device("a").await;
    lab.policy(
        &certificate,
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["iot:Connect","iot:Subscribe"],"Resource":"*"}}"#,
    )
    .await;
    let mut client = lab.dial(certificate).await;
    client.connect("a", true).await;
    assert_eq!(client.subscribe(&own_topic("a"), 1).await, 1);
    lab.publish("a", "t", "secret").await;
    client.silence().await;
}

/// Each round is 24 forgeries: three topics, four kinds of publication, two versions. `ADIT_FORGERIES`
/// asks for more (a release: 10,000).
#[tokio::test]
async fn a_device_that_publishes_is_cut_and_nobody_hears_it() {
    let lab = Lab::new();
    let (a, b) = (lab.device("a").await, lab.device("b").await);
    let mut listener = lab.dial(b).await;
    listener.connect("b", true).await;
    listener.subscribe(&own_topic("b"), 1).await;
    let rounds = asked("ADIT_FORGERIES", 24).div_ceil(24);
    for _ in 0..rounds {
        for topic in [own_topic("a"), own_topic("b"), "x".to_owned()] {
            for first in [0x30, 0x31, 0x32, 0x34] {
                forge(&lab, a, &topic, first).await;
            }
        }
    }
    listener.silence().await;
    eprintln!("T-10: {} forged notifications, none heard", rounds * 24);
}

/// As the device of this certificate, in both versions; the first byte says whether it is retained, and
/// its quality of service.
async fn forge(lab: &Lab, certificate: CertificateId, topic: &str, first: u8) {
    let forged =
        br#"{"clientAccessToken":"x","clientMode":"destination","region":"r","services":["SSH"]}"#;
    let mut body = text(topic);
    if first & 6 != 0 {
        body.extend([0, 9]);
    }
    let mut client = lab.dial(certificate).await;
    client.connect("a", true).await;
    client
        .send(&packet(first, &[&body[..], forged].concat()))
        .await;
    client.closed().await;
    body.push(0);
    let mut client = lab.dial(certificate).await;
    client.connect_v5("a", true, 0).await;
    client
        .send(&packet(first, &[&body[..], forged].concat()))
        .await;
    let goodbye = client.receive().await.unwrap();
    let code = (goodbye.0, goodbye.1[0]);
    assert_eq!(code, (0xe0, 0x87), "{topic}, first byte {first:02x}");
    client.closed().await;
}

#[tokio::test]
async fn a_will_is_taken_and_never_published() {
    let lab = Lab::new();
    let (a, b) = (lab.device("a").await, lab.device("b").await);
    let mut listener = lab.dial(b).await;
    listener.connect("b", true).await;
    listener.subscribe(&own_topic("b"), 1).await;
    let mut body = text("MQTT");
    body.extend([4, 0x2e, 0, 60]); // will, QoS 1, retained, clean
    body.extend([text("a"), text(&own_topic("b")), text("forged")].concat());
    let mut client = lab.dial(a).await;
    client.send(&packet(0x10, &body)).await;
    assert_eq!(client.receive().await, Some((0x20, vec![0, 0])));
    drop(client);
    listener.silence().await;
}

#[tokio::test]
async fn only_so_many_filters_fit_into_one_subscribe() {
    let lab = Lab::new();
    let mut client = lab.dial(lab.device("a").await).await;
    client.connect_v5("a", true, 0).await;
    let own = own_topic("a");
    let mut filters = vec![("x", 1); 8];
    filters.push((&own, 1));
    client.send(&subscribe(3, &filters, true)).await;
    let (_, body) = client.receive().await.unwrap();
    assert_eq!(
        body[3..],
        [0x87, 0x87, 0x87, 0x87, 0x87, 0x87, 0x87, 0x87, 0x97]
    );
    // Asking for QoS 2 grants QoS 1.
    assert_eq!(client.subscribe(&own, 2).await, 1);
    assert_eq!(client.subscribe(&own, 0).await, 0);
    lab.publish("a", "t", "secret").await;
    let delivery = client.delivery().await;
    assert_eq!(
        (delivery.packet_id, delivery.token()),
        (None, "secret".to_owned())
    );
}
