//! Who may connect: the service's own rules about tokens, and a second, simple idea of them.

use super::bugs::Bug;
use adit_proto::ids::{Mode, TunnelId};
use adit_proto::secret::{AccessToken, ClientToken};
use adit_service::clock::{Now, Timestamp};
use adit_service::store::{MemoryStore, TunnelStore};
use adit_service::token::{ClientTokenHash, RoutingKey, TokenHash, mint};
use adit_service::tunnels::{
    Connected, Found, Lifetime, Limits, ListRequest, NewTunnel, Presented, Refusal, Rotation, Seen,
    Status, Tags,
};
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::VecDeque;
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The tokens of one tunnel after the other.
pub(super) struct Gate {
    store: MemoryStore,
    tunnel: TunnelId,
    key: RoutingKey,
    /// What the time of day is at `start`.
    epoch: Timestamp,
    start: Instant,
    /// The model: the token of each side, and how often it was replaced.
    tokens: [AccessToken; 2],
    generations: [u32; 2],
    /// The newest session that was admitted.
    newest: u64,
    /// Tunnels that were opened.
    opened: u64,
    /// When the lifetime of the last one is over; `None` when it was ended.
    ends: Option<Timestamp>,
    /// When those that are over are forgotten, the oldest first.
    over: VecDeque<Timestamp>,
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
    pub(super) fn new(start: Instant, epoch: Timestamp, bug: Option<Bug>) -> Result<Self> {
        let (tunnel, key) = name(0)?;
        let mut gate = Self {
            store: MemoryStore::new(Limits::default()),
            tunnel,
            key,
            epoch,
            start,
            tokens: [mint(key)?, mint(key)?],
            generations: [0; 2],
            newest: 0,
            opened: 0,
            ends: None,
            over: VecDeque::new(),
            bug,
        };
        gate.open(start, Lifetime::MAX)?;
        Ok(gate)
    }

    /// The next tunnel.
    ///
    /// # Errors
    /// The last one is not over, or the store refuses it.
    pub(super) fn open(&mut self, now: Instant, lifetime: Lifetime) -> Result<()> {
        ensure!(self.ends.is_none(), "the last tunnel is not over");
        (self.tunnel, self.key) = name(self.opened)?;
        self.opened += 1;
        self.newest = 0;
        for (token, generation) in self.tokens.iter_mut().zip(&mut self.generations) {
            *token = mint(self.key)?;
            *generation += 1;
        }
        let new = NewTunnel {
            id: self.tunnel.clone(),
            routing_key: self.key,
            source: TokenHash::of(&self.tokens[0]),
            destination: TokenHash::of(&self.tokens[1]),
            description: None,
            tags: Tags::new(),
            config: None,
            lifetime,
            owner: None,
        };
        at_once(self.store.open_tunnel(self.now(now), new))?.context("open a tunnel")?;
        let length = Duration::from_secs(60 * u64::from(lifetime.minutes()));
        self.ends = Some(self.now(now).steady.after(length));
        Ok(())
    }

    /// When the tunnel's lifetime is over; `None` when it was ended.
    #[must_use]
    pub(super) fn ends(&self) -> Option<Instant> {
        self.ends.map(|ends| self.start + ends.since(self.epoch))
    }

    /// Closes the tunnel before its time.
    ///
    /// # Errors
    /// The store refuses, or thinks that it is over.
    pub(super) fn close(&mut self, now: Instant) -> Result<()> {
        let found = at_once(self.store.close(self.now(now), &self.tunnel, false))??;
        ensure!(
            found == Found::Open,
            "a tunnel that lives was {found:?} when it was closed"
        );
        self.ends = None;
        self.over.push_back(self.now(now).steady.after(retention()));
        Ok(())
    }

    /// Has the store end what is over and forget what is old. Returns whether the tunnel was ended.
    ///
    /// # Errors
    /// It ends, keeps or forgets another one than the model.
    pub(super) fn sweep(&mut self, now: Instant) -> Result<bool> {
        let time = self.now(now).steady;
        let mut ended = Vec::new();
        while self.bug != Some(Bug::Unswept) {
            let expired = at_once(self.store.expire(self.now(now)))??;
            ended.extend(expired.ended);
            if expired.next.is_none_or(|next| next > time) {
                break;
            }
        }
        let is_over = self.ends.is_some_and(|ends| ends <= time);
        let must_end = is_over.then_some(&self.tunnel);
        ensure!(
            ended.iter().eq(must_end),
            "{ended:?} was ended by time, and not {must_end:?}"
        );
        if is_over && let Some(ends) = self.ends.take() {
            self.over.push_back(ends.after(retention()));
        }
        while self.over.front().is_some_and(|until| *until <= time) {
            self.over.pop_front();
        }
        self.check_list(now)?;
        Ok(is_over)
    }

    /// The store shows what the model has, and nothing else.
    fn check_list(&self, now: Instant) -> Result<()> {
        let request = ListRequest {
            thing: None,
            after: None,
            count: LISTED_MAX,
        };
        let page = at_once(self.store.list(self.now(now), request))??;
        let open = page.tunnels.iter().filter(|of| of.status == Status::Open);
        let (shown, open) = (page.tunnels.len(), open.count());
        let is_open = usize::from(self.ends.is_some());
        let kept = is_open + self.over.len();
        ensure!(
            (shown, open) == (kept, is_open) && page.next.is_none(),
            "{shown} tunnels are stored and {open} open, and not {kept} and {is_open}"
        );
        Ok(())
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
        let is_good = self.is_good(ticket) && self.ends.is_some();
        match at_once(self.store.spend_token(self.now(now), presented))? {
            Ok(admitted) => {
                ensure!(is_good, "a {mode} was let in with a token that was rotated");
                ensure!(admitted.session >= self.newest, "sessions go backwards");
                self.newest = admitted.session;
                Ok(Some(admitted.session))
            }
            Err(Refusal::UnknownToken) if !self.is_good(ticket) => Ok(None),
            Err(Refusal::TunnelClosed) if self.ends.is_none() => Ok(None),
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
        let time = self.epoch.after(instant - self.start);
        Now {
            instant,
            steady: time,
            wall: time,
        }
    }
}

/// The name of a tunnel, and what its tokens begin with.
fn name(number: u64) -> Result<(TunnelId, RoutingKey)> {
    let id: TunnelId = format!("7f0d3c1e-5b52-4a3c-9a5b-{number:012x}").parse()?;
    let key = RoutingKey::of(&id);
    Ok((id, key))
}

/// How long a tunnel is shown that is over.
fn retention() -> Duration {
    Limits::default().retention
}

/// Tunnels of a list: more than end in the time for which one that is over is shown.
const LISTED_MAX: NonZeroUsize = NonZeroUsize::new(1_000).expect("it is not 0");

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
