//! Where both sides speak the same dialect, what is forwarded is the input, byte for byte, without
//! what has no stream: compared with a second, simple-minded reading of the rules over `prost`.

use super::lab::*;
use crate::tunnel::flow::Flow;
use adit_proto::ids::{Mode, Subprotocol};
use proptest::prelude::*;
use prost::Message as _;
use std::collections::BTreeMap;

/// What the rules say about one message.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Forward,
    Drop,
    Refuse,
    /// The sides differ from here on; other tests look at that.
    Differ,
}

#[derive(Default)]
struct Model {
    services: Vec<&'static str>,
    /// By service name; with whether its messages carry connection ids.
    streams: BTreeMap<String, (i32, bool)>,
    last_stream: BTreeMap<String, i32>,
    named: Option<bool>,
    /// Labels that the destination has used in the current stream.
    answered: BTreeMap<String, bool>,
}

impl Model {
    fn step(&mut self, from: Mode, bytes: &[u8]) -> Step {
        let Ok(message) = Message::decode(bytes) else {
            return Step::Refuse;
        };
        let Ok(kind) = Type::try_from(message.r#type) else {
            return if message.ignorable {
                Step::Drop
            } else {
                Step::Refuse
            };
        };
        // The generator writes every field once and none that is zero: what prost reads is as long,
        // unless it skipped an unknown field.
        let has_unknown_fields = message.encoded_len() != bytes.len();
        let starts = matches!(kind, Type::StreamStart | Type::ConnectionStart);
        let of_connection = matches!(kind, Type::ConnectionStart | Type::ConnectionReset);
        let service = message.service_id.clone();
        let is_named = !service.is_empty();
        let is_bad = matches!(kind, Type::Unknown | Type::SessionReset | Type::ServiceIds)
            || has_unknown_fields
            || starts && from == DESTINATION
            || message.stream_id <= 0
            || of_connection && message.connection_id == 0
            || message.payload.len() > 64_512
            || is_named && !self.services.contains(&&service[..])
            || !is_named && self.services.len() > 1;
        if is_bad {
            return Step::Refuse;
        }
        if *self.named.get_or_insert(is_named) != is_named {
            return Step::Differ;
        }
        let id = message.stream_id;
        if kind == Type::StreamStart {
            return self.start(service, id, message.connection_id > 0);
        }
        // It starts a stream, see `sessions`.
        if kind == Type::ConnectionStart && !self.last_stream.contains_key(&service) {
            return Step::Differ;
        }
        if kind == Type::Data && !self.last_stream.contains_key(&service) {
            return Step::Refuse;
        }
        match self.streams.get(&service) {
            Some((current, is_labelled)) if *current == id => {
                if kind == Type::StreamReset {
                    self.streams.remove(&service);
                    return if message.connection_id == 0 {
                        Step::Forward
                    } else {
                        Step::Differ
                    };
                }
                if *is_labelled == (message.connection_id > 0) {
                    if from == DESTINATION {
                        self.answered.insert(service, true);
                    }
                    return Step::Forward;
                }
                let answered = self.answered.contains_key(&service);
                if from == SOURCE || answered && *is_labelled {
                    Step::Refuse
                } else {
                    Step::Differ
                }
            }
            _ => Step::Drop,
        }
    }

    fn start(&mut self, service: String, id: i32, is_labelled: bool) -> Step {
        match self.streams.get(&service) {
            Some((current, was)) if *current == id => {
                return if *was == is_labelled {
                    Step::Forward
                } else {
                    Step::Refuse
                };
            }
            _ => {}
        }
        // An id from before gets another name towards the destination.
        if self
            .last_stream
            .get(&service)
            .is_some_and(|last| id <= *last)
        {
            return Step::Differ;
        }
        self.last_stream.insert(service.clone(), id);
        self.answered.remove(&service);
        self.streams.insert(service, (id, is_labelled));
        Step::Forward
    }
}

