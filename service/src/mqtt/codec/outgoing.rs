//! What is sent to clients, each in the words of their version.

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use rmqtt_codec::error::EncodeError;
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::{v3, v5};
use tokio_util::codec::Encoder as _;
use zeroize::Zeroize as _;

use super::Codec;
use crate::mqtt::limits::PACKET_SIZE_MAX;
use crate::notify::Qos;

/// A packet to a client.
#[derive(Clone, Debug)]
pub(in crate::mqtt) enum Outgoing {
    Accepted(Accepted),
    Refused(Refused),
    Publish {
        topic: String,
        payload: Bytes,
        qos: Qos,
        /// Used with QoS 1.
        packet_id: NonZeroU16,
        again: bool,
    },
    SubscribeAck {
        packet_id: NonZeroU16,
        outcomes: Vec<SubscribeOutcome>,
    },
    UnsubscribeAck {
        packet_id: NonZeroU16,
        /// Whether there was such a subscription.
        existed: Vec<bool>,
    },
    Pong,
    /// Why the connection is about to be closed. MQTT 3.1.1 has no word for it.
    Disconnect(Ending),
}

/// What the client should know of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mqtt) struct Accepted {
    pub(in crate::mqtt) session_present: bool,
    /// In seconds, when it is not what was asked for.
    pub(in crate::mqtt) session_expiry: Option<u32>,
    /// In seconds, when it is not what was asked for.
    pub(in crate::mqtt) keep_alive: Option<u16>,
}

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mqtt) enum Refused {
    Version,
    /// The client id is no thing's name.
    ClientId,
    /// The client id is another one's, or the policy does not allow it.
    NotAuthorized,
    Unavailable,
    Full,
    AuthMethod,
    WillRetain,
    WillQos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mqtt) enum SubscribeOutcome {
    Granted(Qos),
    NotAuthorized,
    TooMany,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mqtt) enum Ending {
    /// The client did what it may not.
    NotAuthorized,
    ProtocolError,
    Malformed,
    TooLarge,
    KeepAlive,
    TakenOver,
    /// Its certificate, thing or policy no longer allows it to be here.
    Revoked,
    SubscriptionIdentifier,
    ShuttingDown,
    Unavailable,
}

/// Why a packet was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mqtt) enum EncodeFault {
    /// It is larger than the client takes.
    TooLarge,
    /// It cannot be said in this version, or before the version is known.
    Unsayable,
}

impl From<EncodeError> for EncodeFault {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::OverMaxPacketSize { .. } => Self::TooLarge,
            _ => Self::Unsayable,
        }
    }
}

impl Codec {
    /// Appends a packet.
    pub(in crate::mqtt) fn encode(
        &mut self,
        packet: Outgoing,
        bytes: &mut BytesMut,
    ) -> Result<(), EncodeFault> {
        match self {
            Self::Unknown => Err(EncodeFault::Unsayable),
            Self::V3(codec) => {
                let packet = to_v3(packet).ok_or(EncodeFault::Unsayable)?;
                Ok(codec.encode(packet, bytes)?)
            }
            Self::V5 { codec, size_max } => {
                let start = bytes.len();
                codec.encode(to_v5(packet), bytes)?;
                if bytes.len() - start <= *size_max {
                    return Ok(());
                }
                // It may have been a notification.
                bytes[start..].zeroize();
                bytes.truncate(start);
                Err(EncodeFault::TooLarge)
            }
        }
    }
}

fn to_v3(packet: Outgoing) -> Option<v3::Packet> {
    use v3::{ConnectAckReason as Reason, SubscribeReturnCode as Code};
    Some(match packet {
        Outgoing::Accepted(accepted) => v3::Packet::ConnectAck(v3::ConnectAck {
            return_code: Reason::ConnectionAccepted,
            session_present: accepted.session_present,
        }),
        Outgoing::Refused(refused) => v3::Packet::ConnectAck(v3::ConnectAck {
            return_code: match refused {
                Refused::Version => Reason::UnacceptableProtocolVersion,
                Refused::ClientId => Reason::IdentifierRejected,
                Refused::Unavailable | Refused::Full => Reason::ServiceUnavailable,
                Refused::NotAuthorized
                | Refused::AuthMethod
                | Refused::WillRetain
                | Refused::WillQos => Reason::NotAuthorized,
            },
            session_present: false,
        }),
        Outgoing::Publish { .. } => v3::Packet::Publish(Box::new(to_publish(packet, false)?)),
        Outgoing::SubscribeAck {
            packet_id,
            outcomes,
        } => v3::Packet::SubscribeAck {
            packet_id,
            status: (outcomes.into_iter())
                .map(|outcome| match outcome {
                    SubscribeOutcome::Granted(qos) => Code::Success(to_qos(qos)),
                    SubscribeOutcome::NotAuthorized | SubscribeOutcome::TooMany => Code::Failure,
                })
                .collect(),
        },
        Outgoing::UnsubscribeAck { packet_id, .. } => v3::Packet::UnsubscribeAck { packet_id },
        Outgoing::Pong => v3::Packet::PingResponse,
        Outgoing::Disconnect(_) => return None,
    })
}

