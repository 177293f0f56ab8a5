//! Peers of any dialect that open, write, end and reconnect while messages are under way: every
//! byte that an application gets is from its one partner, in order, with none missing before it.

use super::lab::*;
use crate::tunnel::flow::Flow;
use adit_proto::ids::{Mode, Subprotocol};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

/// One end of an application's connection. It numbers what it sends, and knows its partner by the
/// first thing it gets.
#[derive(Debug)]
struct App {
    name: u32,
    sent: u32,
    partner: Option<u32>,
    received: u32,
}

impl App {
    fn new(name: u32) -> Self {
        Self {
            name,
            sent: 0,
            partner: None,
            received: 0,
        }
    }

    fn write(&mut self) -> Vec<u8> {
        self.sent += 1;
        [self.name.to_be_bytes(), self.sent.to_be_bytes()].concat()
    }

    fn read(&mut self, payload: &[u8]) {
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        let partner = *self.partner.get_or_insert(number(0));
        assert_eq!(number(0), partner, "bytes of somebody else");
        self.received += 1;
        assert_eq!(
            number(4),
            self.received,
            "bytes are missing or out of order"
        );
    }
}

/// Either side; ids start at 1 again with every session, as in the reference.
struct Peer {
    mode: Mode,
    offered: Subprotocol,
    stream: i32,
    has_stream: bool,
    last_connection: u32,
    apps: BTreeMap<u32, App>,
    /// On its way to the relay.
    outgoing: VecDeque<Message>,
    /// On its way from the relay.
    incoming: VecDeque<Message>,
    refused: u32,
}

impl Peer {
    fn new(mode: Mode, offered: Subprotocol) -> Self {
        Self {
            mode,
            offered,
            stream: 0,
            has_stream: false,
            last_connection: 0,
            apps: BTreeMap::new(),
            outgoing: VecDeque::new(),
            incoming: VecDeque::new(),
            refused: 0,
        }
    }

    fn service(&self) -> &'static str {
        if self.offered == Subprotocol::V1 {
            ""
        } else {
            "A"
        }
    }

    fn is_v3(&self) -> bool {
        self.offered == Subprotocol::V3
    }

    fn accept(&mut self, name: u32) {
        if !self.is_v3() && self.has_stream {
            return;
        }
        let is_first = !self.has_stream;
        if is_first {
            self.stream += 1;
            self.has_stream = true;
        }
        if self.is_v3() {
            self.last_connection += 1;
        }
        let id = self.last_connection;
        self.apps.insert(id, App::new(name));
        let start = if is_first {
            stream_start
        } else {
            connection_start
        };
        self.outgoing
            .push_back(start(self.stream, self.service(), id));
    }

    fn write(&mut self, choice: usize) {
        let (stream, service, count) = (self.stream, self.service(), self.apps.len());
        if let Some((id, app)) = self.apps.iter_mut().nth(choice % count.max(1)) {
            self.outgoing
                .push_back(data(stream, service, *id, &app.write()));
        }
    }

    fn end(&mut self, choice: usize) {
        let count = self.apps.len();
        let Some(id) = self.apps.keys().copied().nth(choice % count.max(1)) else {
            return;
        };
        self.apps.remove(&id);
        if id > 0 {
            return self
                .outgoing
                .push_back(connection_reset(self.stream, self.service(), id));
        }
        self.has_stream = false;
        self.outgoing
            .push_back(stream_reset(self.stream, self.service()));
    }

    fn handle(&mut self, message: Message, next_name: &mut u32) {
        assert_eq!(message.service_id, self.service(), "its own dialect");
        let (stream, id) = (message.stream_id, message.connection_id);
        let is_current = self.has_stream && stream == self.stream;
        *next_name += 1;
        match message.r#type() {
            Type::StreamStart if self.mode == DESTINATION => {
                self.stream = stream;
                self.has_stream = true;
                self.apps = BTreeMap::from([(id, App::new(*next_name))]);
            }
            Type::ConnectionStart if self.mode == DESTINATION => {
                assert!(is_current && self.is_v3());
                let before = self.apps.insert(id, App::new(*next_name));
                assert!(before.is_none(), "a connection id twice");
            }
            Type::Data if is_current => {
                if let Some(app) = self.apps.get_mut(&id) {
                    app.read(&message.payload);
                }
            }
            Type::ConnectionReset if is_current => {
                assert!(self.is_v3());
                self.apps.remove(&id);
            }
            Type::StreamReset if is_current => {
                self.has_stream = false;
                self.apps.clear();
            }
            Type::Data | Type::ConnectionReset | Type::StreamReset => self.refused += 1,
            kind => panic!("a {} got {kind:?}", self.mode),
        }
    }
}

