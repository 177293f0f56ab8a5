//! Specification 6.2 and 6.4: a source and a destination of every dialect understand each other.
//!
//! Both are scripted and strict: they panic on a message that their dialect does not have.

use super::lab::*;
use adit_proto::ids::{Dialect, Subprotocol};
use std::collections::BTreeMap;

const DIALECTS: [(Dialect, Subprotocol); 3] = [
    (Dialect::V1, Subprotocol::V1),
    (Dialect::V2, Subprotocol::V2),
    (Dialect::V3, Subprotocol::V3),
];

/// Local connections by connection id, 0 where the dialect has none; the bytes each received.
type Connections = BTreeMap<u32, Vec<u8>>;

struct Source {
    dialect: Dialect,
    service: &'static str,
    stream: i32,
    has_stream: bool,
    last_connection: u32,
    open: Connections,
}

impl Source {
    fn new(dialect: Dialect, service: &'static str) -> Self {
        let service = if dialect == Dialect::V1 { "" } else { service };
        Self {
            dialect,
            service,
            stream: 0,
            has_stream: false,
            last_connection: 0,
            open: BTreeMap::new(),
        }
    }

    fn is_v3(&self) -> bool {
        self.dialect == Dialect::V3
    }

    /// A local client connects.
    fn accept(&mut self) -> (u32, Message) {
        if self.is_v3() {
            self.last_connection += 1;
        }
        let id = self.last_connection;
        self.open.insert(id, Vec::new());
        if self.is_v3() && self.has_stream {
            return (id, connection_start(self.stream, self.service, id));
        }
        self.stream += 1;
        self.has_stream = true;
        (id, stream_start(self.stream, self.service, id))
    }

    fn write(&self, id: u32, bytes: &[u8]) -> Message {
        data(self.stream, self.service, id, bytes)
    }

    /// A local client closes.
    fn end(&mut self, id: u32) -> Message {
        self.open.remove(&id).expect("it was open");
        if self.is_v3() {
            return connection_reset(self.stream, self.service, id);
        }
        self.has_stream = false;
        stream_reset(self.stream, self.service)
    }

    fn handle(&mut self, message: &Message) {
        assert!(self.has_stream, "{message:?}");
        assert_eq!(message.stream_id, self.stream);
        assert_eq!(message.service_id, self.service);
        let id = message.connection_id;
        match message.r#type() {
            Type::Data => {
                let received = self
                    .open
                    .get_mut(&id)
                    .expect("data is for an open connection");
                received.extend_from_slice(&message.payload);
            }
            Type::ConnectionReset if self.is_v3() => {
                self.open.remove(&id).expect("an open connection ends");
            }
            Type::StreamReset => {
                assert_eq!(id, 0);
                self.has_stream = false;
                self.open.clear();
            }
            _ => panic!("a source of {} got {message:?}", self.dialect),
        }
    }
}

/// Sends back what it gets.
struct Destination {
    dialect: Dialect,
    service: &'static str,
    stream: Option<i32>,
    /// As the reference with `-y`: takes every form, and answers in its own.
    is_lenient: bool,
    open: Connections,
    /// The stream was started without connection ids, or its dialect has none.
    is_single: bool,
}

impl Destination {
    fn new(dialect: Dialect, service: &'static str) -> Self {
        let service = if dialect == Dialect::V1 { "" } else { service };
        Self {
            dialect,
            service,
            stream: None,
            is_lenient: false,
            open: BTreeMap::new(),
            is_single: true,
        }
    }