fn to_v5(packet: Outgoing) -> v5::Packet {
    match packet {
        Outgoing::Accepted(accepted) => v5::ConnectAck {
            session_present: accepted.session_present,
            session_expiry_interval_secs: accepted.session_expiry,
            server_keepalive_sec: accepted.keep_alive,
            max_qos: QoS::AtLeastOnce,
            max_packet_size: Some(PACKET_SIZE_MAX),
            retain_available: false,
            wildcard_subscription_available: false,
            subscription_identifiers_available: false,
            shared_subscription_available: false,
            ..v5::ConnectAck::default()
        }
        .into(),
        Outgoing::Refused(refused) => v5::ConnectAck {
            reason_code: refusal(refused),
            max_qos: QoS::AtLeastOnce,
            retain_available: false,
            ..v5::ConnectAck::default()
        }
        .into(),
        Outgoing::Publish { .. } => to_publish(packet, true).expect("it is one").into(),
        Outgoing::SubscribeAck {
            packet_id,
            outcomes,
        } => v5::SubscribeAck {
            packet_id,
            properties: Vec::new(),
            reason_string: None,
            status: outcomes.into_iter().map(subscribe_reason).collect(),
        }
        .into(),
        Outgoing::UnsubscribeAck { packet_id, existed } => v5::UnsubscribeAck {
            packet_id,
            properties: Vec::new(),
            reason_string: None,
            status: existed.into_iter().map(unsubscribe_reason).collect(),
        }
        .into(),
        Outgoing::Pong => v5::Packet::PingResponse,
        Outgoing::Disconnect(ending) => v5::Disconnect::new(ending_reason(ending)).into(),
    }
}

fn to_publish(packet: Outgoing, properties: bool) -> Option<Publish> {
    let Outgoing::Publish {
        topic,
        payload,
        qos,
        packet_id,
        again,
    } = packet
    else {
        return None;
    };
    Some(Publish {
        dup: again && qos == Qos::AtLeastOnce,
        retain: false,
        qos: to_qos(qos),
        topic: topic.into(),
        packet_id: (qos == Qos::AtLeastOnce).then_some(packet_id),
        payload,
        properties: properties.then(v5::PublishProperties::default),
    })
}

fn to_qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    }
}

fn refusal(refused: Refused) -> v5::ConnectAckReason {
    use v5::ConnectAckReason as Reason;
    match refused {
        Refused::Version => Reason::UnsupportedProtocolVersion,
        Refused::ClientId => Reason::ClientIdentifierNotValid,
        Refused::NotAuthorized => Reason::NotAuthorized,
        Refused::Unavailable => Reason::ServerUnavailable,
        Refused::Full => Reason::QuotaExceeded,
        Refused::AuthMethod => Reason::BadAuthenticationMethod,
        Refused::WillRetain => Reason::RetainNotSupported,
        Refused::WillQos => Reason::QosNotSupported,
    }
}

fn subscribe_reason(outcome: SubscribeOutcome) -> v5::SubscribeAckReason {
    use v5::SubscribeAckReason as Reason;
    match outcome {
        SubscribeOutcome::Granted(Qos::AtMostOnce) => Reason::GrantedQos0,
        SubscribeOutcome::Granted(Qos::AtLeastOnce) => Reason::GrantedQos1,
        SubscribeOutcome::NotAuthorized => Reason::NotAuthorized,
        SubscribeOutcome::TooMany => Reason::QuotaExceeded,
    }
}

fn unsubscribe_reason(existed: bool) -> v5::UnsubscribeAckReason {
    if existed {
        v5::UnsubscribeAckReason::Success
    } else {
        v5::UnsubscribeAckReason::NoSubscriptionExisted
    }
}

fn ending_reason(ending: Ending) -> v5::DisconnectReasonCode {
    use v5::DisconnectReasonCode as Reason;
    match ending {
        Ending::NotAuthorized => Reason::NotAuthorized,
        Ending::ProtocolError => Reason::ProtocolError,
        Ending::Malformed => Reason::MalformedPacket,
        Ending::TooLarge => Reason::PacketTooLarge,
        Ending::KeepAlive => Reason::KeepAliveTimeout,
        Ending::TakenOver => Reason::SessionTakenOver,
        Ending::Revoked => Reason::AdministrativeAction,
        Ending::SubscriptionIdentifier => Reason::SubscriptionIdentifiersNotSupported,
        Ending::ShuttingDown => Reason::ServerShuttingDown,
        Ending::Unavailable => Reason::UnspecifiedError,
    }
}
