//! What a seed is like: its tunnel, its network, its people, its accidents.

use super::dice::Dice;
use super::numbers::Numbers;
use adit_engine::tunnel::limits::Limits;
use adit_engine::tunnel::relay::Quotas;
use adit_proto::ids::{Dialect, ServiceId, Subprotocol};
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

/// Drawn once for each seed.
#[derive(Debug)]
pub(super) struct Profile {
    /// The services of the tunnel; none is a tunnel without services.
    pub(super) services: Vec<ServiceId>,
    /// How the source writes.
    pub(super) dialect: Dialect,
    /// The numbers that the source gives its streams and connections.
    pub(super) numbers: Numbers,
    /// What the destination may offer, one for each of its links.
    pub(super) offers: Vec<Subprotocol>,
    /// Of a thousand proxies, how many know credit.
    pub(super) credit: u32,
    /// Bounds of both proxies.
    pub(super) limits: Limits,
    /// What the relay lets through.
    pub(super) quotas: Quotas,
    /// Between proxies and relay.
    pub(super) network: Network,
    /// Around the proxies.
    pub(super) people: People,
    /// What goes wrong.
    pub(super) accidents: Accidents,
}

/// Links.
#[derive(Debug)]
pub(super) struct Network {
    /// Bytes under way in one direction of a link, at most.
    pub(super) capacities: Vec<usize>,
    /// Longest delays.
    pub(super) delays: Vec<Duration>,
    /// What one read takes, at most.
    pub(super) read_size: usize,
    /// Output of a proxy or of one side of the relay over which no more is composed.
    pub(super) output_mark: usize,
    /// How far one step of time goes.
    pub(super) tick: Duration,
}

/// Applications. Rates are in a thousand.
#[derive(Debug)]
pub(super) struct People {
    /// What a local socket holds in each direction, in bytes.
    pub(super) room: usize,
    /// What one transfer has, at most, in bytes.
    pub(super) length: usize,
    /// Reads of a local socket may give less than it has.
    pub(super) reads_short: bool,
    /// Connections that are there at once before nobody comes any more.
    pub(super) clients_max: usize,
    /// What an application does in one step, at most.
    pub(super) hurry: usize,
    /// Those who end their direction once all is written, and go on reading.
    pub(super) half_closing: u32,
    /// Those who reset, close or end early at some time.
    pub(super) rude: u32,
    /// For each step of an application: that it sleeps.
    pub(super) sleepy: u32,
    /// Dials that fail.
    pub(super) refused: u32,
}

/// For each step, in ten thousand.
#[derive(Debug)]
pub(super) struct Accidents {
    /// A link is broken, ended on one side, or vanishes.
    pub(super) lost: u32,
    /// A link holds what is under way for a while.
    pub(super) held: u32,
    /// A proxy is killed and another one takes its place.
    pub(super) killed: u32,
    /// Tokens are replaced.
    pub(super) rotated: u32,
    /// Somebody else connects, who says anything.
    pub(super) hostile: u32,
}

impl Profile {
    /// The profile of a run.
    #[must_use]
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let dialect = dice.pick(&[
            Dialect::V3,
            Dialect::V3,
            Dialect::V3,
            Dialect::V2,
            Dialect::V1,
        ]);
        let offers = draw_offers(dice);
        // V1 has no word for a service, so both ends take a tunnel that has one at most.
        let is_nameless = dialect == Dialect::V1 || offers.contains(&Subprotocol::V1);
        let count = dice.below(if is_nameless { 2 } else { 4 });
        let names = ["SSH", "web", "a-b_c"];
        let services = names[..count].iter().map(|name| name.parse());
        let services = services.collect::<Result<_, _>>();
        let network = draw_network(dice);
        let people = draw_people(dice, &network);
        Self {
            services: services.expect("names of services"),
            dialect,
            offers,
            credit: dice.pick(&[0, 500, 1000, 1000]),
            limits: draw_limits(dice),
            quotas: draw_quotas(dice),
            network,
            people,
            accidents: draw_accidents(dice),
            numbers: Numbers::default(),
        }
    }

    /// Services as the proxies count them: one without a name where there is none.
    #[must_use]
    pub(super) fn service_count(&self) -> usize {
        self.services.len().max(1)
    }

    /// What the source's handshake offers.
    #[must_use]
    pub(super) fn source_offer(&self) -> Subprotocol {
        match self.dialect {
            Dialect::V1 => Subprotocol::V1,
            Dialect::V2 => Subprotocol::V2,
            Dialect::V3 => Subprotocol::V3,
        }
    }
}

