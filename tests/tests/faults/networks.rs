//! bad networks between both proxies and the service. Slower, but not a byte is wrong or missing.
//!
//! `ADIT_NETWORKS` is how many times more than ordinarily is carried (a release: 64, which is 1 GiB in all).

use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use adit_tests::api::Tunnel;
use adit_tests::apps;
use adit_tests::deadline::within_limit;
use adit_tests::on_own_choice;
use adit_tests::programs;
use adit_tests::scenario::{Scenario, count, seed};
use adit_tests::stack::Serve;
use adit_tests::verifier::Transfer;
use anyhow::{Context, Result};

use super::bad_network::{BadNetwork, FAR, Profile};
use super::namespace::is_inside;
use super::pair::{Pair, SEED};

const LIMIT: Duration = Duration::from_secs(3_600);

const MBIT: u64 = 125_000;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const CLEAN: Profile = Profile {
    name: "100 Mbit/s, 5 ms",
    lost: 0,
    twice: 0,
    delay: millis(2),
    jitter: millis(0),
    rate: 100 * MBIT,
    mtu: 1_500,
};

/// Each with what it carries, both ways together, in KiB.
const PROFILES: [(Profile, u64); 6] = [
    (CLEAN, 12_288),
    (
        Profile {
            name: "1 % lost, 50 ms",
            lost: 10,
            delay: millis(25),
            ..CLEAN
        },
        3_072,
    ),
    (
        Profile {
            name: "5 % lost, 100 ms and up to 20 more, which reorders",
            lost: 50,
            delay: millis(50),
            jitter: millis(20),
            ..CLEAN
        },
        512,
    ),
    (
        Profile {
            name: "20 % lost, 100 ms",
            lost: 200,
            delay: millis(50),
            ..CLEAN
        },
        64,
    ),
    (
        Profile {
            name: "64 kbit/s, 600 ms",
            delay: millis(300),
            rate: 8_000,
            ..CLEAN
        },
        32,
    ),
    (
        Profile {
            name: "MTU 576, 5 % twice, up to 10 ms more, which reorders, 1 % lost",
            lost: 10,
            twice: 50,
            delay: millis(10),
            jitter: millis(10),
            mtu: 576,
            ..CLEAN
        },
        416,
    ),
];

/// At the same time.
const CONNECTIONS: u64 = 4;

/// A service at the far end, whose API nobody else may call.
async fn serve_far(scenario: &Scenario, network: &BadNetwork) -> Result<Serve> {
    Serve::start_changed(scenario, |command| {
        let mut changed = Command::new(command.get_program());
        let mut is_place = false;
        for argument in command.get_args() {
            if is_place {
                changed.arg(format!("{FAR}:0"));
            } else {
                changed.arg(argument);
            }
            is_place = argument == "--tunnel-listen";
        }
        changed.args(["--name", FAR, "--name", "localhost"]);
        let variables = command.get_envs();
        changed.envs(variables.filter_map(|(name, value)| Some((name, value?))));
        *command = network.at_the_far_end(&changed);
    })
    .await
}

async fn open(scenario: &Scenario, network: &BadNetwork, serve: &Serve) -> Result<Tunnel> {
    let mut command = scenario.binary().adit();
    command.args(["tunnel", "open", "--service", "SSH", "--json"]);
    command
        .args(["--no-sign-request", "--data-dir"])
        .arg(serve.data());
    let output = programs::run(millis(30_000), network.at_the_far_end(&command)).await?;
    Tunnel::read(&serde_json::from_slice(&output.stdout)?)
}

async fn bad_networks_cost_time_and_no_byte(scenario: Scenario) -> Result<()> {
    let test = "networks::bad_networks_cost_time_and_no_byte";
    if !is_inside(&scenario, test, "--net", LIMIT).await? {
        return Ok(());
    }
    let Some(network) = BadNetwork::start(&scenario, seed()?, CLEAN).await? else {
        return Ok(());
    };
    let mut serve = serve_far(&scenario, &network).await?;
    let tunnel = open(&scenario, &network, &serve).await?;
    let endpoint = format!("{FAR}:{}", serve.tunnel().port);
    let change = |proxy: adit_tests::proxy::Proxy| proxy.endpoint(&endpoint);
    let mut pair = Pair::of_tunnel(&scenario, &serve, tunnel, change).await?;
    pair.recovers().await?;
    let times = count("ADIT_NETWORKS", 1)? as u64;
    let counts = network.counts();
    for (profile, size) in PROFILES {
        network.becomes(profile).await?;
        let before = all(counts);
        let begin = Instant::now();
        let exchanges = (0..CONNECTIONS).map(|id| {
            let port = pair.port;
            let transfer = Transfer {
                id,
                length: size * 1_024 * times / 2 / CONNECTIONS,
                seed: SEED,
            };
            tokio::spawn(async move {
                let mut client = apps::connect(port).await?;
                within_limit(LIMIT / 6, "an exchange", transfer.exchange(&mut client)).await
            })
        });
        for exchange in exchanges.collect::<Vec<_>>() {
            exchange.await?.context(profile.name)?;
        }
        let took = begin.elapsed();
        let [carried, lost, overtaken, repeated] = all(counts);
        eprintln!(
            "{}: {} KiB of exchanges in {took:.1?}; {} packets, {} lost, {} overtaken, {} twice",
            profile.name,
            size * times,
            carried - before[0],
            lost - before[1],
            overtaken - before[2],
            repeated - before[3]
        );
    }
    network.becomes(CLEAN).await?;
    pair.recovers().await?;
    serve.process.still_runs()
}

fn all(counts: &super::bad_network::Counts) -> [u64; 4] {
    let counts = [
        &counts.carried,
        &counts.lost,
        &counts.overtaken,
        &counts.repeated,
    ];
    counts.map(|count| count.load(Ordering::Relaxed))
}

on_own_choice!(
    within LIMIT;
    bad_networks_cost_time_and_no_byte,
);
