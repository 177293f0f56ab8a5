//! bad networks between both proxies and the service. Slower, but not a byte is wrong or missing.
//!
//! `ADIT_NETWORKS` is how many times more than ordinarily is carried (a release: 64, which is 1 GiB in all).

use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use adit_tests::api::Tunnel;
use adit_tests::apps;
use adit_tests::deadline::{pause, within_limit};
use adit_tests::namespace::is_inside;
use adit_tests::on_own_choice;
use adit_tests::programs;
use adit_tests::scenario::{Scenario, count, seed};
use adit_tests::stack::Serve;
use adit_tests::verifier::Transfer;
use anyhow::{Context, Result, ensure};

use super::bad_network::{BadNetwork, FAR, Profile};
use super::pair::{Pair, SEED, exchange};

const LIMIT: Duration = Duration::from_secs(3_600);

/// For dialling both links; the slowest line takes 3 s for a handshake, and the worst loses a packet of five.
const LINKS_LIMIT: Duration = Duration::from_secs(120);

/// For the exchanges of one network. At a release the slowest line has 2 MiB to carry each way, those of both links: 262 s at
/// 8,000 bytes a second, and some 285 with headers and acknowledgements. Twice that is for what TCP has to send again.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(600);

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

const FAR_AWAY: Profile = Profile {
    name: "1 % lost, 50 ms",
    lost: 10,
    delay: millis(25),
    ..CLEAN
};

const REORDERING: Profile = Profile {
    name: "5 % lost, 100 ms and up to 20 more, which reorders",
    lost: 50,
    delay: millis(50),
    jitter: millis(20),
    ..CLEAN
};

const LOSSY: Profile = Profile {
    name: "20 % lost, 100 ms",
    lost: 200,
    delay: millis(50),
    ..CLEAN
};

const SLOW: Profile = Profile {
    name: "64 kbit/s, 600 ms",
    delay: millis(300),
    rate: 8_000,
    ..CLEAN
};

const SMALL_PACKETS: Profile = Profile {
    name: "MTU 576, 5 % twice, up to 10 ms more, which reorders, 1 % lost",
    lost: 10,
    twice: 50,
    delay: millis(10),
    jitter: millis(10),
    mtu: 576,
    ..CLEAN
};

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

