//! `kill -9` of each part at random moments, under load on two tunnels: no byte is wrong, the part that a
//! supervisor starts again carries new connections soon, and the tunnel that the part is not of loses nothing.
//!
//! `ADIT_KILLS` is how often each proxy is killed, and `ADIT_RELAY_KILLS` how often the relay (a release: 200).

use std::time::{Duration, Instant};

use adit_tests::deadline::pause;
use adit_tests::on_own_choice;
use adit_tests::scenario::{Scenario, count, seed};
use adit_tests::stack::Serve;
use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::pair::{Pair, tell};

const LIMIT: Duration = Duration::from_secs(3_600);

/// Goals of the plan.
const PROXY_GOAL: Duration = Duration::from_secs(5);
const RELAY_GOAL: Duration = Duration::from_secs(10);

/// After a link that ended earlier than the longest delay before it, what was waited before counts on, and proxies may
/// wait longer before the next. A relay is away for less than three seconds here.
pub(crate) const SETTLED: Duration = Duration::from_secs(5);

/// Up to 200 ms, so that each part of a transfer is met.
async fn random_moment(random: &mut ChaCha8Rng) {
    pause(Duration::from_micros(u64::from(
        random.next_u32() % 200_000,
    )))
    .await;
}

async fn killed_proxies_come_back_and_touch_no_other_tunnel(scenario: Scenario) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed()?);
    let serve = Serve::start(&scenario).await?;
    let mut victim = Pair::start(&scenario, &serve).await?;
    let other = Pair::start(&scenario, &serve).await?;
    let (load, quiet) = (victim.load(4, 300_000), other.load(2, 300_000));
    let (mut of_source, mut of_destination) = (Vec::new(), Vec::new());
    for _ in 0..count("ADIT_KILLS", 3)? {
        random_moment(&mut random).await;
        let killed = Instant::now();
        victim.kill_source().await?;
        of_source.push(victim.recovers_since(killed).await?);
        random_moment(&mut random).await;
        let killed = Instant::now();
        victim.kill_destination().await?;
        of_destination.push(victim.recovers_since(killed).await?);
    }
    let (complete, cut) = load.stop().await?;
    let untouched = quiet.stop_whole().await?;
    eprintln!("{complete} exchanges complete, {cut} cut; {untouched} beside them, none cut");
    tell("source", of_source, PROXY_GOAL)?;
    tell("destination", of_destination, PROXY_GOAL)
}

async fn a_killed_relay_comes_back_with_all_its_tunnels(scenario: Scenario) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed()?);
    let mut serve = Serve::start(&scenario).await?;
    let mut pairs = [
        Pair::start(&scenario, &serve).await?,
        Pair::start(&scenario, &serve).await?,
    ];
    let loads = [pairs[0].load(4, 300_000), pairs[1].load(4, 300_000)];
    let mut times = Vec::new();
    for _ in 0..count("ADIT_RELAY_KILLS", 2)? {
        pause(SETTLED).await;
        random_moment(&mut random).await;
        // Starting it again is part of what its users wait for.
        let killed = Instant::now();
        serve = serve.kill_and_restart().await?;
        let [first, second] = &mut pairs;
        let (first, second) =
            tokio::join!(first.recovers_since(killed), second.recovers_since(killed));
        times.push(first?.max(second?));
    }
    for load in loads {
        let (complete, cut) = load.stop().await?;
        eprintln!("{complete} exchanges complete, {cut} cut");
    }
    tell("relay", times, RELAY_GOAL)
}

on_own_choice!(
    within LIMIT;
    killed_proxies_come_back_and_touch_no_other_tunnel,
    a_killed_relay_comes_back_with_all_its_tunnels,
);
