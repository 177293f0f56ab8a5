//! What every store has to do, as tests that run on each of them: a few tunnels, tokens in hand, and a
//! clock that only the test moves.
//!
//! A store has a [`Place`] in its tests, and [`suite!`](suite) runs all of this there.

pub(crate) mod admission;
pub(crate) mod guesses;
pub(crate) mod lifecycle;
pub(crate) mod list;
pub(crate) mod races;
pub(crate) mod random;
pub(crate) mod rotation;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use adit_proto::{AccessToken, ClientToken, Mode, TunnelId};
use tokio::task::JoinSet;

use super::TunnelStore;
use crate::clock::Now;
use crate::clock::manual::ManualClock;
use crate::token::{ClientTokenHash, RoutingKey, TokenHash, mint};
use crate::tunnels::{
    Admitted, Connected, Cursor, DestinationConfig, Expired, Found, Lifetime, Limits, ListRequest,
    NewTunnel, Page, Presented, Refusal, Rotation, Seen, SideView, Status, Tags, ThingName,
    TunnelError, TunnelView,
};

/// Where stores of one kind are made.
pub(crate) trait Place: Sync {
    type Store: TunnelStore;

    /// A store with nothing in it. What an earlier one held is gone.
    async fn empty_store(&self, limits: Limits, clock: &ManualClock) -> Self::Store;

    /// What must hold between its tables at any time.
    async fn check(&self, store: &Self::Store);

    /// How often the random test runs: as long as it takes the store a few seconds.
    fn seeds(&self) -> u64;

    /// How often a token is raced for.
    fn races(&self) -> usize;
}

/// A store with everything that a client of it would hold.
pub(crate) struct Fixture<'a, P: Place> {
    pub(crate) store: Arc<P::Store>,
    pub(crate) clock: ManualClock,
    place: &'a P,
    opened: AtomicUsize,
}

/// A tunnel and the tokens that its opener was given.
#[derive(Clone)]
pub(crate) struct Opened {
    pub(crate) id: TunnelId,
    pub(crate) source: AccessToken,
    pub(crate) destination: AccessToken,
}

impl Opened {
    pub(crate) fn token(&self, mode: Mode) -> &AccessToken {
        match mode {
            Mode::Source => &self.source,
            Mode::Destination => &self.destination,
        }
    }
}

impl<'a, P: Place> Fixture<'a, P> {
    pub(crate) async fn new(place: &'a P) -> Self {
        Self::with_limits(place, Limits::default()).await
    }

    pub(crate) async fn with_limits(place: &'a P, limits: Limits) -> Self {
        let clock = ManualClock::new();
        Self {
            store: Arc::new(place.empty_store(limits, &clock).await),
            place,
            clock,
            opened: AtomicUsize::new(0),
        }
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) async fn open(&self) -> Opened {
        self.try_open(None, 720).await.unwrap()
    }

    pub(crate) async fn try_open(
        &self,
        config: Option<DestinationConfig>,
        minutes: i64,
    ) -> Result<Opened, TunnelError> {
        let number = 1 + self.opened.fetch_add(1, Ordering::Relaxed);
        let (opened, mut new) = self.prepare(number);
        new.config = config;
        new.lifetime = Lifetime::from_minutes(minutes).unwrap();
        self.store.open_tunnel(self.now(), new).await?;
        self.check().await;
        Ok(opened)
    }

    pub(crate) fn prepare(&self, number: usize) -> (Opened, NewTunnel) {
        prepare(&format!("tunnel-{number}"))
    }

    pub(crate) async fn spend(
        &self,
        mode: Mode,
        token: &AccessToken,
        client_token: Option<&str>,
    ) -> Result<Admitted, Refusal> {
        let presented = presented(mode, token, client_token);
        let result = self.store.spend_token(self.now(), presented).await;
        self.check().await;
        result
    }

    /// Admits a connection and hands it to the relay.
    pub(crate) async fn connect(
        &self,
        tunnel: &Opened,
        mode: Mode,
        client_token: Option<&str>,
    ) -> u64 {
        let admitted = self.spend(mode, tunnel.token(mode), client_token).await;
        let admitted = admitted.unwrap();
        assert_eq!(admitted.tunnel, tunnel.id);
        let connected = self.set_connected(tunnel, mode, admitted.session).await;
        assert_eq!(connected, Connected::Current);
        admitted.session
    }

    pub(crate) async fn set_connected(
        &self,
        tunnel: &Opened,
        mode: Mode,
        session: u64,
    ) -> Connected {
        let connected = self
            .store
            .set_connected(self.now(), &tunnel.id, mode, session);
        connected.await.unwrap()
    }

    pub(crate) async fn set_disconnected(&self, tunnel: &Opened, mode: Mode, session: u64) {
        let gone = self
            .store
            .set_disconnected(self.now(), &tunnel.id, mode, session);
        gone.await.unwrap();
    }

    /// New tokens for these sides, returned in place of the old ones.
    pub(crate) async fn rotate(
        &self,
        tunnel: &Opened,
        modes: &[Mode],
        config: Option<DestinationConfig>,
    ) -> Result<Opened, TunnelError> {
        self.rotate_seen(tunnel, modes, config, Seen::Anything)
            .await
    }

