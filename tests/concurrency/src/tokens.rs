//! The table of tunnels in memory: of those who want a token at once, exactly one gets in, and nobody by a token
//! that is gone.

use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::thread;

use crate::clock::{Clock, Now};
use crate::schedules::in_many_orders;
use crate::store::{MemoryStore, TunnelStore};
use crate::token::{ClientTokenHash, RoutingKey, TokenHash, mint};
use crate::tunnels::{
    Admitted, Connected, Lifetime, Limits, NewTunnel, Presented, Refusal, Rotation, Seen, Tags,
};
use crate::{ClientToken, Mode, TunnelId};

/// A tunnel, and the store that it is in.
#[derive(Clone)]
struct Tunnel {
    store: Arc<MemoryStore>,
    id: TunnelId,
    token: TokenHash,
}

fn now() -> Now {
    Clock.now()
}

fn fresh_token(id: &TunnelId) -> TokenHash {
    TokenHash::of(&mint(RoutingKey::of(id)).unwrap())
}

fn client(letter: &str) -> Option<ClientTokenHash> {
    let token = ClientToken::strict(letter.repeat(32)).unwrap();
    Some(ClientTokenHash::of(&token))
}

impl Tunnel {
    fn open(store: &Arc<MemoryStore>, name: &str) -> Self {
        let id: TunnelId = name.parse().unwrap();
        let token = fresh_token(&id);
        let new = NewTunnel {
            id: id.clone(),
            routing_key: RoutingKey::of(&id),
            source: token,
            destination: fresh_token(&id),
            description: None,
            tags: Tags::new(),
            config: None,
            lifetime: Lifetime::MAX,
            owner: None,
        };
        block_on(store.open_tunnel(now(), new)).unwrap();
        let store = Arc::clone(store);
        Self { store, id, token }
    }

    fn spend(&self, client_token: Option<ClientTokenHash>) -> Result<Admitted, Refusal> {
        let presented = Presented {
            routing_key: RoutingKey::of(&self.id),
            token: self.token,
            client_token,
            mode: Mode::Source,
        };
        block_on(self.store.spend_token(now(), presented))
    }

    /// On a thread of its own.
    fn spending(
        &self,
        client_token: Option<ClientTokenHash>,
    ) -> thread::JoinHandle<Result<Admitted, Refusal>> {
        let tunnel = self.clone();
        thread::spawn(move || tunnel.spend(client_token))
    }

    fn ask(&self, session: u64) -> Connected {
        let connected = self
            .store
            .set_connected(now(), &self.id, Mode::Source, session);
        block_on(connected).unwrap()
    }
}

fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(Limits::default()))
}

fn admitted(
    spending: impl IntoIterator<Item = thread::JoinHandle<Result<Admitted, Refusal>>>,
) -> Vec<u64> {
    let results = spending.into_iter().map(|thread| thread.join().unwrap());
    let admitted = results.filter_map(Result::ok);
    admitted.map(|admitted| admitted.session).collect()
}

/// Without client tokens, and with different ones.
pub fn of_all_who_spend_a_token_one_gets_in() {
    in_many_orders(|| {
        for clients in [[None; 3], [client("a"), client("b"), None]] {
            let tunnel = Tunnel::open(&store(), "t");
            let sessions = admitted(clients.map(|client| tunnel.spending(client)));
            assert_eq!(sessions.len(), 1);
        }
    });
}

/// With one client token, all get in, and each has a number of its own; at two tunnels at once, one does.
pub fn a_client_token_is_bound_once() {
    in_many_orders(|| {
        let store = store();
        let tunnels = ["t", "u"].map(|name| Tunnel::open(&store, name));
        let spending = tunnels.each_ref().map(|tunnel| {
            let twice = [(), ()].map(|()| tunnel.spending(client("a")));
            (tunnel, twice)
        });
        let mut bound = 0;
        for (tunnel, twice) in spending {
            let sessions = admitted(twice);
            match sessions[..] {
                [] => {}
                [one, other] => {
                    assert_ne!(one, other);
                    assert!(tunnel.spend(client("b")).is_err());
                    bound += 1;
                }
                _ => panic!("the pair was good once and bad once"),
            }
        }
        assert_eq!(bound, 1);
    });
}

/// Whoever was quicker than a rotation or the end of the tunnel is told of it when the relay has the link.
pub fn nobody_stays_by_a_token_that_is_gone() {
    in_many_orders(|| {
        for is_closed in [false, true] {
            let tunnel = Tunnel::open(&store(), "t");
            let spending = [(), ()].map(|()| tunnel.spending(client("a")));
            let old = tunnel.clone();
            let taking = thread::spawn(move || {
                let (store, id) = (&old.store, &old.id);
                if is_closed {
                    block_on(store.close(now(), id, false)).unwrap();
                } else {
                    let rotation = Rotation {
                        source: Some(fresh_token(id)),
                        destination: None,
                        config: None,
                        seen: Seen::Anything,
                    };
                    block_on(store.rotate(now(), id, rotation)).unwrap();
                }
                assert!(old.spend(client("a")).is_err());
            });
            taking.join().unwrap();
            for session in admitted(spending) {
                let told = if is_closed {
                    Connected::TunnelEnded
                } else {
                    Connected::Revoked
                };
                assert_eq!(tunnel.ask(session), told);
            }
        }
    });
}