/// Fields in an order of their own, since no order may be relied on (specification 4).
fn encode_in_order(message: &Message, order: usize, unknown: bool) -> Vec<u8> {
    let only = |change: fn(&mut Message, &Message)| {
        let mut part = Message::default();
        change(&mut part, message);
        part.encode_to_vec()
    };
    let mut parts = [
        only(|part, all| part.r#type = all.r#type),
        only(|part, all| part.stream_id = all.stream_id),
        only(|part, all| part.ignorable = all.ignorable),
        only(|part, all| part.payload = all.payload.clone()),
        only(|part, all| part.service_id = all.service_id.clone()),
        only(|part, all| part.connection_id = all.connection_id),
        if unknown {
            vec![0x78, 0x01]
        } else {
            Vec::new()
        },
    ];
    parts.rotate_left(order % 7);
    if order >= 7 {
        parts.reverse();
    }
    prefixed(&parts.concat())
}

/// `is_wild`: what breaks rules is as likely as what does not.
fn any_message(is_wild: bool) -> impl Strategy<Value = Vec<u8>> {
    let rare = if is_wild { 3 } else { 0 };
    let kind = prop_oneof![
        8 => Just(1), 4 => Just(2), 2 => Just(3), 2 => Just(6), 2 => Just(7),
        rare => Just(0), rare => Just(4), rare => Just(5), rare => 8..100,
    ];
    let stream = prop_oneof![12 => 1..5, rare => -2..1, 1 => 120..140, 1 => Just(i32::MAX)];
    let service =
        prop_oneof![8 => Just("A"), 4 => Just("B"), rare => Just(""), rare => Just("unknown")];
    let connection = prop_oneof![10 => 1..4u32, rare => Just(0), 1 => Just(u32::MAX)];
    let payload = prop_oneof![6 => 0..40usize, 2 => 100..5000usize, rare => 64_510..64_515usize];
    (
        kind,
        stream,
        service,
        connection,
        payload,
        any::<u8>(),
        any::<bool>(),
        0..14usize,
    )
        .prop_map(
            move |(kind, stream, service, connection, size, byte, ignorable, order)| {
                let payload = match kind {
                    1 => vec![byte; size],
                    _ => Vec::new(),
                };
                let connection_id = if kind == 3 && byte > 20 {
                    0
                } else {
                    connection
                };
                let message = Message {
                    r#type: kind,
                    stream_id: stream,
                    ignorable: ignorable && byte < 40,
                    payload,
                    service_id: service.to_owned(),
                    available_service_ids: Vec::new(),
                    connection_id,
                };
                encode_in_order(&message, order, is_wild && byte > 250)
            },
        )
}

/// Messages of both sides, how they are cut into frames, and how those into buffers.
fn any_exchange(is_wild: bool) -> impl Strategy<Value = Vec<(bool, Vec<u8>, usize, usize)>> {
    let part = (
        any::<bool>(),
        any_message(is_wild),
        1..6000usize,
        1..20_000usize,
    );
    prop::collection::vec(part, 1..60)
}

/// The same in another dialect: without connection ids, or without service ids as well.
fn translated(bytes: &[u8], offered: Subprotocol) -> Option<Vec<u8>> {
    if offered == Subprotocol::V3 {
        return Some(bytes.to_vec());
    }
    let mut message = Message::decode(&bytes[2..]).ok()?;
    if matches!(message.r#type, 6 | 7) {
        return None;
    }
    message.connection_id = 0;
    if offered == Subprotocol::V1 {
        message.service_id.clear();
    }
    Some(encode_in_order(&message, bytes.len() % 14, false))
}

fn check(
    offered: Subprotocol,
    exchange: Vec<(bool, Vec<u8>, usize, usize)>,
) -> Result<(), TestCaseError> {
    let names: &[&'static str] = if offered == Subprotocol::V1 {
        &["A"]
    } else {
        &["A", "B"]
    };
    let mut lab = Lab::connected(names, offered, offered);
    let mut model = Model {
        services: names.to_vec(),
        ..Model::default()
    };
    for (is_source, bytes, frame_size, buffer_size) in exchange {
        let Some(bytes) = translated(&bytes, offered) else {
            continue;
        };
        let from = if is_source { SOURCE } else { DESTINATION };
        let step = model.step(from, &bytes[2..]);
        if step == Step::Differ {
            return Ok(());
        }
        let framed: Vec<u8> = bytes.chunks(frame_size).flat_map(frame).collect();
        let mut result = Ok(Flow::Done);
        for piece in framed.chunks(buffer_size) {
            result = result.and(lab.receive(from, piece.to_vec()));
        }
        let seen = lab.forwarded_bytes(from.other());
        match step {
            Step::Forward => prop_assert_eq!(seen, bytes),
            Step::Drop | Step::Refuse => prop_assert_eq!(seen, Vec::<u8>::new()),
            Step::Differ => {}
        }
        prop_assert_eq!(result.is_err(), step == Step::Refuse, "{:?}", result);
        if result.is_err() {
            return Ok(());
        }
    }
    prop_assert_eq!(
        lab.places[2],
        0,
        "nothing is rewritten where the dialects agree"
    );
    Ok(())
}

proptest! {
    #[test]
    fn v3_is_forwarded_as_it_came(exchange in any_exchange(false)) {
        check(Subprotocol::V3, exchange)?;
    }

    #[test]
    fn v2_is_forwarded_as_it_came(exchange in any_exchange(false)) {
        check(Subprotocol::V2, exchange)?;
    }

    #[test]
    fn v1_is_forwarded_as_it_came(exchange in any_exchange(false)) {
        check(Subprotocol::V1, exchange)?;
    }

    #[test]
    fn what_breaks_a_rule_is_refused_and_nothing_else(exchange in any_exchange(true)) {
        check(Subprotocol::V3, exchange)?;
    }
}