/// Exchanges of `size` KiB, both ways together, through a network that is like this.
async fn costs_time_and_no_byte(
    scenario: Scenario,
    test: &str,
    profile: Profile,
    size: u64,
) -> Result<()> {
    if !is_inside(&scenario, &format!("networks::{test}"), "--net", LIMIT).await? {
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
    let size = size * count("ADIT_NETWORKS", 1)? as u64;
    network.becomes(profile).await?;
    // Links that are dialled in this network: BBR goes on for minutes at the pace of the one before, and most of what it
    // sends into a line that is a thousand times slower is lost at its queue (62 % once, with timeouts of 23 s and more).
    pair.kill_source().await?;
    pair.kill_destination().await?;
    within_limit(LINKS_LIMIT, "both links", async {
        while exchange(pair.port, 1).await.is_err() {
            pause(millis(100)).await;
        }
        Ok(())
    })
    .await?;
    let before = all(network.counts());
    let begin = Instant::now();
    let exchanges = (0..CONNECTIONS).map(|id| {
        let port = pair.port;
        let transfer = Transfer {
            id,
            length: size * 1_024 / 2 / CONNECTIONS,
            seed: SEED,
        };
        tokio::spawn(async move {
            let mut client = apps::connect(port).await?;
            within_limit(
                EXCHANGE_LIMIT,
                "an exchange",
                transfer.exchange(&mut client),
            )
            .await
        })
    });
    for exchange in exchanges.collect::<Vec<_>>() {
        exchange.await?.context(profile.name)?;
    }
    let took = begin.elapsed();
    let after = all(network.counts());
    let seen = std::array::from_fn(|index| after[index] - before[index]);
    let [carried, lost, crowded_out, overtaken, repeated] = seen;
    eprintln!(
        "{}: {size} KiB of exchanges in {took:.1?}; {carried} packets, {lost} lost, {crowded_out} crowded out, \
         {overtaken} overtaken, {repeated} twice",
        profile.name,
    );
    was_there(&profile, size * 1_024, took, seen).context(profile.name)?;
    network.becomes(CLEAN).await?;
    pair.recovers().await?;
    serve.process.still_runs()
}

/// Makes sure that the exchanges went through the network of this profile: that no byte was faster than it lets one be,
/// and that packets fared as it says. The bounds of what is left to chance are so wide that none is met by chance.
fn was_there(
    profile: &Profile,
    bytes: u64,
    took: Duration,
    [carried, lost, _, overtaken, repeated]: [u64; 5],
) -> Result<()> {
    // There and back through both links; and both directions of both carry half of the bytes.
    let shortest = Duration::from_secs_f64(bytes as f64 / profile.rate as f64);
    let shortest = shortest.max(4 * profile.delay);
    ensure!(took >= shortest, "{took:?} is too fast: {shortest:?}");
    let fewest = 2 * bytes / u64::from(profile.mtu);
    ensure!(carried >= fewest, "{carried} packets are not {fewest}");
    let of_1_000 = |share: u32| carried * u64::from(share) / 1_000;
    let reordered = match profile.jitter.is_zero() {
        true => 0,
        false => carried / 4,
    };
    for (what, found, expected) in [
        ("lost", lost, of_1_000(profile.lost)),
        ("overtaken", overtaken, reordered),
        ("twice", repeated, of_1_000(profile.twice)),
    ] {
        let least = (expected / 5).max(u64::from(expected > 0));
        ensure!(found >= least, "{what}: {found} of {carried} packets");
    }
    Ok(())
}

/// Carried, lost, crowded out, overtaken, repeated.
fn all(counts: &super::bad_network::Counts) -> [u64; 5] {
    let counts = [
        &counts.carried,
        &counts.lost,
        &counts.crowded_out,
        &counts.overtaken,
        &counts.repeated,
    ];
    counts.map(|count| count.load(Ordering::Relaxed))
}

async fn no_byte_is_lost_in_a_good_network(scenario: Scenario) -> Result<()> {
    let test = "no_byte_is_lost_in_a_good_network";
    costs_time_and_no_byte(scenario, test, CLEAN, 12_288).await
}

async fn no_byte_is_lost_far_away(scenario: Scenario) -> Result<()> {
    let test = "no_byte_is_lost_far_away";
    costs_time_and_no_byte(scenario, test, FAR_AWAY, 3_072).await
}

async fn no_byte_is_lost_where_packets_overtake(scenario: Scenario) -> Result<()> {
    let test = "no_byte_is_lost_where_packets_overtake";
    costs_time_and_no_byte(scenario, test, REORDERING, 512).await
}

async fn no_byte_is_lost_where_every_fifth_packet_is(scenario: Scenario) -> Result<()> {
    let test = "no_byte_is_lost_where_every_fifth_packet_is";
    costs_time_and_no_byte(scenario, test, LOSSY, 64).await
}

async fn no_byte_is_lost_on_a_slow_line(scenario: Scenario) -> Result<()> {
    let test = "no_byte_is_lost_on_a_slow_line";
    costs_time_and_no_byte(scenario, test, SLOW, 32).await
}

async fn no_byte_is_lost_in_small_packets(scenario: Scenario) -> Result<()> {
    let test = "no_byte_is_lost_in_small_packets";
    costs_time_and_no_byte(scenario, test, SMALL_PACKETS, 416).await
}

on_own_choice!(
    within LIMIT;
    no_byte_is_lost_in_a_good_network,
    no_byte_is_lost_far_away,
    no_byte_is_lost_where_packets_overtake,
    no_byte_is_lost_where_every_fifth_packet_is,
    no_byte_is_lost_on_a_slow_line,
    no_byte_is_lost_in_small_packets,
);
