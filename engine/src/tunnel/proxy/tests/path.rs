//! A source, a relay and a destination, joined by byte pipes that split and coalesce: every
//! application gets exactly what its partner sent, in order, and its end only after that.

use super::lab::*;
use crate::tunnel::compose::{End, finish_frame};
use crate::tunnel::flow::Flow;
use crate::tunnel::relay::Relay;
use crate::tunnel::relay::tests::lab::services;
use adit_proto::ids::{Mode, Subprotocol};
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

const SIDES: [Mode; 2] = [Mode::Source, Mode::Destination];

fn at(side: Mode) -> usize {
    usize::from(side == Mode::Destination)
}

/// Byte `offset` of what application `name` sends; the first four are the name.
fn byte_of(name: u32, offset: usize) -> u8 {
    match offset {
        0..4 => name.to_be_bytes()[offset],
        _ => (name.wrapping_mul(2_654_435_761) as usize + offset * 7 + offset / 251) as u8,
    }
}

/// An application. Sources' ones are even, destinations' odd; they learn whom they talk to.
#[derive(Debug)]
struct App {
    name: u32,
    sent: usize,
    /// Bytes that it sends in all before it ends, if it ends first.
    plan: usize,
    ends_first: bool,
    has_ended: bool,
    /// How it saw the end.
    ending: Option<Ended>,
    received: usize,
    first: [u8; 4],
    partner: Option<u32>,
}

impl App {
    fn receive(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match self.received {
                0..4 => self.first[self.received] = *byte,
                offset => {
                    let partner = u32::from_be_bytes(self.first);
                    assert_eq!(
                        *byte,
                        byte_of(partner, offset),
                        "byte {offset} from {partner}"
                    );
                }
            }
            self.received += 1;
        }
        if self.received >= 4 {
            let partner = u32::from_be_bytes(self.first);
            assert_eq!(*self.partner.get_or_insert(partner), partner);
        }
    }
}

struct World {
    random: ChaCha12Rng,
    /// Source, destination.
    labs: [Lab; 2],
    relay: Relay,
    /// From the proxies to the relay, and back.
    up: [VecDeque<u8>; 2],
    down: [VecDeque<u8>; 2],
    apps: [BTreeMap<u32, App>; 2],
    /// Those that saw the end, by name.
    done: BTreeMap<u32, App>,
    next_name: [u32; 2],
}

impl World {
    /// `knows`: which of the proxies keep to credit.
    fn new(seed: u64, offered: [Subprotocol; 2], knows: [bool; 2]) -> Self {
        let labs = SIDES.map(|side| {
            let mut settings = settings(side, &["A"]);
            // Small, so that limits are met.
            settings.limits.connection_buffer = 100_000;
            if side == Mode::Source {
                settings.dialect = Some(match offered[0] {
                    Subprotocol::V1 => adit_proto::ids::Dialect::V1,
                    Subprotocol::V2 => adit_proto::ids::Dialect::V2,
                    Subprotocol::V3 => adit_proto::ids::Dialect::V3,
                });
            }
            Lab::new(settings)
        });
        let mut world = Self {
            random: ChaCha12Rng::seed_from_u64(seed),
            labs,
            relay: Relay::new(services(&["A"])),
            up: Default::default(),
            down: Default::default(),
            apps: Default::default(),
            done: BTreeMap::new(),
            next_name: [2, 1],
        };
        for side in SIDES {
            world.labs[at(side)].room = 1 + world.below(40_000);
            world.labs[at(side)].link_up();
            if knows[at(side)] {
                world.labs[at(side)].proxy.use_credit();
            }
            world.relay.connected(side, offered[at(side)]);
        }
        world
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.next_u32() as usize % bound
    }

    /// One thing that can happen, by chance.
    fn step(&mut self) {
        let side = SIDES[self.below(2)];
        match self.below(10) {
            0 => self.proxy_sends(side),
            1 | 2 => self.relay_reads(side),
            3 => self.relay_speaks(side),
            4 | 5 => self.proxy_reads(side),
            6 => self.dial(),
            7 => self.app_writes(side),
            8 => self.app_reads(side),
            _ => {
                let time = Duration::from_micros(self.below(2_000) as u64);
                self.labs[at(side)].wait(time);
            }
        }
    }

