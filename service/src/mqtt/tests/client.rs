//! A client that knows bytes, not the codec under test.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

pub(super) struct Client {
    pub(super) stream: DuplexStream,
    v5: bool,
}

/// First byte and what follows the length.
pub(super) type Packet = (u8, Vec<u8>);

/// A PUBLISH taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) topic: String,
    pub(super) payload: String,
    pub(super) packet_id: Option<u16>,
    pub(super) again: bool,
    pub(super) retain: bool,
}

impl Delivery {
    pub(super) fn token(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.payload).unwrap();
        json["clientAccessToken"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub(super) fn new(stream: DuplexStream) -> Self {
        Self { stream, v5: false }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next packet; `None` at the end.
    pub(super) async fn receive(&mut self) -> Option<Packet> {
        let read = async {
            let first = self.stream.read_u8().await.ok()?;
            let (mut size, mut shift) = (0usize, 0);
            loop {
                let byte = self.stream.read_u8().await.ok()?;
                size |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            let mut body = vec![0; size];
            self.stream.read_exact(&mut body).await.ok()?;
            Some((first, body))
        };
        timeout(LONG, read)
            .await
            .expect("a packet or the end was due")
    }

    /// Nothing comes for a while.
    pub(super) async fn silence(&mut self) {
        let mut byte = [0];
        let read = timeout(Duration::from_millis(100), self.stream.read(&mut byte)).await;
        assert!(read.is_err(), "something came: {byte:?}");
    }

    /// The connection is over without another word.
    pub(super) async fn closed(&mut self) {
        assert_eq!(self.receive().await, None);
    }

    /// CONNECT in 3.1.1; the return code and whether a session was there.
    pub(super) async fn connect(&mut self, client_id: &str, clean: bool) -> (u8, bool) {
        self.send(&connect_v3(client_id, clean, 60)).await;
        let (first, body) = self.receive().await.expect("CONNACK");
        assert_eq!((first, body.len()), (0x20, 2));
        (body[1], body[0] == 1)
    }

    /// CONNECT in MQTT 5 with a session that lives for so many seconds; CONNACK's body.
    pub(super) async fn connect_v5(
        &mut self,
        client_id: &str,
        clean: bool,
        expiry: u32,
    ) -> Vec<u8> {
        self.v5 = true;
        let mut properties = vec![0x11];
        properties.extend(expiry.to_be_bytes());
        self.send(&connect_v5(client_id, clean, 60, &properties))
            .await;
        let (first, body) = self.receive().await.expect("CONNACK");
        assert_eq!(first, 0x20);
        body
    }

    /// SUBSCRIBE with one filter; its code.
    pub(super) async fn subscribe(&mut self, filter: &str, qos: u8) -> u8 {
        self.send(&subscribe(7, &[(filter, qos)], self.v5)).await;
        let (first, body) = self.receive().await.expect("SUBACK");
        assert_eq!((first, &body[..2]), (0x90, &[0, 7][..]));
        *body.last().unwrap()
    }

    pub(super) async fn delivery(&mut self) -> Delivery {
        let (first, body) = self.receive().await.expect("PUBLISH");
        assert_eq!(first & 0xf0, 0x30, "{body:?}");
        let topic_size = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let (topic, mut rest) = body[2..].split_at(topic_size);
        let packet_id = (first & 6 != 0).then(|| {
            let id = u16::from_be_bytes([rest[0], rest[1]]);
            rest = &rest[2..];
            id
        });
        if self.v5 {
            assert_eq!(rest[0], 0, "no properties");
            rest = &rest[1..];
        }
        Delivery {
            topic: String::from_utf8(topic.to_vec()).unwrap(),
            payload: String::from_utf8(rest.to_vec()).unwrap(),
            packet_id,
            again: first & 8 != 0,
            retain: first & 1 != 0,
        }
    }

    pub(super) async fn acknowledge(&mut self, delivery: &Delivery) {
        let id = delivery.packet_id.unwrap().to_be_bytes();
        self.send(&[0x40, 2, id[0], id[1]]).await;
    }

    /// Delivers, acknowledges, gives the token.
    pub(super) async fn take(&mut self) -> String {
        let delivery = self.delivery().await;
        self.acknowledge(&delivery).await;
        delivery.token()
    }

    /// PINGREQ is answered, so everything before it was dealt with.
    pub(super) async fn ping(&mut self) {
        self.send(&[0xc0, 0]).await;
        assert_eq!(self.receive().await, Some((0xd0, Vec::new())));
    }

    /// DISCONNECT, and the end.
    pub(super) async fn leave(mut self) {
        self.send(&[0xe0, 0]).await;
        self.closed().await;
    }
}

pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut size = body.len();
    loop {
        let more = size >= 0x80;
        bytes.push((size & 0x7f) as u8 | if more { 0x80 } else { 0 });
        size >>= 7;
        if !more {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

pub(super) fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

pub(super) fn connect_v3(client_id: &str, clean: bool, keep_alive: u16) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([4, if clean { 2 } else { 0 }]);
    body.extend(keep_alive.to_be_bytes());
    body.extend(text(client_id));
    packet(0x10, &body)
}

pub(super) fn connect_v5(
    client_id: &str,
    clean: bool,
    keep_alive: u16,
    properties: &[u8],
) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([5, if clean { 2 } else { 0 }]);
    body.extend(keep_alive.to_be_bytes());
    body.push(properties.len() as u8);
    body.extend(properties);
    body.extend(text(client_id));
    packet(0x10, &body)
}

pub(super) fn subscribe(id: u16, filters: &[(&str, u8)], v5: bool) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if v5 {
        body.push(0);
    }
    for (filter, qos) in filters {
        body.extend(text(filter));
        body.push(*qos);
    }
    packet(0x82, &body)
}

pub(super) const LONG: Duration = Duration::from_secs(10);

impl Client {
    /// CONNECT in MQTT 5 that resumes the session and takes packets up to this size only.
    pub(super) async fn connect_v5_limited(&mut self, client_id: &str, size_max: u32) {
        self.v5 = true;
        let mut properties = vec![0x27];
        properties.extend(size_max.to_be_bytes());
        self.send(&connect_v5(client_id, false, 60, &properties))
            .await;
        let (first, body) = self.receive().await.expect("CONNACK");
        assert_eq!((first, body[1]), (0x20, 0));
    }
}
