//! Who may connect: the service's own rules about tokens, and a second, simple idea of them.

use super::bugs::Bug;
use adit_proto::ids::{Mode, TunnelId};
use adit_proto::secret::{AccessToken, ClientToken};
use adit_service::clock::{Now, Timestamp};
use adit_service::store::{MemoryStore, TunnelStore};
use adit_service::token::{ClientTokenHash, RoutingKey, TokenHash, mint};
use adit_service::tunnels::{
    Connected, Lifetime, Limits, NewTunnel, Presented, Refusal, Rotation, Seen, Tags,
};
use anyhow::{Context as _, Result, bail, ensure};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// The tokens of one tunnel.
pub(super) struct Gate {
    store: MemoryStore,
    tunnel: TunnelId,
    key: RoutingKey,
    start: Instant,
    /// The model: the token of each side, and how often it was replaced.
    tokens: [AccessToken; 2],
    generations: [u32; 2],
    /// The newest session that was admitted.
    newest: u64,
    bug: Option<Bug>,
}

/// A token and what the holder cannot know: whether it is still good.
#[derive(Clone)]
pub(super) struct Ticket {
    token: AccessToken,
    mode: Mode,
    generation: u32,
}

impl Gate {
    /// An open tunnel.
    ///
    /// # Errors
    /// The store refuses it.
    pub(super) fn new(start: Instant, bug: Option<Bug>) -> Result<Self> {
        let tunnel: TunnelId = "7f0d3c1e-5b52-4a3c-9a5b-0a7d6d0c7a11".parse()?;
        let key = RoutingKey::of(&tunnel);
        let tokens = [mint(key)?, mint(key)?];
        let gate = Self {
            store: MemoryStore::new(Limits::default()),
            tunnel: tunnel.clone(),
            key,
            start,
            tokens,
            generations: [0; 2],
            newest: 0,
            bug,
        };
        let new = NewTunnel {
            id: tunnel,
            routing_key: key,
            source: TokenHash::of(&gate.tokens[0]),
            destination: TokenHash::of(&gate.tokens[1]),
            description: None,
            tags: Tags::new(),
            config: None,
            lifetime: Lifetime::MAX,
            owner: None,
        };
        at_once(gate.store.open_tunnel(gate.now(start), new))?.context("open a tunnel")?;
        Ok(gate)
    }

    /// The token that is good now.
    #[must_use]
    pub(super) fn ticket(&self, mode: Mode) -> Ticket {
        Ticket {
            token: self.tokens[at(mode)].clone(),
            mode,
            generation: self.generations[at(mode)],
        }
    }

    /// Whether it was not replaced yet.
    #[must_use]
    pub(super) fn is_good(&self, ticket: &Ticket) -> bool {
        ticket.generation == self.generations[at(ticket.mode)]
    }

    /// A handshake. `None`: it is refused.
    ///
    /// # Errors
    /// It is let in with a token that was replaced, or refused with one that was not.
    pub(super) fn admit(&mut self, now: Instant, ticket: &Ticket) -> Result<Option<u64>> {
        let mode = ticket.mode;
        let client = format!("the-{mode}-is-always-the-same-client");
        let client = ClientToken::lenient(client)?;
        let token = match self.bug {
            Some(Bug::OldToken) => &self.tokens[at(mode)],
            _ => &ticket.token,
        };
        let presented = Presented {
            routing_key: self.key,
            token: TokenHash::of(token),
            client_token: Some(ClientTokenHash::of(&client)),
            mode,
        };
        let is_good = self.is_good(ticket);
        match at_once(self.store.spend_token(self.now(now), presented))? {
            Ok(admitted) => {
                ensure!(is_good, "a {mode} was let in with a token that was rotated");
                ensure!(admitted.session >= self.newest, "sessions go backwards");
                self.newest = admitted.session;
                Ok(Some(admitted.session))
            }
            Err(Refusal::UnknownToken) if !is_good => Ok(None),
            Err(refusal) => bail!("a {mode} was refused: {refusal}"),
        }
    }

    /// New tokens for these sides. Returns the newest session that was admitted with an old one.
    ///
    /// # Errors
    /// The store refuses.
    pub(super) fn rotate(&mut self, now: Instant, modes: &[Mode]) -> Result<u64> {
        for mode in modes {
            self.tokens[at(*mode)] = mint(self.key)?;
            self.generations[at(*mode)] += 1;
        }
        let new = |mode| {
            let token = &self.tokens[at(mode)];
            modes.contains(&mode).then(|| TokenHash::of(token))
        };
        let rotation = Rotation {
            source: new(Mode::Source),
            destination: new(Mode::Destination),
            config: None,
            seen: Seen::Anything,
        };
        let change = self.store.rotate(self.now(now), &self.tunnel, rotation);
        at_once(change)?.context("rotate tokens")?;
        Ok(self.newest)
    }

    /// The relay has the link of this session. False: it has lost its right, and is to be cut.
    ///
    /// # Errors
    /// The store refuses.
    pub(super) fn connected(&self, now: Instant, mode: Mode, session: u64) -> Result<bool> {
        let now = self.now(now);
        let change = self.store.set_connected(now, &self.tunnel, mode, session);
        Ok(match at_once(change)?? {
            Connected::Current | Connected::Superseded => true,
            Connected::Moved | Connected::Revoked | Connected::TunnelEnded => false,
        })
    }

    fn now(&self, instant: Instant) -> Now {
        let time = Timestamp::from_millis(1_700_000_000_000).after(instant - self.start);
        Now {
            instant,
            steady: time,
            wall: time,
        }
    }
}

/// What a future of the memory's store gives; it waits for nobody.
fn at_once<T>(future: impl Future<Output = T>) -> Result<T> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => bail!("the store in memory waits for something"),
    }
}

/// Source 0, destination 1.
#[must_use]
pub(super) fn at(mode: Mode) -> usize {
    usize::from(mode == Mode::Destination)
}