struct World {
    lab: Lab,
    peers: [Peer; 2],
    next_name: u32,
}

fn at(side: Mode) -> usize {
    usize::from(side == DESTINATION)
}

impl World {
    fn new(offers: [Subprotocol; 2]) -> Self {
        Self {
            lab: Lab::connected(&["A"], offers[0], offers[1]),
            peers: [
                Peer::new(SOURCE, offers[0]),
                Peer::new(DESTINATION, offers[1]),
            ],
            next_name: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Accept => {
                self.next_name += 1;
                self.peers[0].accept(self.next_name);
            }
            Step::Write(side, choice) => self.peers[at(side)].write(choice),
            Step::End(side, choice) => self.peers[at(side)].end(choice),
            Step::Reconnect(side, offered) => {
                self.lab.relay.lost(side);
                self.lab.connect(side, offered);
                self.peers[at(side)] = Peer::new(side, offered);
                self.collect(side.other());
            }
            Step::ToRelay(side, count) => (0..count).for_each(|_| self.relay_one(side)),
            Step::FromRelay(side, count) => {
                for _ in 0..count {
                    if let Some(message) = self.peers[at(side)].incoming.pop_front() {
                        self.peers[at(side)].handle(message, &mut self.next_name);
                    }
                }
            }
        }
    }

    fn relay_one(&mut self, from: Mode) {
        let Some(message) = self.peers[at(from)].outgoing.pop_front() else {
            return;
        };
        assert_eq!(
            self.lab.send(from, &[message]),
            Ok(Flow::Done),
            "honest peers are not refused"
        );
        self.collect(from);
        self.collect(from.other());
    }

    /// What the relay has for `side` gets on its way, what it has to say itself first.
    fn collect(&mut self, side: Mode) {
        let incoming = &mut self.peers[at(side)].incoming;
        incoming.extend(self.lab.answers(side));
        incoming.extend(self.lab.forwarded(side));
    }

    /// Everything under way arrives.
    fn settle(&mut self) {
        while self
            .peers
            .iter()
            .any(|peer| !peer.outgoing.is_empty() || !peer.incoming.is_empty())
        {
            for side in [SOURCE, DESTINATION] {
                self.step(&Step::ToRelay(side, 1000));
                self.step(&Step::FromRelay(side, 1000));
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A client connects to the source.
    Accept,
    Write(Mode, usize),
    End(Mode, usize),
    Reconnect(Mode, Subprotocol),
    ToRelay(Mode, usize),
    FromRelay(Mode, usize),
}

fn any_side() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(SOURCE), Just(DESTINATION)]
}

fn any_offer() -> impl Strategy<Value = Subprotocol> {
    prop_oneof![
        Just(Subprotocol::V1),
        Just(Subprotocol::V2),
        Just(Subprotocol::V3)
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Accept),
        8 => (any_side(), 0..8usize).prop_map(|(side, choice)| Step::Write(side, choice)),
        2 => (any_side(), 0..8usize).prop_map(|(side, choice)| Step::End(side, choice)),
        1 => (any_side(), any_offer()).prop_map(|(side, offered)| Step::Reconnect(side, offered)),
        8 => (any_side(), 1..5usize).prop_map(|(side, count)| Step::ToRelay(side, count)),
        8 => (any_side(), 1..5usize).prop_map(|(side, count)| Step::FromRelay(side, count)),
    ]
}

proptest! {
    #[test]
    fn applications_get_the_bytes_of_their_partner_and_no_others(
        offers in (any_offer(), any_offer()),
        steps in prop::collection::vec(any_step(), 1..150),
    ) {
        let mut world = World::new([offers.0, offers.1]);
        for step in &steps {
            world.step(step);
        }
        world.settle();
        // When nothing is under way, both sides agree on what is open, and a new connection works.
        let open = [world.peers[0].apps.len(), world.peers[1].apps.len()];
        prop_assert_eq!(open[0], open[1]);
        while let Some(id) = world.peers[0].apps.keys().next().copied() {
            prop_assert!(world.peers[0].apps.contains_key(&id));
            world.step(&Step::End(SOURCE, 0));
            world.settle();
        }
        world.step(&Step::Accept);
        world.step(&Step::Write(SOURCE, 0));
        world.settle();
        prop_assert_eq!(world.peers[1].apps.values().map(|app| app.received).collect::<Vec<_>>(), [1]);
    }
}
