//! Random operations against a model of what each token may still do.

use std::collections::HashSet;

use super::*;
use crate::testing::Random;
use crate::tunnels::TokenUse;

/// What the model remembers of one token that was given out.
#[derive(Clone)]
struct Given {
    tunnel: Opened,
    mode: Mode,
    use_: TokenUse,
    revoked: bool,
}

pub(crate) async fn no_token_is_ever_accepted_where_the_model_refuses_it(place: &impl Place) {
    for seed in 1..=place.seeds() {
        run(place, seed).await;
    }
}

async fn run(place: &impl Place, seed: u64) {
    let mut random = Random(seed);
    let fixture = Fixture::with_limits(
        place,
        Limits {
            open_tunnels_max: 20,
            closed_tunnels_max: 10,
            ..Limits::default()
        },
    )
    .await;
    let mut given: Vec<Given> = Vec::new();
    let clients = ["a", "b", "c", "d"];
    for _ in 0..400 {
        match random.below(10) {
            0 | 1 => {
                let lifetime = 1 + random.below(60) as i64;
                if let Ok(tunnel) = fixture.try_open(None, lifetime).await {
                    give(&mut given, &tunnel, Mode::Source);
                    give(&mut given, &tunnel, Mode::Destination);
                }
            }
            2 if !given.is_empty() => {
                let old = given[random.below(given.len())].clone();
                if let Ok(tunnel) = fixture.rotate(&old.tunnel, &[old.mode], None).await {
                    let same = |g: &&mut Given| g.tunnel.id == tunnel.id && g.mode == old.mode;
                    given.iter_mut().filter(same).for_each(|g| g.revoked = true);
                    give(&mut given, &tunnel, old.mode);
                }
            }
            3 if !given.is_empty() => {
                let id = given[random.below(given.len())].tunnel.id.clone();
                let _ = fixture
                    .store
                    .close(fixture.now(), &id, random.below(2) == 0)
                    .await;
            }
            4 => drop(fixture.advance(minutes(random.below(10) as u64)).await),
            _ if !given.is_empty() => {
                let index = random.below(given.len());
                let client = clients.get(random.below(5)).copied();
                handshake(&fixture, &mut given, index, client).await;
            }
            _ => {}
        }
    }
    assert!(given.len() > 20, "seed {seed} did something");
}

fn give(given: &mut Vec<Given>, tunnel: &Opened, mode: Mode) {
    given.push(Given {
        tunnel: tunnel.clone(),
        mode,
        use_: TokenUse::Unused,
        revoked: false,
    });
}

async fn handshake(
    fixture: &Fixture<'_, impl Place>,
    given: &mut [Given],
    index: usize,
    client: Option<&str>,
) {
    let this = given[index].clone();
    let client_hash = client.map(hash);
    let mut in_use = HashSet::new();
    for other in given.iter().filter(|other| !other.revoked) {
        if let TokenUse::Bound(token) = other.use_
            && fixture.try_status(&other.tunnel).await == Some(Status::Open)
        {
            in_use.insert(token);
        }
    }
    let is_open = fixture.try_status(&this.tunnel).await == Some(Status::Open);
    let allowed = !this.revoked
        && is_open
        && match (this.use_, client_hash) {
            (TokenUse::Unused, None) => true,
            (TokenUse::Unused, Some(token)) => !in_use.contains(&token),
            (TokenUse::Bound(bound), Some(token)) => bound == token,
            (TokenUse::Bound(_), None) | (TokenUse::Spent, _) => false,
        };
    // An expired tunnel that the timer has not met yet still holds its client tokens: the store may
    // refuse one that the model finds free, for as long as the timer is late.
    fixture.store.expire(fixture.now()).await.unwrap();
    let token = this.tunnel.token(this.mode);
    let result = fixture.spend(this.mode, token, client).await;
    assert_eq!(result.is_ok(), allowed, "{:?} {client:?}", result.err());
    if let Ok(admitted) = result {
        given[index].use_ = client_hash.map_or(TokenUse::Spent, TokenUse::Bound);
        let session = admitted.session;
        fixture
            .set_connected(&this.tunnel, this.mode, session)
            .await;
    }
}
