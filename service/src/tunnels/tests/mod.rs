//! The table's tests: a few tunnels, tokens in hand, and a clock that only the test moves.

mod admission;
mod lifecycle;
mod list;
mod random;
mod rotation;

use std::num::NonZeroUsize;
use std::time::Duration;

use adit_proto::{AccessToken, ClientToken};

use super::*;
use crate::clock::manual::ManualClock;
use crate::token::{TokenHash, mint};

/// The table with everything a client of it would hold.
struct Fixture {
    tunnels: Tunnels,
    clock: ManualClock,
    opened: usize,
}

/// A tunnel and the tokens that its opener was given.
#[derive(Clone)]
struct Opened {
    id: TunnelId,
    source: AccessToken,
    destination: AccessToken,
}

impl Opened {
    fn token(&self, mode: Mode) -> &AccessToken {
        match mode {
            Mode::Source => &self.source,
            Mode::Destination => &self.destination,
        }
    }
}

impl Fixture {
    fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    fn with_limits(limits: Limits) -> Self {
        Self {
            tunnels: Tunnels::new(limits),
            clock: ManualClock::new(),
            opened: 0,
        }
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn open(&mut self) -> Opened {
        self.try_open(None, 720).unwrap()
    }

    fn try_open(
        &mut self,
        config: Option<DestinationConfig>,
        minutes: i64,
    ) -> Result<Opened, TunnelError> {
        self.opened += 1;
        let (opened, mut new) = self.prepare(self.opened);
        new.config = config;
        new.lifetime = Lifetime::from_minutes(minutes).unwrap();
        self.tunnels.open(self.clock.now(), new)?;
        self.tunnels.check();
        Ok(opened)
    }

    fn prepare(&self, number: usize) -> (Opened, NewTunnel) {
        let id: TunnelId = format!("tunnel-{number}").parse().unwrap();
        let routing_key = RoutingKey::of(&id);
        let opened = Opened {
            id: id.clone(),
            source: mint(routing_key).unwrap(),
            destination: mint(routing_key).unwrap(),
        };
        let new = NewTunnel {
            id,
            routing_key,
            source: TokenHash::of(&opened.source),
            destination: TokenHash::of(&opened.destination),
            description: None,
            tags: Tags::new(),
            config: None,
            lifetime: Lifetime::MAX,
        };
        (opened, new)
    }

    fn spend(
        &mut self,
        mode: Mode,
        token: &AccessToken,
        client_token: Option<&str>,
    ) -> Result<Admitted, Refusal> {
        let presented = Presented {
            routing_key: RoutingKey::in_front_of(token).unwrap(),
            token: TokenHash::of(token),
            client_token: client_token.map(hash),
            mode,
        };
        let result = self.tunnels.spend_token(self.clock.now(), &presented);
        self.tunnels.check();
        result
    }

    /// Admits a connection and hands it to the relay.
    fn connect(&mut self, tunnel: &Opened, mode: Mode, client_token: Option<&str>) -> u64 {
        let admitted = self.spend(mode, tunnel.token(mode), client_token).unwrap();
        assert_eq!(admitted.tunnel, tunnel.id);
        let connected = self.set_connected(tunnel, mode, admitted.session);
        assert_eq!(connected, Connected::Current);
        admitted.session
    }

    fn set_connected(&mut self, tunnel: &Opened, mode: Mode, session: u64) -> Connected {
        self.tunnels
            .set_connected(self.clock.now(), &tunnel.id, mode, session)
    }

    fn set_disconnected(&mut self, tunnel: &Opened, mode: Mode, session: u64) {
        self.tunnels
            .set_disconnected(self.clock.now(), &tunnel.id, mode, session);
    }

    /// New tokens for these sides, returned in place of the old ones.
    fn rotate(
        &mut self,
        tunnel: &Opened,
        modes: &[Mode],
        config: Option<DestinationConfig>,
    ) -> Result<Opened, TunnelError> {
        let mut rotated = tunnel.clone();
        let mut rotation = Rotation {
            source: None,
            destination: None,
            config,
        };
        for mode in modes {
            let token = mint(RoutingKey::of(&tunnel.id)).unwrap();
            let (slot, hash) = match mode {
                Mode::Source => (&mut rotated.source, &mut rotation.source),
                Mode::Destination => (&mut rotated.destination, &mut rotation.destination),
            };
            *hash = Some(TokenHash::of(&token));
            *slot = token;
        }
        self.tunnels
            .rotate(self.clock.now(), &tunnel.id, &rotation)?;
        self.tunnels.check();
        Ok(rotated)
    }

    fn close(&mut self, tunnel: &Opened) {
        self.tunnels
            .close(self.clock.now(), &tunnel.id, false)
            .unwrap();
        self.tunnels.check();
    }

    fn advance(&mut self, by: Duration) -> Expired {
        self.clock.advance(by);
        let expired = self.tunnels.expire(self.clock.now());
        self.tunnels.check();
        expired
    }

    fn view(&self, tunnel: &Opened) -> TunnelView {
        self.tunnels.describe(self.now(), &tunnel.id).unwrap()
    }

    fn status(&self, tunnel: &Opened) -> Status {
        self.view(tunnel).summary.status
    }

    fn is_connected(&self, tunnel: &Opened, mode: Mode) -> bool {
        let view = self.view(tunnel);
        match mode {
            Mode::Source => view.source.connected,
            Mode::Destination => view.destination.connected,
        }
    }
}

fn hash(client_token: &str) -> ClientTokenHash {
    // Short names in tests; the real ones are longer.
    let text = format!("{client_token:0>32}");
    ClientTokenHash::of(&ClientToken::strict(text).unwrap())
}

fn config(thing: Option<&str>, services: &[&str]) -> DestinationConfig {
    DestinationConfig {
        thing: thing.map(|name| ThingName::new(name).unwrap()),
        services: services.iter().map(|name| name.parse().unwrap()).collect(),
    }
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

impl Tunnels {
    /// What must hold between the maps after every operation.
    fn check(&self) {
        let mut open = 0;
        let mut bound = 0;
        for (id, record) in &self.records {
            assert_eq!(&record.id, id);
            assert_eq!(self.by_routing_key[&record.routing_key], *id);
            assert_eq!(self.by_sequence[&record.sequence], *id);
            if let Some(thing) = record.config.as_ref().and_then(|c| c.thing.as_ref()) {
                assert!(self.by_thing[thing].contains(&record.sequence));
            }
            match record.state {
                State::Open { ends } => {
                    open += 1;
                    assert!(self.ending.contains(&(ends, id.clone())));
                    for mode in [Mode::Source, Mode::Destination] {
                        if let TokenUse::Bound(token) = record.side(mode).token_use {
                            bound += 1;
                            assert_eq!(self.client_tokens[&token], (id.clone(), mode));
                        }
                    }
                }
                State::Closed { purge } => {
                    assert!(self.purging.contains(&(purge, id.clone())));
                    assert!(record.source.connected.is_none());
                    assert!(record.destination.connected.is_none());
                }
            }
        }
        assert_eq!(self.ending.len(), open);
        assert_eq!(self.purging.len(), self.records.len() - open);
        assert_eq!(self.client_tokens.len(), bound);
        assert_eq!(self.by_routing_key.len(), self.records.len());
        assert_eq!(self.by_sequence.len(), self.records.len());
        let with_thing = self.records.values().filter(|r| {
            let config = r.config.as_ref();
            config.is_some_and(|c| c.thing.is_some())
        });
        let indexed: usize = self.by_thing.values().map(BTreeSet::len).sum();
        assert_eq!(indexed, with_thing.count());
        assert!(
            self.by_thing
                .values()
                .all(|sequences| !sequences.is_empty())
        );
    }
}