    /// The same, of a tunnel that is for what was seen.
    pub(crate) async fn rotate_seen(
        &self,
        tunnel: &Opened,
        modes: &[Mode],
        config: Option<DestinationConfig>,
        seen: Seen,
    ) -> Result<Opened, TunnelError> {
        let mut rotated = tunnel.clone();
        let mut rotation = Rotation {
            source: None,
            destination: None,
            config,
            seen,
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
        self.store.rotate(self.now(), &tunnel.id, rotation).await?;
        self.check().await;
        Ok(rotated)
    }

    pub(crate) async fn close(&self, tunnel: &Opened) {
        let closed = self.store.close(self.now(), &tunnel.id, false).await;
        closed.unwrap();
        self.check().await;
    }

    pub(crate) async fn advance(&self, by: Duration) -> Expired {
        self.clock.advance(by);
        let expired = self.store.expire(self.now()).await.unwrap();
        self.check().await;
        expired
    }

    pub(crate) async fn view(&self, tunnel: &Opened) -> TunnelView {
        let view = self.store.describe(self.now(), &tunnel.id).await;
        view.unwrap()
    }

    pub(crate) async fn status(&self, tunnel: &Opened) -> Status {
        self.view(tunnel).await.summary.status
    }

    /// `None` when the store knows no such tunnel.
    pub(crate) async fn try_status(&self, tunnel: &Opened) -> Option<Status> {
        let view = self.store.describe(self.now(), &tunnel.id).await;
        view.ok().map(|view| view.summary.status)
    }

    pub(crate) async fn is_connected(&self, tunnel: &Opened, mode: Mode) -> bool {
        let view = self.view(tunnel).await;
        match mode {
            Mode::Source => view.source.connected,
            Mode::Destination => view.destination.connected,
        }
    }

    /// What must hold between the tables of the store after every operation.
    pub(crate) async fn check(&self) {
        self.place.check(&self.store).await;
    }
}

/// A tunnel of this name, and what its opener would hold.
pub(crate) fn prepare(name: &str) -> (Opened, NewTunnel) {
    let id: TunnelId = name.parse().unwrap();
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
        owner: None,
    };
    (opened, new)
}

pub(crate) fn presented(mode: Mode, token: &AccessToken, client: Option<&str>) -> Presented {
    Presented {
        routing_key: RoutingKey::in_front_of(token).unwrap(),
        token: TokenHash::of(token),
        client_token: client.map(hash),
        mode,
    }
}

pub(crate) fn hash(client_token: &str) -> ClientTokenHash {
    // Short names in tests; the real ones are longer.
    let text = format!("{client_token:0>32}");
    ClientTokenHash::of(&ClientToken::strict(text).unwrap())
}

pub(crate) fn config(thing: Option<&str>, services: &[&str]) -> DestinationConfig {
    DestinationConfig {
        thing: thing.map(|name| ThingName::new(name).unwrap()),
        services: services.iter().map(|name| name.parse().unwrap()).collect(),
    }
}

pub(crate) fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// Runs every test on the [`Place`] that an expression gives; on none when it gives `None`.
macro_rules! suite {
    ($place:expr) => {
        suite! { $place;
            admission { every_state_and_every_handshake_as_a_table, a_refused_handshake_changes_nothing, both_sides_of_one_tunnel_need_their_own_client_token, a_client_token_is_free_again_when_its_tunnel_ends, grants_carry_the_services_in_their_order, the_newer_connection_wins_in_every_order_of_events, a_connection_that_comes_late_is_reported }
            guesses { a_stolen_token_is_of_no_use_with_any_other_client_token, no_random_token_is_accepted, no_token_with_one_bit_changed_is_accepted }
            lifecycle { an_end_is_shown_after_what_came_before_it_whatever_the_clock_says, a_new_tunnel_is_open_and_nobody_is_connected, sides_come_and_go_while_the_tunnel_is_open, closing_disconnects_both_sides_and_stays, a_lifetime_ends_to_the_moment, a_closed_tunnel_is_kept_for_three_hours, delete_forgets_open_and_closed_tunnels_at_once, who_closes_a_tunnel_hears_how_it_was_found, jumps_of_the_time_of_day_change_no_lifetime, expire_says_when_to_come_back, a_crowd_that_ends_together_is_taken_in_turns, open_tunnels_are_limited_and_closing_makes_room, open_tunnels_of_a_caller_and_to_a_thing_are_limited, closed_tunnels_are_limited_and_the_oldest_goes_first, an_id_is_never_used_twice, tags_are_merged_limited_and_removed, tag_keys_that_differ_only_by_case_are_refused }
            list { newest_first_whatever_the_time_of_day_does, the_last_page_has_no_cursor, pages_are_stable_under_inserts_and_removals, a_device_has_its_own_list_with_closed_tunnels_in_it }
            races { of_sixteen_simultaneous_uses_of_a_token_one_wins, of_sixteen_openings_at_the_limit_one_wins, of_sixteen_openings_to_a_thing_at_its_limit_one_wins, of_sixteen_tokens_that_one_client_token_is_shown_with_one_wins }
            random { no_token_is_ever_accepted_where_the_model_refuses_it }
            rotation { the_rotated_side_gets_a_new_token_and_the_other_stays_up, a_session_of_the_old_token_says_goodbye_without_effect, a_spent_token_is_replaced_by_a_fresh_one, a_side_has_the_token_it_was_given_last, nothing_extends_a_lifetime, a_closed_or_expired_or_unknown_tunnel_is_not_rotated, a_rotation_may_name_another_device_but_not_other_services, a_rotation_by_leave_for_another_device_is_refused, a_tunnel_opened_without_services_can_get_them_once }
        }
    };
    ($place:expr; $($module:ident { $($name:ident),* })*) => {
        $(mod $module {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(place) = $place {
                    $crate::store::conformance::$module::$name(&place).await;
                }
            })*
        })*
    };
}
pub(crate) use suite;
