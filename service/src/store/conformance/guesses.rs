//! What thieves and guessers get: nothing (threats T-05 and T-06).
//!
//! `ADIT_PAIRS` is how many client tokens are tried with a stolen token (a release: 100,000),
//! `ADIT_GUESSES` how many tokens are guessed in each way (a release: 1,000,000).

use adit_proto::ClientToken;

use super::*;
use crate::testing::{Random, asked, seed};

pub(crate) async fn a_stolen_token_is_of_no_use_with_any_other_client_token(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let (count, seed) = (asked("ADIT_PAIRS", place.races() * 10), seed());
    let mut thieves = JoinSet::new();
    for thief in 0..AT_ONCE {
        let mode = [Mode::Source, Mode::Destination][thief % 2];
        let tunnel = fixture.open().await;
        // Bound by its owner.
        let owner = format!("owner-{thief}");
        fixture.connect(&tunnel, mode, Some(&owner)).await;
        let (store, now) = (Arc::clone(&fixture.store), fixture.now());
        let mut random = Random(seed.wrapping_add(thief as u64));
        thieves.spawn(async move {
            for _ in 0..count.div_ceil(AT_ONCE) {
                let client = random_client_token(&mut random);
                let presented = Presented {
                    client_token: Some(ClientTokenHash::of(&client)),
                    ..presented(mode, tunnel.token(mode), None)
                };
                let refused = store.spend_token(now, presented).await;
                assert_eq!(refused.err(), Some(Refusal::OtherClientToken), "{seed}");
            }
            // And of none without any.
            let without = presented(mode, tunnel.token(mode), None);
            let refused = store.spend_token(now, without).await;
            assert_eq!(refused.err(), Some(Refusal::OtherClientToken));
            (tunnel, mode, owner)
        });
    }
    for (tunnel, mode, owner) in thieves.join_all().await {
        let again = fixture.spend(mode, tunnel.token(mode), Some(&owner)).await;
        again.expect("the owner still gets in");
    }
    eprintln!("T-05: {count} client tokens tried, none accepted");
}

/// Right routing keys of open tunnels with any secret, and any routing key with any secret.
pub(crate) async fn no_random_token_is_accepted(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let (count, seed) = (asked("ADIT_GUESSES", place.races() * 10), seed());
    let mut guessers = JoinSet::new();
    for guesser in 0..AT_ONCE {
        let tunnel = fixture.open().await;
        let (store, now) = (Arc::clone(&fixture.store), fixture.now());
        let mut random = Random(seed.wrapping_add(guesser as u64));
        guessers.spawn(async move {
            for round in 0..count.div_ceil(AT_ONCE) {
                let mode = [Mode::Source, Mode::Destination][random.below(2)];
                let mut token = tunnel.source.expose().as_bytes()[..17].to_vec();
                if round % 4 == 0 {
                    token = base64url(&mut random, 16);
                    token.push(b'.');
                }
                token.extend(base64url(&mut random, 43));
                refused(&*store, now, mode, token).await;
            }
            tunnel
        });
    }
    still_good(&fixture, guessers.join_all().await).await;
    eprintln!("T-06: {count} random tokens tried, none accepted");
}

/// Every bit of as many tokens as it takes, both of the secret and of the routing key before it.
pub(crate) async fn no_token_with_one_bit_changed_is_accepted(place: &impl Place) {
    let fixture = Fixture::new(place).await;
    let count = asked("ADIT_GUESSES", place.races() * 10);
    let mut guessers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (store, clock) = (Arc::clone(&fixture.store), fixture.clock.clone());
        guessers.spawn(async move {
            let (mut tried, mut opened) = (0, Vec::new());
            while tried < count.div_ceil(AT_ONCE) {
                let (tunnel, new) = prepare(&uuid::Uuid::new_v4().to_string());
                store.open_tunnel(clock.now(), new).await.unwrap();
                for mode in [Mode::Source, Mode::Destination] {
                    let good = tunnel.token(mode).expose().as_bytes();
                    for (index, bit) in (0..good.len()).flat_map(|i| (0..7).map(move |b| (i, b))) {
                        let mut token = good.to_vec();
                        token[index] ^= 1 << bit;
                        if is_of_our_shape(&token) {
                            refused(&*store, clock.now(), mode, token).await;
                            tried += 1;
                        }
                    }
                }
                opened.push(tunnel);
            }
            (tried, opened)
        });
    }
    let ended = guessers.join_all().await;
    let tried: usize = ended.iter().map(|(tried, _)| tried).sum();
    let opened = ended.into_iter().flat_map(|(_, opened)| opened).collect();
    still_good(&fixture, opened).await;
    eprintln!("T-06: {tried} tokens with one bit changed tried, none accepted");
}

async fn refused(store: &impl TunnelStore, now: Now, mode: Mode, token: Vec<u8>) {
    let token = AccessToken::new(String::from_utf8(token).unwrap()).unwrap();
    let refusal = store.spend_token(now, presented(mode, &token, None)).await;
    // The same answer for all of them, so that no guess is told from another.
    assert_eq!(refusal.err(), Some(Refusal::UnknownToken));
}

/// The tokens that were guessed at were good, and are still.
async fn still_good(fixture: &Fixture<'_, impl Place>, opened: Vec<Opened>) {
    for (number, tunnel) in opened.iter().enumerate().take(100) {
        for mode in [Mode::Source, Mode::Destination] {
            let client = format!("{mode}-{number}");
            let admitted = fixture.spend(mode, tunnel.token(mode), Some(&client)).await;
            admitted.expect("a good token");
        }
    }
}

/// Others are refused before any store is asked.
fn is_of_our_shape(token: &[u8]) -> bool {
    let text = String::from_utf8(token.to_vec());
    let token = text.ok().and_then(|text| AccessToken::new(text).ok());
    token.is_some_and(|token| RoutingKey::in_front_of(&token).is_some())
}

/// Any of those that the protocol allows: `^[a-zA-Z0-9-]{32,128}$`.
fn random_client_token(random: &mut Random) -> ClientToken {
    const ALPHABET: &[u8; 63] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";
    let size = 32 + random.below(97);
    let text = (0..size).map(|_| char::from(ALPHABET[random.below(63)]));
    ClientToken::strict(text.collect()).unwrap()
}

fn base64url(random: &mut Random, size: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..size).map(|_| ALPHABET[random.below(64)]).collect()
}

/// Handshakes under way at one time.
const AT_ONCE: usize = 8;
