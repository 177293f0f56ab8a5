//! Bytes that are wrong, late, or in pieces.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::client::{LONG, connect_v3, connect_v5, packet, subscribe};
use super::*;

#[tokio::test]
async fn a_transcript_cut_at_every_byte_is_understood_the_same() {
    let lab = Lab::new();
    let certificate = lab.device("a").await;
    let own = own_topic("a");
    for v5 in [false, true] {
        let mut bytes = if v5 {
            connect_v5("a", true, 60, &[0x21, 0, 1])
        } else {
            connect_v3("a", true, 60)
        };
        bytes.extend(subscribe(7, &[(&own, 1)], v5));
        bytes.extend([0xc0, 0, 0xe0, 0]);
        let mut expected = None;
        for cut in 0..bytes.len() {
            let mut stream = lab.socket(certificate, 64 * 1024).await;
            stream.write_all(&bytes[..cut]).await.unwrap();
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            stream.write_all(&bytes[cut..]).await.unwrap();
            let mut answer = Vec::new();
            let read = timeout(LONG, stream.read_to_end(&mut answer)).await;
            read.unwrap().unwrap();
            let ends_with_pong = answer.ends_with(&[0xd0, 0]);
            assert!(ends_with_pong, "cut at {cut}: {answer:x?}");
            assert_eq!(
                expected.get_or_insert(answer.clone()),
                &answer,
                "cut at {cut}"
            );
        }
    }
}

#[tokio::test]
async fn what_no_client_may_send_ends_the_connection() {
    let lab = Lab::new();
    let certificate = lab.device("a").await;
    let big = packet(0x82, &[0; 20_000]);
    let again = connect_v5("a", true, 60, &[]);
    let cases: [(&str, &[u8], u8); 8] = [
        ("CONNECT twice", &again, 0x82),
        ("CONNACK", &[0x20, 3, 0, 0, 0], 0x82),
        ("PUBREC", &[0x50, 2, 0, 1], 0x82),
        ("AUTH", &[0xf0, 0], 0x82),
        ("SUBSCRIBE without a filter", &[0x82, 3, 0, 1, 0], 0x81),
        (
            "SUBSCRIBE with an identifier",
            &[0x82, 9, 0, 1, 2, 0x0b, 5, 0, 1, b'x', 0],
            0xa1,
        ),
        ("a reserved type", &[0x00, 0], 0x81),
        ("too large", &big, 0x95),
    ];
    for (what, bytes, code) in cases {
        let mut client = lab.dial(certificate).await;
        client.connect_v5("a", true, 0).await;
        client.send(bytes).await;
        let goodbye = client
            .receive()
            .await
            .unwrap_or_else(|| panic!("{what}: no word"));
        assert_eq!((goodbye.0, goodbye.1[0]), (0xe0, code), "{what}");
        client.closed().await;
    }
}

#[tokio::test]
async fn what_is_no_connect_gets_no_answer() {
    let lab = Lab::new();
    let certificate = lab.device("a").await;
    let cases: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xc0, 0],
        &[0x10, 0xff, 0xff, 0xff, 0xff, 1],
        b"\x10\x10\x00\x04HTTP\x04\x02\x00\x3c\x00\x01a",
        b"\x10\x0d\x00\x04MQTT\x09\x02\x00\x3c\x00\x01a",
        &subscribe(1, &[("x", 0)], false),
    ];
    for bytes in cases {
        let mut client = lab.dial(certificate).await;
        client.send(bytes).await;
        client.closed().await;
    }
    // MQTT 3.1, which has an answer for it.
    let mut client = lab.dial(certificate).await;
    client
        .send(b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a")
        .await;
    assert_eq!(client.receive().await, Some((0x20, vec![0, 1])));
    client.closed().await;
}

#[tokio::test]
async fn a_client_that_sends_no_connect_in_time_is_cut() {
    let lab = Lab::with(|l| l.handshake_timeout = SHORT);
    let certificate = lab.device("a").await;
    let connect = connect_v3("a", true, 60);
    for sent in [0, 1, connect.len() - 1] {
        let mut client = lab.dial(certificate).await;
        client.send(&connect[..sent]).await;
        client.closed().await;
    }
}

#[tokio::test]
async fn a_silent_client_is_cut_after_one_and_a_half_times_its_keep_alive() {
    let lab = Lab::with(|l| l.keep_alive_max = Duration::from_secs(1));
    let certificate = lab.device("a").await;
    // One asks for a second; one for none; one for more than there is.
    for keep_alive in [1, 0, 600] {
        let mut client = lab.dial(certificate).await;
        client.send(&connect_v5("a", true, keep_alive, &[])).await;
        let (_, body) = client.receive().await.unwrap();
        let told = body.windows(3).any(|window| window == [0x13, 0, 1]);
        assert_eq!(told, keep_alive != 1, "{body:x?}");
        tokio::time::sleep(Duration::from_millis(1200)).await;
        client.send(&[0xc0, 0]).await;
        assert_eq!(client.receive().await.unwrap().0, 0xd0);
        let goodbye = client.receive().await.unwrap();
        assert_eq!((goodbye.0, goodbye.1[0]), (0xe0, 0x8d));
        client.closed().await;
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_and_its_message_kept() {
    let lab = Lab::with(|l| l.write_timeout = SHORT);
    let certificate = lab.device("a").await;
    let mut stream = lab.socket(certificate, 200).await;
    stream.write_all(&connect_v3("a", false, 60)).await.unwrap();
    let mut four = [0; 4];
    stream.read_exact(&mut four).await.unwrap();
    stream
        .write_all(&subscribe(1, &[(&own_topic("a"), 1)], false))
        .await
        .unwrap();
    let mut five = [0; 5];
    stream.read_exact(&mut five).await.unwrap();
    lab.publish("a", "t1", &"x".repeat(500)).await;
    // It is gone although nothing was read.
    let registry = Arc::clone(&lab.broker.live);
    crate::testing::eventually("the stalled client is cut", async || {
        registry.seen(|_, _| true).is_empty()
    })
    .await;
    let mut client = lab.dial(certificate).await;
    assert_eq!(client.connect("a", false).await, (0, true));
    let delivery = client.delivery().await;
    assert!(delivery.again && delivery.token().len() == 500);
}

#[tokio::test]
async fn a_message_larger_than_the_client_takes_is_dropped_and_the_next_one_comes() {
    let lab = Lab::new();
    let mut client = lab.dial(lab.device("a").await).await;
    client.connect_v5("a", true, 0).await;
    client.leave().await;
    let mut client = lab.dial(CertificateId::of(b"a")).await;
    client.connect_v5("a", true, 600).await;
    client.subscribe(&own_topic("a"), 1).await;
    client.leave().await;
    lab.publish("a", "t1", &"x".repeat(1000)).await;
    lab.publish("a", "t2", "small").await;
    let mut client = lab.dial(CertificateId::of(b"a")).await;
    client.connect_v5_limited("a", 400).await;
    assert_eq!(client.take().await, "small");
}