    fn open(&mut self) {
        let source = &mut self.labs[0];
        if let Some(io) = source
            .proxy
            .unwelcome(0)
            .is_none()
            .then(|| source.accept(0))
            .flatten()
        {
            self.add_app(Mode::Source, io);
        }
    }

    fn add_app(&mut self, side: Mode, io: u32) {
        let name = self.next_name[at(side)];
        self.next_name[at(side)] += 2;
        let plan = match self.below(4) {
            0 => 4 + self.below(10),
            1 => 4 + self.below(3_000),
            _ => 4 + self.below(150_000),
        };
        let ends_first = self.below(3) == 0;
        let app = App {
            name,
            sent: 0,
            plan,
            ends_first,
            has_ended: false,
            ending: None,
            received: 0,
            first: [0; 4],
            partner: None,
        };
        self.apps[at(side)].insert(io, app);
    }

    fn pick(&mut self, side: Mode) -> Option<u32> {
        let count = self.apps[at(side)].len();
        let chosen = self.below(count.max(1));
        self.apps[at(side)].keys().nth(chosen).copied()
    }

    fn app_writes(&mut self, side: Mode) {
        let Some(io) = self.pick(side) else { return };
        let size = 1 + self.below(20_000);
        let lab = &mut self.labs[at(side)];
        let app = self.apps[at(side)].get_mut(&io).expect("picked");
        if app.has_ended || lab.ending(io).is_some() || lab.socket(io).written.len() > 60_000 {
            return;
        }
        let size = size.min(app.plan - app.sent);
        let bytes: Vec<u8> = (app.sent..app.sent + size)
            .map(|offset| byte_of(app.name, offset))
            .collect();
        app.sent += size;
        lab.writes(io, &bytes);
        if app.sent == app.plan && app.ends_first {
            app.has_ended = true;
            lab.finishes(io);
        }
    }

    fn app_reads(&mut self, side: Mode) {
        let Some(io) = self.pick(side) else { return };
        let size = 1 + self.below(50_000);
        let bytes = self.labs[at(side)].reads(io, size);
        let app = self.apps[at(side)].get_mut(&io).expect("picked");
        app.receive(&bytes);
        let lab = &mut self.labs[at(side)];
        let is_empty = lab.socket(io).waiting.is_empty();
        match lab.ending(io) {
            Some(ending) if is_empty => {
                let mut app = self.apps[at(side)].remove(&io).expect("picked");
                app.ending = Some(ending);
                self.done.insert(app.name, app);
            }
            Some(_) | None => {}
        }
    }

    fn dial(&mut self) {
        if self.labs[1].dials.is_empty() {
            return;
        }
        if let Some(io) = self.labs[1].dialled() {
            self.add_app(Mode::Destination, io);
        }
    }

    fn proxy_sends(&mut self, side: Mode) {
        if self.up[at(side)].len() < 100_000 {
            let bytes = self.labs[at(side)].output();
            self.up[at(side)].extend(bytes);
        }
    }

    fn cut(&mut self, pipe: usize, is_up: bool) -> Vec<u8> {
        let most = 1 + match self.below(3) {
            0 => self.below(40),
            1 => self.below(3_000),
            _ => self.below(100_000),
        };
        let pipe = if is_up {
            &mut self.up[pipe]
        } else {
            &mut self.down[pipe]
        };
        let count = most.min(pipe.len());
        pipe.drain(..count).collect()
    }

    fn relay_reads(&mut self, from: Mode) {
        if self.down[at(from.other())].len() > 100_000 {
            return;
        }
        let mut bytes = self.cut(at(from), true);
        let mut position = 0;
        loop {
            let flow = self
                .relay
                .handle_input(from, &mut bytes, &mut position)
                .expect("our own proxies keep the protocol");
            self.relay_speaks(from.other());
            let mut frames = Vec::new();
            for run in self.relay.runs() {
                frames.push(self.relay.run_bytes(run, &bytes).to_vec());
            }
            self.relay.clear_runs();
            for content in frames {
                self.send_frames(from.other(), &content);
            }
            match flow {
                Flow::Done => return,
                Flow::Deliver => {}
                Flow::Paused => self.relay_speaks(from),
                Flow::Closed(_) => panic!("nobody closes"),
            }
        }
    }

