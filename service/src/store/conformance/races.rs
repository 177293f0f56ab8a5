//! Many at one time: what one of them gets, the others do not.

use super::*;
use crate::testing::asked;

pub(crate) async fn of_sixteen_simultaneous_uses_of_a_token_one_wins(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let races = asked("ADIT_RACES", place.races());
    for round in 0..races {
        let tunnel = fixture.open().await;
        // With client tokens of their own, and without.
        let with_clients = round % 2 == 0;
        let mut uses = JoinSet::new();
        for client in 0..16 {
            let client = with_clients.then(|| format!("{round}-{client}"));
            let presented = presented(Mode::Source, &tunnel.source, client.as_deref());
            let (store, now) = (Arc::clone(&fixture.store), fixture.now());
            uses.spawn(async move { store.spend_token(now, presented).await });
        }
        let results = uses.join_all().await;
        let won = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1, "round {round}");
        let refusal = if with_clients {
            Refusal::OtherClientToken
        } else {
            Refusal::Used
        };
        let mut refusals = results.into_iter().filter_map(Result::err);
        assert!(refusals.all(|refused| refused == refusal), "round {round}");
        let deleted = fixture.store.close(fixture.now(), &tunnel.id, true).await;
        deleted.unwrap();
    }
    fixture.check().await;
    eprintln!("T-04: {races} races of 16 in the store, one winner each");
}

pub(crate) async fn of_sixteen_openings_at_the_limit_one_wins(place: &impl Place) {
    let limits = Limits {
        open_tunnels_max: 3,
        ..Limits::default()
    };
    let fixture = Fixture::with_limits(place, limits).await;
    let (_first, second) = (fixture.open().await, fixture.open().await);
    for round in 0..10 {
        let mut opens = JoinSet::new();
        for number in 0..16 {
            let (opened, new) = prepare(&format!("{round}-{number}"));
            let (store, now) = (Arc::clone(&fixture.store), fixture.now());
            opens.spawn(async move { store.open_tunnel(now, new).await.map(|()| opened) });
        }
        let results = opens.join_all().await;
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "round {round}");
        let full = |error| matches!(error, TunnelError::LimitExceeded { max: 3, .. });
        assert!(lost.into_iter().filter_map(Result::err).all(full));
        fixture.check().await;
        for opened in won.into_iter().flatten() {
            fixture.close(&opened).await;
        }
    }
    assert_eq!(fixture.status(&second).await, Status::Open);
}

pub(crate) async fn of_sixteen_openings_to_a_thing_at_its_limit_one_wins(place: &impl Place) {
    let limits = Limits {
        open_tunnels_per_key_max: 2,
        open_tunnels_per_thing_max: 1,
        ..Limits::default()
    };
    let fixture = Fixture::with_limits(place, limits).await;
    for round in 0..10 {
        let mut opens = JoinSet::new();
        for number in 0..16 {
            let (opened, mut new) = prepare(&format!("{round}-{number}"));
            // By turns, what is full is the thing and the key.
            if round % 2 == 0 {
                new.config = Some(config(Some("lamp"), &["SSH"]));
            } else {
                new.owner = Some("KEY".into());
            }
            let (store, now) = (Arc::clone(&fixture.store), fixture.now());
            opens.spawn(async move { store.open_tunnel(now, new).await.map(|()| opened) });
        }
        let results = opens.join_all().await;
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1 + round % 2, "round {round}");
        let full = |error| matches!(error, TunnelError::LimitExceeded { max: 1 | 2, .. });
        assert!(lost.into_iter().filter_map(Result::err).all(full));
        fixture.check().await;
        for opened in won.into_iter().flatten() {
            fixture.close(&opened).await;
        }
    }
}

pub(crate) async fn of_sixteen_tokens_that_one_client_token_is_shown_with_one_wins(
    place: &impl Place,
) {
    let fixture = Fixture::new(place).await;
    for round in 0..10 {
        let mut uses = JoinSet::new();
        for _ in 0..16 {
            let tunnel = fixture.open().await;
            let client = format!("c{round}");
            let presented = presented(Mode::Destination, &tunnel.destination, Some(&client));
            let (store, now) = (Arc::clone(&fixture.store), fixture.now());
            uses.spawn(async move { store.spend_token(now, presented).await });
        }
        let results = uses.join_all().await;
        let won = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1, "round {round}");
        let mut refusals = results.into_iter().filter_map(Result::err);
        assert!(refusals.all(|refusal| refusal == Refusal::ClientTokenTaken));
        fixture.check().await;
    }
}