    fn handle(&mut self, message: &Message) -> Option<Message> {
        let mut id = message.connection_id;
        if self.is_lenient {
            id = 0;
        } else {
            assert_eq!(message.service_id, self.service, "{message:?}");
            assert!(self.dialect == Dialect::V3 || id == 0, "{message:?}");
        }
        let stream = message.stream_id;
        match message.r#type() {
            Type::StreamStart => {
                assert!(
                    self.open.is_empty() || self.dialect == Dialect::V3,
                    "one connection only"
                );
                self.stream = Some(stream);
                self.is_single = id == 0;
                self.open = BTreeMap::from([(id, Vec::new())]);
            }
            Type::ConnectionStart if !self.is_single => {
                assert_eq!(self.stream, Some(stream));
                assert_eq!(
                    self.open.insert(id, Vec::new()),
                    None,
                    "connection ids are unique"
                );
            }
            Type::Data => {
                assert_eq!(self.stream, Some(stream));
                let received = self
                    .open
                    .get_mut(&id)
                    .expect("data is for an open connection");
                received.extend_from_slice(&message.payload);
                return Some(data(stream, self.service, id, &message.payload));
            }
            Type::ConnectionReset if !self.is_single => {
                assert_eq!(self.stream, Some(stream));
                self.open.remove(&id).expect("an open connection ends");
            }
            Type::StreamReset => {
                assert_eq!((self.stream, message.connection_id), (Some(stream), 0));
                self.stream = None;
                self.open.clear();
            }
            _ => panic!("a destination of {} got {message:?}", self.dialect),
        }
        None
    }

    /// The application closes.
    fn end(&mut self, id: u32) -> Message {
        let stream = self.stream.expect("there is a stream");
        self.open.remove(&id).expect("it was open");
        if !self.is_single {
            return connection_reset(stream, self.service, id);
        }
        self.stream = None;
        stream_reset(stream, self.service)
    }
}

struct Pair {
    lab: Lab,
    source: Source,
    destination: Destination,
}

