//! What clients send.

use std::num::NonZeroU16;

use rmqtt_codec::types::{MQTT_LEVEL_311, QoS};
use rmqtt_codec::{v3, v5};

use crate::notify::Qos;

/// A packet from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mqtt) enum Incoming {
    Connect(Connect),
    Subscribe {
        packet_id: NonZeroU16,
        filters: Vec<Filter>,
        /// Whether deliveries should carry a subscription identifier.
        has_identifier: bool,
    },
    Unsubscribe {
        packet_id: NonZeroU16,
        filters: Vec<String>,
    },
    /// A device publishes. What, nobody wants to know.
    Publish,
    PublishAck(NonZeroU16),
    Ping,
    Disconnect {
        /// In seconds, when it changes what CONNECT said.
        session_expiry: Option<u32>,
    },
    /// A packet that no client may send, or not to us.
    Unexpected,
}

/// How a client introduces itself. User name and password are not kept: the certificate says who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mqtt) struct Connect {
    /// False for MQTT 3.1, which is not spoken here.
    pub(in crate::mqtt) supported: bool,
    pub(in crate::mqtt) is_v5: bool,
    pub(in crate::mqtt) client_id: String,
    /// Clean session, or clean start.
    pub(in crate::mqtt) clean: bool,
    /// In seconds; zero is none.
    pub(in crate::mqtt) keep_alive: u16,
    /// How long the session should outlive the connection, in seconds; `u32::MAX` is for ever.
    pub(in crate::mqtt) session_expiry: u32,
    pub(in crate::mqtt) packet_size_max: Option<u32>,
    /// Whether the client wants another authentication than its certificate.
    pub(in crate::mqtt) has_auth_method: bool,
    pub(in crate::mqtt) will: Option<Will>,
}

/// A will is taken and never published: devices publish nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mqtt) struct Will {
    pub(in crate::mqtt) retain: bool,
    pub(in crate::mqtt) exactly_once: bool,
}

/// One entry of SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mqtt) struct Filter {
    pub(in crate::mqtt) topic: String,
    /// What can be granted of what was asked for.
    pub(in crate::mqtt) qos: Qos,
}

impl Filter {
    fn new(topic: &str, qos: QoS) -> Self {
        Self {
            topic: topic.to_owned(),
            qos: match qos {
                QoS::AtMostOnce => Qos::AtMostOnce,
                QoS::AtLeastOnce | QoS::ExactlyOnce => Qos::AtLeastOnce,
            },
        }
    }
}

impl From<v3::Packet> for Incoming {
    fn from(packet: v3::Packet) -> Self {
        use v3::Packet::*;
        match packet {
            Connect(connect) => Self::Connect((*connect).into()),
            Subscribe {
                packet_id,
                topic_filters,
            } => Self::Subscribe {
                packet_id,
                filters: topic_filters
                    .iter()
                    .map(|(t, qos)| Filter::new(t, *qos))
                    .collect(),
                has_identifier: false,
            },
            Unsubscribe {
                packet_id,
                topic_filters,
            } => Self::Unsubscribe {
                packet_id,
                filters: topic_filters
                    .iter()
                    .map(|topic| topic.to_string())
                    .collect(),
            },
            Publish(_) => Self::Publish,
            PublishAck { packet_id } => Self::PublishAck(packet_id),
            PingRequest => Self::Ping,
            Disconnect => Self::Disconnect {
                session_expiry: None,
            },
            ConnectAck(_)
            | PublishReceived { .. }
            | PublishRelease { .. }
            | PublishComplete { .. }
            | SubscribeAck { .. }
            | UnsubscribeAck { .. }
            | PingResponse => Self::Unexpected,
        }
    }
}

impl From<v3::Connect> for Connect {
    fn from(connect: v3::Connect) -> Self {
        Self {
            supported: connect.protocol.level() == MQTT_LEVEL_311,
            is_v5: false,
            client_id: connect.client_id.to_string(),
            clean: connect.clean_session,
            keep_alive: connect.keep_alive,
            // In 3.1.1 a session that is not clean lives for ever.
            session_expiry: if connect.clean_session { 0 } else { u32::MAX },
            packet_size_max: None,
            has_auth_method: false,
            will: connect.last_will.map(|will| Will {
                retain: will.retain,
                exactly_once: will.qos == QoS::ExactlyOnce,
            }),
        }
    }
}

impl From<v5::Packet> for Incoming {
    fn from(packet: v5::Packet) -> Self {
        use v5::Packet::*;
        match packet {
            Connect(connect) => Self::Connect((*connect).into()),
            Subscribe(subscribe) => Self::Subscribe {
                packet_id: subscribe.packet_id,
                filters: (subscribe.topic_filters.iter())
                    .map(|(topic, options)| Filter::new(topic, options.qos))
                    .collect(),
                has_identifier: subscribe.id.is_some(),
            },
            Unsubscribe(unsubscribe) => Self::Unsubscribe {
                packet_id: unsubscribe.packet_id,
                filters: (unsubscribe.topic_filters.iter())
                    .map(|topic| topic.to_string())
                    .collect(),
            },
            Publish(_) => Self::Publish,
            // Whatever its reason says: the device has seen the message and wants no other copy.
            PublishAck(acknowledgement) => Self::PublishAck(acknowledgement.packet_id),
            PingRequest => Self::Ping,
            Disconnect(disconnect) => Self::Disconnect {
                session_expiry: disconnect.session_expiry_interval_secs,
            },
            ConnectAck(_) | PublishReceived(_) | PublishRelease(_) | PublishComplete(_)
            | SubscribeAck(_) | UnsubscribeAck(_) | PingResponse | Auth(_) => Self::Unexpected,
        }
    }
}

impl From<v5::Connect> for Connect {
    fn from(connect: v5::Connect) -> Self {
        Self {
            supported: true,
            is_v5: true,
            client_id: connect.client_id.to_string(),
            clean: connect.clean_start,
            keep_alive: connect.keep_alive,
            session_expiry: connect.session_expiry_interval_secs,
            packet_size_max: connect.max_packet_size.map(u32::from),
            has_auth_method: connect.auth_method.is_some(),
            will: connect.last_will.map(|will| Will {
                retain: will.retain,
                exactly_once: will.qos == QoS::ExactlyOnce,
            }),
        }
    }
}