fn draw_offers(dice: &mut Dice) -> Vec<Subprotocol> {
    match dice.below(6) {
        0..=2 => vec![Subprotocol::V3],
        3 => vec![Subprotocol::V2],
        4 => vec![Subprotocol::V1],
        _ => vec![Subprotocol::V3, Subprotocol::V2, Subprotocol::V1],
    }
}

fn draw_limits(dice: &mut Dice) -> Limits {
    let connection_buffer = dice.pick(&[65_535, 70_000, 100_000, 256 * 1024]);
    Limits {
        connections_max: dice.pick(&[1, 3, 8, 40]),
        service_connections_max: dice.pick(&[2, 40, 40]),
        connection_buffer,
        tunnel_buffer: connection_buffer * dice.pick(&[1, 2, 8]),
        payload_max: dice.pick(&[40, 900, 5_000, 64_512]),
        half_close_grace: dice.pick(&[
            Duration::from_secs(2),
            Duration::from_secs(2),
            Duration::ZERO,
        ]),
        ..Limits::default()
    }
}

fn draw_quotas(dice: &mut Dice) -> Quotas {
    if !dice.chance(150) {
        return Quotas::default();
    }
    Quotas {
        bytes_per_second: NonZeroU64::new(20_000 + dice.below(1_000_000) as u64),
        connections_per_second: NonZeroU32::new(dice.below(20) as u32),
    }
}

fn draw_network(dice: &mut Dice) -> Network {
    let capacities = [60, 700, 20_000, 300_000];
    let first = dice.below(capacities.len());
    let delays = [0, 0, 3, 40, 600].map(Duration::from_millis);
    let slowest = 1 + dice.below(delays.len());
    Network {
        capacities: capacities[first..].to_vec(),
        delays: delays[..slowest].to_vec(),
        read_size: dice.pick(&[30, 1_000, 16_384, 16_384]),
        output_mark: dice.pick(&[1, 20_000, 256 * 1024]),
        tick: Duration::from_millis(dice.pick(&[1, 10, 100])),
    }
}

/// Transfers are as long as what they have to pass lets through in the time of a run.
fn draw_people(dice: &mut Dice, network: &Network) -> People {
    let room = dice.pick(&[1, 300, 5_000, 60_000, 200_000]);
    let narrowest = room.min(network.capacities[0]).min(network.read_size);
    People {
        room,
        length: (narrowest * dice.pick(&[60, 600])).clamp(300, 2_000_000),
        reads_short: dice.chance(300),
        clients_max: dice.pick(&[1, 4, 12, 50]),
        hurry: dice.pick(&[1, 4, 30]),
        half_closing: dice.pick(&[0, 300, 1000]),
        rude: dice.pick(&[0, 0, 100, 500]),
        sleepy: dice.pick(&[0, 0, 2, 30]),
        refused: dice.pick(&[0, 0, 100, 500]),
    }
}

/// A good part of the seeds has no accidents at all: there, everything must arrive.
fn draw_accidents(dice: &mut Dice) -> Accidents {
    let is_calm = dice.chance(300);
    let mut rate = |rates: &[u32]| if is_calm { 0 } else { dice.pick(rates) };
    Accidents {
        lost: rate(&[0, 4, 40]),
        held: rate(&[0, 10, 50]),
        killed: rate(&[0, 0, 5]),
        rotated: rate(&[0, 3, 15]),
        hostile: rate(&[0, 0, 8]),
    }
}