impl Pair {
    fn new(
        names: &[&'static str],
        source: (Dialect, Subprotocol),
        destination: (Dialect, Subprotocol),
    ) -> Self {
        let service = names.first().copied().unwrap_or_default();
        Self {
            lab: Lab::connected(names, source.1, destination.1),
            source: Source::new(source.0, service),
            destination: Destination::new(destination.0, service),
        }
    }

    fn source_says(&mut self, message: Message) {
        for message in self.lab.pass(SOURCE, &[message]) {
            if let Some(answer) = self.destination.handle(&message) {
                self.destination_says(answer);
            }
        }
        for answer in self.lab.answers(SOURCE) {
            self.source.handle(&answer);
        }
    }

    fn destination_says(&mut self, message: Message) {
        for message in self.lab.pass(DESTINATION, &[message]) {
            self.source.handle(&message);
        }
        assert_eq!(self.lab.answers(DESTINATION), []);
    }

    fn open(&mut self) -> u32 {
        let (id, message) = self.source.accept();
        self.source_says(message);
        id
    }

    /// Bytes go there and come back.
    fn echo(&mut self, id: u32, bytes: &[u8]) {
        let before = self.source.open[&id].len();
        self.source_says(self.source.write(id, bytes));
        assert_eq!(&self.source.open[&id][before..], bytes);
    }

    fn source_ends(&mut self, id: u32) {
        let message = self.source.end(id);
        self.source_says(message);
    }

    fn destination_ends(&mut self, id: u32) {
        let message = self.destination.end(id);
        self.destination_says(message);
    }

    /// One connection after the other, each ended by the other side than the one before.
    fn one_connection_at_a_time(&mut self) {
        for turn in 0..6u8 {
            let id = self.open();
            self.echo(id, &[turn; 100]);
            self.echo(id, b"more");
            assert_eq!(self.destination.open.len(), 1);
            if turn % 2 == 0 {
                self.source_ends(id);
            } else {
                let id = *self.destination.open.keys().next().unwrap();
                self.destination_ends(id);
            }
            assert!(self.source.open.is_empty() && self.destination.open.is_empty());
        }
    }
}

#[test]
fn every_pairing_carries_one_connection_at_a_time() {
    for names in [&[][..], &["SSH"]] {
        for source in DIALECTS {
            for destination in DIALECTS {
                Pair::new(names, source, destination).one_connection_at_a_time();
            }
        }
    }
}

/// The reference offers 3.0 whatever it speaks (specification 6.3).
#[test]
fn a_source_is_known_by_what_it_says_and_not_by_what_it_offers() {
    for (dialect, _) in DIALECTS {
        for destination in DIALECTS {
            let source = (dialect, Subprotocol::V3);
            Pair::new(&["SSH"], source, destination).one_connection_at_a_time();
        }
    }
}

#[test]
fn a_destination_is_known_by_its_first_answer() {
    for source in DIALECTS {
        for dialect in [Dialect::V1, Dialect::V2] {
            let mut pair = Pair::new(&["SSH"], source, (dialect, Subprotocol::V3));
            pair.destination.is_lenient = true;
            pair.one_connection_at_a_time();
            // By now it gets its own form.
            pair.destination.is_lenient = false;
            pair.one_connection_at_a_time();
        }
    }
}

#[test]
fn pairs_that_know_connection_ids_have_many_connections() {
    let mut pair = Pair::new(&["SSH"], DIALECTS[2], DIALECTS[2]);
    let ids: Vec<u32> = (0..5).map(|_| pair.open()).collect();
    for id in &ids {
        pair.echo(*id, format!("connection {id}").as_bytes());
    }
    pair.source_ends(ids[0]);
    pair.destination_ends(ids[1]);
    pair.echo(ids[2], b"still there");
    assert_eq!(pair.destination.open.len(), 3);
    assert_eq!(pair.lab.places[2], 0, "nothing is rewritten");
}

/// Specification 6.4 (c).
#[test]
fn a_second_connection_to_an_old_destination_is_refused_and_the_first_lives_on() {
    for destination in &DIALECTS[..2] {
        let mut pair = Pair::new(&["SSH"], DIALECTS[2], *destination);
        let first = pair.open();
        pair.echo(first, b"one");
        let second = pair.open();
        assert!(
            !pair.source.open.contains_key(&second),
            "the source was told that it ended"
        );
        pair.echo(first, b"two");
        assert_eq!(pair.lab.relay.counters(SOURCE).busy, 1);
        pair.source_ends(first);
        let third = pair.open();
        pair.echo(third, b"three");
    }
}

#[test]
fn data_of_an_ended_connection_does_not_reach_the_next_one() {
    let mut pair = Pair::new(&["SSH"], DIALECTS[2], DIALECTS[0]);
    let first = pair.open();
    let late = pair.source.write(first, b"late");
    pair.destination_ends(0);
    // The reference echoes the reset (specification 7.6); its data was under way already.
    pair.source_says(late.clone());
    pair.source_says(connection_reset(1, "SSH", first));
    let second = pair.open();
    pair.source_says(late);
    pair.source_says(connection_reset(1, "SSH", first));
    pair.echo(second, b"mine");
    assert_eq!(pair.destination.open[&0], b"mine");
    // And back: the old stream of the destination.
    assert_eq!(
        pair.lab
            .pass(DESTINATION, &[data(1, "", 0, b"late"), stream_reset(1, "")]),
        []
    );
    pair.echo(second, b"still mine");
}

#[test]
fn a_stream_reset_of_the_source_ends_the_bridged_connection() {
    let mut lab = Lab::connected(&["A"], Subprotocol::V3, Subprotocol::V2);
    lab.pass(SOURCE, &[stream_start(1, "A", 1)]);
    assert_eq!(
        lab.pass(SOURCE, &[stream_reset(1, "A")]),
        [stream_reset(1, "A")]
    );
    lab.pass(
        SOURCE,
        &[stream_start(2, "A", 2), connection_reset(2, "A", 2)],
    );
    assert_eq!(
        lab.pass(SOURCE, &[stream_reset(2, "A")]),
        [],
        "the destination has none"
    );
}

#[test]
fn a_new_stream_ends_the_bridged_connection_of_the_old_one() {
    let mut lab = Lab::connected(&["A"], Subprotocol::V3, Subprotocol::V2);
    lab.pass(SOURCE, &[stream_start(1, "A", 1)]);
    let seen = lab.pass(SOURCE, &[stream_start(2, "A", 2), data(2, "A", 2, b"x")]);
    assert_eq!(
        seen,
        [
            stream_reset(1, "A"),
            stream_start(2, "A", 0),
            data(2, "A", 0, b"x")
        ]
    );
}

#[test]
fn a_lost_side_of_a_bridge_ends_the_stream_of_the_other() {
    for lost in [SOURCE, DESTINATION] {
        let mut lab = Lab::connected(&["A"], Subprotocol::V3, Subprotocol::V1);
        lab.pass(
            SOURCE,
            &[
                stream_start(1, "A", 1),
                connection_reset(1, "A", 1),
                connection_start(1, "A", 2),
            ],
        );
        lab.relay.lost(lost);
        let told = if lost == SOURCE {
            stream_reset(2, "")
        } else {
            stream_reset(1, "A")
        };
        assert_eq!(lab.answers(lost.other()), [told]);
    }
}

/// With several connections open, bytes without a connection id could be for any of them.
#[test]
fn bytes_for_one_of_several_connections_are_not_guessed() {
    let mut lab = Lab::v3(&["A"]);
    lab.pass(
        SOURCE,
        &[stream_start(1, "A", 1), connection_start(1, "A", 2)],
    );
    let seen = lab.pass(DESTINATION, &[data(1, "A", 0, b"for whom?")]);
    assert_eq!(seen, [stream_reset(1, "A")]);
    assert_eq!(lab.answers(DESTINATION), [stream_reset(1, "A")]);
    // From now on it gets one connection for each stream.
    let seen = lab.pass(
        SOURCE,
        &[stream_start(2, "A", 3), connection_start(2, "A", 4)],
    );
    assert_eq!(seen, [stream_start(2, "A", 0)]);
    assert_eq!(lab.answers(SOURCE), [connection_reset(2, "A", 4)]);
}

/// A destination that takes an absent connection id for 1 (specification 5.3) may say so.
#[test]
fn a_source_without_connection_ids_sees_none() {
    let mut lab = Lab::connected(&["A"], Subprotocol::V2, Subprotocol::V3);
    lab.pass(SOURCE, &[stream_start(1, "A", 0)]);
    assert_eq!(
        lab.pass(DESTINATION, &[data(1, "A", 1, b"x")]),
        [data(1, "A", 0, b"x")]
    );
    assert_eq!(
        lab.pass(DESTINATION, &[connection_reset(1, "A", 1)]),
        [stream_reset(1, "A")]
    );
    assert_eq!(lab.answers(DESTINATION), [stream_reset(1, "A")]);
}

/// Specification 6.2: two services and an end of version 1 do not go together.
#[test]
fn several_services_are_refused_towards_a_destination_that_cannot_tell_them_apart() {
    let mut lab = Lab::connected(&["A", "B"], Subprotocol::V3, Subprotocol::V1);
    assert_eq!(lab.pass(SOURCE, &[stream_start(1, "A", 1)]), []);
    assert_eq!(lab.answers(SOURCE), [stream_reset(1, "A")]);
    assert_eq!(lab.relay.counters(SOURCE).unable, 1);
}

#[test]
fn the_handshake_does_not_overrule_what_messages_show() {
    // A reference client whose subprotocol setting says 1.0 speaks V3 all the same.
    let mut lab = Lab::connected(&["A"], Subprotocol::V1, Subprotocol::V3);
    let messages = [stream_start(1, "A", 1), data(1, "A", 1, b"x")];
    lab.passes(SOURCE, &messages);
    let back = [data(1, "A", 1, b"y")];
    lab.passes(DESTINATION, &back);
    assert_eq!(lab.places[2], 0, "nothing is rewritten");
}

/// AWS's SDKs offer 3.0, and answer in no other form than that in which the first stream was started: with a source of V1
/// nobody names the service (control plane specification 13.3).
#[test]
fn a_destination_that_has_shown_nothing_sees_the_form_of_the_source() {
    let (v1, v3) = (stream_start(1, "", 0), stream_start(1, "A", 1));
    for first in [v1, v3] {
        let mut lab = Lab::new(&["A"]);
        lab.connect(SOURCE, Subprotocol::V3);
        lab.connect(DESTINATION, Subprotocol::V3);
        lab.relay.adapt_to_sdk(DESTINATION);
        lab.passes(SOURCE, std::slice::from_ref(&first));
        let answer = data(1, &first.service_id, first.connection_id, b"banner");
        lab.passes(DESTINATION, &[answer]);
        lab.relay.lost(SOURCE);
        let end = stream_reset(1, &first.service_id);
        assert_eq!(lab.said(DESTINATION).messages, [end]);
    }
}
