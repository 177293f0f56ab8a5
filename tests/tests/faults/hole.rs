//! a peer that is silently gone, with no reset and no end. Both proxies notice within three periods of their
//! pings, whatever was under way, and the service within about a minute; what they held is free again, and once there
//! is a way they are back.
//!
//! `ADIT_HOLES` is how often each state of a link is tried (a release: 5), in a network namespace of the test's own.

use std::time::{Duration, Instant};

use adit_tests::deadline::{pause, until, within_limit};
use adit_tests::namespace::is_inside;
use adit_tests::on_each_loop;
use adit_tests::output::Channel;
use adit_tests::process::Process;
use adit_tests::programs;
use adit_tests::scenario::{Scenario, count, judges};
use adit_tests::stack::Serve;
use anyhow::{Context, Result, ensure};

use super::pair::Pair;

const LIMIT: Duration = Duration::from_secs(1_800);

/// Of the proxies here, and three of them.
const PING_INTERVAL: &str = "2s";
const GOAL: Duration = Duration::from_secs(6);

/// 50 s of silence, and a look every 10 s: one that finds it, and one more where the end of one link is told on the
/// other, which was idle until then.
const SERVICE_GOAL: Duration = Duration::from_secs(70);

/// What a proxy says of a link that is dead.
const SILENT: &str = "the service answers no pings any more";

/// What there is on the link that goes.
#[derive(Clone, Copy, Debug)]
enum State {
    Nothing,
    /// A connection that rests.
    Connection,
    /// Exchanges that never rest.
    Load,
}

/// A way that loses everything to and from a port, until it is filled again.
struct Hole {
    nft: std::path::PathBuf,
}

impl Hole {
    async fn dig(nft: &std::path::Path, port: u16) -> Result<Self> {
        for words in [
            "add table inet hole".to_owned(),
            "add chain inet hole here { type filter hook input priority 0 ; }".to_owned(),
            format!("add rule inet hole here tcp dport {port} drop"),
            format!("add rule inet hole here tcp sport {port} drop"),
        ] {
            let mut command = programs::command(nft);
            command.arg(words);
            programs::run(Duration::from_secs(5), command).await?;
        }
        Ok(Self {
            nft: nft.to_owned(),
        })
    }

    async fn fill(self) -> Result<()> {
        let mut command = programs::command(&self.nft);
        command.arg("delete table inet hole");
        programs::run(Duration::from_secs(5), command)
            .await
            .map(drop)
    }
}

fn descriptors(process: &Process) -> Result<usize> {
    let held = std::fs::read_dir(format!("/proc/{}/fd", process.id()));
    Ok(held.context("the process is gone")?.count())
}

/// The fewest within a second: what a beginning or a call holds for a moment does not count.
async fn descriptors_at_rest(process: &Process) -> Result<usize> {
    let mut fewest = descriptors(process)?;
    for _ in 0..20 {
        pause(Duration::from_millis(50)).await;
        fewest = fewest.min(descriptors(process)?);
    }
    Ok(fewest)
}

fn told(process: &Process) -> usize {
    process
        .output()
        .text(Channel::Stderr)
        .matches(SILENT)
        .count()
}

/// How long it took until a count was reached.
async fn takes(begin: Instant, what: &str, mut is_so: impl FnMut() -> bool) -> Result<Duration> {
    within_limit(Duration::from_secs(180), what, async {
        while !is_so() {
            pause(Duration::from_millis(20)).await;
        }
        Ok(begin.elapsed())
    })
    .await
}

async fn a_link_into_a_black_hole_is_noticed_and_freed(scenario: Scenario) -> Result<()> {
    let test = "hole::a_link_into_a_black_hole_is_noticed_and_freed";
    if !is_inside(&scenario, test, "--net", LIMIT).await? {
        return Ok(());
    }
    let Some([ip, nft]) = programs::find(&scenario, ["ip", "nft"])? else {
        return Ok(());
    };
    let mut command = programs::command(&ip);
    command.args(["link", "set", "lo", "up"]);
    programs::run(Duration::from_secs(5), command).await?;
    let serve = Serve::start(&scenario).await?;
    let alone = descriptors_at_rest(&serve.process).await?;
    let change = |proxy: adit_tests::proxy::Proxy| proxy.args(["--ping-interval", PING_INTERVAL]);
    let mut pair = Pair::start_with(&scenario, &serve, change).await?;
    for round in 0..count("ADIT_HOLES", 1)? {
        for state in [State::Load, State::Nothing, State::Connection] {
            // The service takes a minute: once is enough in an ordinary run.
            let is_thorough = round > 0 || matches!(state, State::Connection);
            fall(&serve, &nft, &mut pair, state, is_thorough.then_some(alone))
                .await
                .with_context(|| format!("{state:?}"))?;
        }
    }
    Ok(())
}

/// One fall into the hole, and the way out. `alone` is what the service holds without links, if that is waited for.
async fn fall(
    serve: &Serve,
    nft: &std::path::Path,
    pair: &mut Pair,
    state: State,
    alone: Option<usize>,
) -> Result<()> {
    pair.recovers().await?;
    // The links have answered a ping, and nothing of before is left.
    pause(Duration::from_secs(3)).await;
    let before = [descriptors(&pair.source)?, descriptors(&pair.destination)?];
    let said = [told(&pair.source), told(&pair.destination)];
    let resting = match state {
        State::Connection => Some(pair.rests().await?),
        State::Nothing | State::Load => None,
    };
    let load = match state {
        State::Load => Some(pair.load(4, 300_000)),
        State::Nothing | State::Connection => None,
    };
    if let Some(load) = &load {
        load.goes_on(4).await?;
    }
    if let Some(alone) = alone {
        let held = descriptors(&serve.process)?;
        ensure!(
            held >= alone + 2,
            "{held} descriptors with two links, {alone} without"
        );
    }
    let hole = Hole::dig(nft, serve.tunnel().port).await?;
    let begin = Instant::now();
    let source = takes(begin, "the source to notice", || {
        told(&pair.source) > said[0]
    });
    let destination = takes(begin, "the destination to notice", || {
        told(&pair.destination) > said[1]
    });
    let (source, destination) = tokio::join!(source, destination);
    let (source, destination) = (source?, destination?);
    let mut line = format!("{state:?}: noticed after {source:?} and {destination:?}");
    if let Some(resting) = &resting {
        until("the connection to be cut", || resting.is_over()).await?;
    }
    let mut in_time = source.max(destination) <= GOAL;
    if let Some(alone) = alone {
        let process = &serve.process;
        let held = || descriptors(process).is_ok_and(|held| held <= alone);
        let service = takes(begin, "the service to let go", held).await?;
        line += &format!(", by the service after {service:?}");
        in_time &= service <= SERVICE_GOAL;
    }
    hole.fill().await?;
    if alone.is_some() {
        // By now they wait for up to two minutes between two attempts.
        pair.kill_source().await?;
        pair.kill_destination().await?;
    }
    let back = pair.recovers().await?;
    if let Some(load) = load {
        load.stop().await?;
    }
    eprintln!("{line}; carries after {back:?}");
    until("the proxies to hold no more than before", || {
        let held = [descriptors(&pair.source), descriptors(&pair.destination)];
        let held = held.map(|held| held.unwrap_or(usize::MAX));
        held[0] <= before[0] && held[1] <= before[1]
    })
    .await?;
    ensure!(in_time || !judges(), "{line}");
    pair.source.still_runs()?;
    pair.destination.still_runs()
}

on_each_loop!(
    within super::LIMIT;
    a_link_into_a_black_hole_is_noticed_and_freed,
);