    fn relay_speaks(&mut self, to: Mode) {
        let mut area = vec![0; 16_380];
        loop {
            let outbox = self.relay.outbox(to);
            let mut frame = Vec::new();
            if outbox.write_frame(None, &mut frame) {
                self.down[at(to)].extend(frame);
                continue;
            }
            let (size, _) = outbox.write_messages(&mut area);
            if size == 0 {
                return;
            }
            let content = area[..size].to_vec();
            self.send_frames(to, &content);
        }
    }

    fn send_frames(&mut self, to: Mode, content: &[u8]) {
        for piece in content.chunks(16_380) {
            let mut area = vec![0; piece.len() + 4];
            area[4..].copy_from_slice(piece);
            let size = finish_frame(&mut area, End::Server, piece.len(), [0; 4]);
            self.down[at(to)].extend(&area[..size]);
        }
    }

    fn proxy_reads(&mut self, side: Mode) {
        let lab = &mut self.labs[at(side)];
        if lab.has_unread() {
            if !lab.proxy.is_paused() {
                lab.go_on().expect("the relay keeps the protocol");
            }
            return;
        }
        let bytes = self.cut(at(side), false);
        let flow = self.labs[at(side)].input(bytes);
        flow.expect("the relay keeps the protocol");
    }

    fn is_over(&self) -> bool {
        self.labs.iter().all(|lab| {
            lab.proxy.connection_count() == 0 && lab.dials.is_empty() && !lab.has_unread()
        }) && self.apps.iter().all(BTreeMap::is_empty)
    }

    /// Goes on until everything has ended. No socket takes a byte at a time any more: that would need more rounds
    /// than there are.
    fn finish(&mut self) {
        for lab in &mut self.labs {
            lab.widen(1_000);
        }
        for round in 0..40_000 {
            if self.is_over() {
                return;
            }
            self.step();
            for side in SIDES {
                self.proxy_sends(side);
                self.relay_reads(side);
                self.relay_speaks(side);
                self.proxy_reads(side);
                self.app_writes(side);
                self.app_reads(side);
                self.dial();
            }
            if round > 2_000 && round % 500 == 0 {
                self.end_the_rest();
            }
        }
        panic!("it does not come to an end: {:?}", self.apps);
    }

    /// Those that do not end first have said everything long ago.
    fn end_the_rest(&mut self) {
        for side in SIDES {
            self.labs[at(side)].wait(Duration::from_secs(1));
            for (io, app) in &mut self.apps[at(side)] {
                if side == Mode::Source && app.sent == app.plan && !app.has_ended {
                    app.has_ended = true;
                    self.labs[at(side)].finishes(*io);
                }
            }
        }
    }

    /// Returns how many applications were heard through.
    fn check(&self) -> usize {
        for lab in &self.labs {
            lab.is_empty();
        }
        let mut complete = 0;
        for app in self.done.values() {
            let Some(partner) = app.partner.and_then(|name| self.done.get(&name)) else {
                continue;
            };
            assert!(app.received <= partner.sent);
            assert_eq!(partner.partner.unwrap_or(app.name), app.name);
            // Who ended after everything was sent was heard through; if both did, the first was.
            if partner.has_ended && !app.has_ended {
                assert_eq!(app.received, partner.sent, "{app:?} of {partner:?}");
                assert_eq!(app.ending, Some(Ended::Orderly), "{app:?} of {partner:?}");
                complete += 1;
            }
        }
        complete
    }
}

fn run(seed: u64, steps: usize, offers: [Subprotocol; 2], knows: [bool; 2]) -> usize {
    let mut world = World::new(seed, offers, knows);
    for _ in 0..steps {
        if world.below(60) == 0 {
            world.open();
        }
        world.step();
    }
    world.finish();
    world.check()
}

/// The property below would hold of applications that are never heard.
#[test]
fn most_applications_are_heard_through() {
    for knows in [[false; 2], [true; 2]] {
        let complete: usize = (0..10)
            .map(|seed| run(seed, 3_000, [Subprotocol::V3; 2], knows))
            .sum();
        assert!(complete > 100, "{complete}");
    }
}

proptest! {
    #[test]
    fn every_byte_arrives_in_order_and_every_end_after_it(
        seed in any::<u64>(),
        steps in 100..3_000usize,
        source in 0..3usize,
        destination in 0..3usize,
        knows in any::<[bool; 2]>(),
    ) {
        let offers = [Subprotocol::V3, Subprotocol::V2, Subprotocol::V1];
        run(seed, steps, [offers[source], offers[destination]], knows);
    }
}
