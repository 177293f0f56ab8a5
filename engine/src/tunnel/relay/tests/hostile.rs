//! Nothing a peer sends makes the relay panic, forward what it must not, or forward after a
//! violation.

use super::lab::*;
use crate::tunnel::flow::Flow;
use adit_proto::ids::{Mode, Subprotocol};
use adit_proto::websocket::Opcode;
use proptest::prelude::*;
use prost::Message as _;

#[derive(Debug, Clone)]
enum Step {
    Connect(Mode, Subprotocol),
    Lost(Mode),
    /// A message in one frame; the payload is numbered.
    Message(Mode, Message),
    /// Bytes in a proper frame.
    Content(Mode, Vec<u8>),
    /// Bytes as they are.
    Raw(Mode, Vec<u8>),
    Close(Mode),
    Ping(Mode),
}

fn any_side() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(SOURCE), Just(DESTINATION)]
}

fn any_offer() -> impl Strategy<Value = Subprotocol> {
    prop_oneof![1 => Just(Subprotocol::V1), 1 => Just(Subprotocol::V2), 2 => Just(Subprotocol::V3)]
}

fn any_message() -> impl Strategy<Value = Message> {
    let kind = prop_oneof![9 => 1..4, 4 => 6..8, 1 => -1..9];
    let stream = prop_oneof![20 => 1..4, 1 => -1..1];
    let service = prop_oneof![6 => Just("A"), 6 => Just(""), 1 => Just("B"), 1 => Just("x")];
    let connection = prop_oneof![2 => Just(0), 5 => 1..4u32];
    (kind, stream, service, connection, any::<bool>()).prop_map(
        |(kind, stream_id, service, connection_id, ignorable)| {
            let service_id = service.to_owned();
            Message {
                r#type: kind,
                stream_id,
                service_id,
                connection_id,
                ignorable,
                ..Message::default()
            }
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let connect =
        (any_side(), any_offer()).prop_map(|(side, offered)| Step::Connect(side, offered));
    let message =
        (any_side(), any_message()).prop_map(|(side, message)| Step::Message(side, message));
    let content = (any_side(), bytes()).prop_map(|(side, bytes)| Step::Content(side, bytes));
    let raw = (any_side(), bytes()).prop_map(|(side, bytes)| Step::Raw(side, bytes));
    prop_oneof![
        4 => connect,
        1 => any_side().prop_map(Step::Lost),
        60 => message,
        2 => content,
        1 => raw,
        1 => any_side().prop_map(Step::Close),
        2 => any_side().prop_map(Step::Ping),
    ]
}

/// What is known of one side without asking the relay.
#[derive(Default)]
struct Peer {
    /// Numbers of the payloads it sent in this session and that were not forwarded yet.
    sent: Vec<u32>,
    has_failed: bool,
}

struct Run {
    lab: Lab,
    names: &'static [&'static str],
    peers: [Peer; 2],
    next: u32,
}

impl Run {
    fn peer(&mut self, side: Mode) -> &mut Peer {
        &mut self.peers[usize::from(side == DESTINATION)]
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Connect(side, offered) => {
                self.lab.relay.lost(side);
                *self.peer(side) = Peer::default();
                self.lab.connect(side, offered);
            }
            Step::Lost(side) => self.lab.relay.lost(side),
            Step::Message(side, mut message) => {
                if message.r#type() == Type::Data {
                    self.next += 1;
                    message.payload = self.next.to_be_bytes().to_vec();
                    let number = self.next;
                    self.peer(side).sent.push(number);
                }
                self.receive(side, frame(&encode(&message)))?;
            }
            Step::Content(side, bytes) => self.receive(side, frame(&bytes))?,
            Step::Raw(side, bytes) => self.receive(side, bytes)?,
            Step::Close(side) => self.receive(side, client_control(Opcode::Close, &[]))?,
            Step::Ping(side) => self.receive(side, client_control(Opcode::Ping, b"1"))?,
        }
        for side in [SOURCE, DESTINATION] {
            for message in self.lab.said(side).messages {
                self.check_form(&message, side)?;
                prop_assert!(matches!(
                    message.r#type(),
                    Type::StreamReset | Type::ConnectionReset
                ));
            }
        }
        Ok(())
    }

    fn receive(&mut self, from: Mode, bytes: Vec<u8>) -> Result<(), TestCaseError> {
        let result = self.lab.receive(from, bytes);
        let is_present = self.lab.relay.is_present(from);
        let is_other_present = self.lab.relay.is_present(from.other());
        for message in self.lab.forwarded(from.other()) {
            prop_assert!(is_present && is_other_present && !self.peer(from).has_failed);
            self.check_form(&message, from.other())?;
            if message.r#type() == Type::Data {
                self.check_payload(from, &message.payload)?;
            }
        }
        if !matches!(result, Ok(Flow::Done)) {
            self.peer(from).has_failed = true;
        }
        Ok(())
    }

    fn check_form(&self, message: &Message, to: Mode) -> Result<(), TestCaseError> {
        let kind = Type::try_from(message.r#type);
        let is_start = matches!(kind, Ok(Type::StreamStart | Type::ConnectionStart));
        prop_assert!(!matches!(
            kind,
            Err(_) | Ok(Type::Unknown | Type::SessionReset | Type::ServiceIds)
        ));
        prop_assert!(!is_start || to == DESTINATION);
        prop_assert!(message.stream_id > 0);
        prop_assert!(
            message.service_id.is_empty() || self.names.contains(&&message.service_id[..])
        );
        prop_assert!(!message.service_id.is_empty() || self.names.len() <= 1);
        let of_connection = matches!(kind, Ok(Type::ConnectionStart | Type::ConnectionReset));
        prop_assert!(!of_connection || message.connection_id > 0);
        prop_assert!(kind != Ok(Type::StreamReset) || message.connection_id == 0);
        Ok(())
    }

    /// Forwarded payloads are some of those sent, in order, each once, whole.
    fn check_payload(&mut self, from: Mode, payload: &[u8]) -> Result<(), TestCaseError> {
        prop_assert_eq!(payload.len(), 4);
        let number = u32::from_be_bytes(payload.try_into().unwrap());
        let sent = &mut self.peer(from).sent;
        let at = sent.iter().position(|it| *it == number);
        prop_assert!(at.is_some(), "payload {} was not sent, or twice", number);
        sent.drain(..=at.unwrap());
        Ok(())
    }
}

proptest! {
    #[test]
    fn hostile_peers_get_nothing_through(
        names in prop_oneof![Just(&[][..]), Just(&["A"][..]), Just(&["A", "B"][..])],
        offers in (any_offer(), any_offer()),
        steps in prop::collection::vec(any_step(), 1..120),
    ) {
        let lab = Lab::connected(names, offers.0, offers.1);
        let mut run = Run { lab, names, peers: Default::default(), next: 0 };
        for step in steps {
            run.step(step)?;
        }
    }

    #[test]
    fn any_bytes_of_a_fresh_peer_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        for content in [bytes.clone(), frame(&bytes), frame(&prefixed(&bytes))] {
            let mut lab = Lab::v3(&["A"]);
            let _ = lab.receive(SOURCE, content);
        }
    }
}

#[test]
fn a_message_of_every_field_twice_is_read_as_prost_reads_it() {
    let mut lab = Lab::v3(&["A"]);
    let twice = [
        stream_start(9, "x", 3).encode_to_vec(),
        stream_start(1, "A", 1).encode_to_vec(),
    ]
    .concat();
    assert_eq!(
        lab.receive(SOURCE, frame(&prefixed(&twice))),
        Ok(Flow::Done)
    );
    assert_eq!(lab.forwarded_bytes(DESTINATION), prefixed(&twice));
}
