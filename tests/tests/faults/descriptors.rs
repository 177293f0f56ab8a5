//! no descriptors, and no memory for sockets, by a limit and by calls that fail: nothing ends, nothing turns in
//! circles, what is open goes on, and as soon as there are some again new connections work, and links that were lost
//! meanwhile are back.
//!
//! `ADIT_SHORTAGES` is how often each is tried (a release: 20).

use std::time::{Duration, Instant};

use adit_tests::apps;
use adit_tests::deadline::{pause, until};
use adit_tests::kernel::processor_ticks;
use adit_tests::on_each_loop;
use adit_tests::output::Channel;
use adit_tests::process::Process;
use adit_tests::scenario::{Scenario, count, judges};
use adit_tests::stack::Serve;
use adit_tests::tampered::Tampered;
use anyhow::{Context, Result, ensure};

use super::kills::SETTLED;
use super::pair::{PARTS, Pair, part};

const LIMIT: Duration = Duration::from_secs(1_800);

/// How long a shortage lasts, in which its processor time is looked at.
const SHORTAGE: Duration = Duration::from_secs(1);

/// Of a core: a process that turns in circles takes all of it.
const SPIN: u64 = 25;

/// The goal of the plan for a machine that does nothing else.
const SPIN_GOAL: u64 = 5;
const RECOVERY_GOAL: Duration = Duration::from_secs(1);

/// A link that was away waits up to as long before the next attempt.
const LINK_GOAL: Duration = Duration::from_secs(5);

const CALLS: &str = "accept,accept4,socket,connect";

const ERRORS: [&str; 4] = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"];

/// Clients that come while there is a shortage: of the tunnel, of the relay and of the API. What becomes of them is no
/// matter; all of them go when this does.
async fn crowd(serve: &Serve, pair: &Pair) -> Vec<tokio::net::TcpStream> {
    let mut clients = Vec::new();
    for port in [pair.port, serve.tunnel().port, serve.api_port()] {
        for _ in 0..5 {
            clients.extend(apps::connect(port).await.ok());
        }
    }
    clients
}

/// Lets the shortage last; how much of a core the process used meanwhile, in percent.
async fn used_meanwhile(process: u32) -> Result<u64> {
    // What comes with the crowd itself is over then.
    pause(Duration::from_millis(200)).await;
    let (begin, before) = (Instant::now(), processor_ticks(process)?);
    pause(SHORTAGE).await;
    let used = processor_ticks(process)? - before;
    Ok(used * 1_000 / u64::try_from(begin.elapsed().as_millis())?)
}

fn check(what: &str, used: u64, recovery: Duration, goal: Duration) -> Result<()> {
    eprintln!("{what}: {used} % of a core meanwhile, new connections {recovery:?} after it");
    let (most, latest) = match judges() {
        true => (SPIN_GOAL, goal),
        false => (SPIN, Duration::MAX),
    };
    ensure!(used <= most, "{what}: {used} % of a core was used");
    ensure!(recovery <= latest, "{what}: it took {recovery:?}");
    Ok(())
}

async fn without_a_descriptor_left_everything_waits_and_nothing_ends(
    scenario: Scenario,
) -> Result<()> {
    let Some((tools, mut serve, mut pair)) = Pair::with_tools(&scenario).await? else {
        return Ok(());
    };
    for _ in 0..count("ADIT_SHORTAGES", 1)? {
        for name in PARTS {
            let resting = pair.rests().await?;
            let process = part(name, &mut serve, &mut pair).id();
            let lines = complaints(part(name, &mut serve, &mut pair));
            let before = tools.exhaust(process)?;
            let clients = crowd(&serve, &pair).await;
            let used = used_meanwhile(process).await?;
            let lines = complaints(part(name, &mut serve, &mut pair)) - lines;
            let listeners = match name {
                "service" => 2,
                "source" => 1,
                _ => 0,
            };
            ensure!(lines <= listeners, "{name}: it told {lines} times");
            ensure!(!resting.is_over(), "{name}: what was open was cut");
            tools.limit(process, before)?;
            drop(clients);
            let recovery = pair.recovers().await.context(name)?;
            resting.end().await.context(name)?;
            serve.api()?.open_tunnel(&["SSH"]).await.context(name)?;
            part(name, &mut serve, &mut pair).still_runs()?;
            check(name, used, recovery, RECOVERY_GOAL)?;
        }
    }
    Ok(())
}

async fn calls_that_fail_for_want_of_anything_are_tried_again(scenario: Scenario) -> Result<()> {
    let Some((tools, mut serve, mut pair)) = Pair::with_tools(&scenario).await? else {
        return Ok(());
    };
    for _ in 0..count("ADIT_SHORTAGES", 1)? {
        for error in ERRORS {
            for name in PARTS {
                let what = format!("{name}, {error}");
                let resting = pair.rests().await?;
                let process = part(name, &mut serve, &mut pair).id();
                let tampered = tools.tamper(process, CALLS, error, &[]).await?;
                let clients = crowd(&serve, &pair).await;
                let used = used_meanwhile(process).await?;
                ensure!(!resting.is_over(), "{what}: what was open was cut");
                has_failed(tampered).await.with_context(|| what.clone())?;
                drop(clients);
                let recovery = pair.recovers().await.with_context(|| what.clone())?;
                resting.end().await.with_context(|| what.clone())?;
                part(name, &mut serve, &mut pair).still_runs()?;
                check(&what, used, recovery, RECOVERY_GOAL)?;
            }
        }
    }
    Ok(())
}

/// Both links are lost while their proxies cannot dial.
async fn a_link_is_dialled_again_as_soon_as_calls_succeed(scenario: Scenario) -> Result<()> {
    let Some((tools, mut serve, mut pair)) = Pair::with_tools(&scenario).await? else {
        return Ok(());
    };
    for _ in 0..count("ADIT_SHORTAGES", 1)? {
        for error in ERRORS {
            pair.recovers().await.context(error)?;
            pause(SETTLED).await;
            let proxies = [pair.source.id(), pair.destination.id()];
            let source = tools.tamper(proxies[0], CALLS, error, &[]).await?;
            let destination = tools.tamper(proxies[1], CALLS, error, &[]).await?;
            let before = [failures(&pair.source), failures(&pair.destination)];
            serve = serve.kill_and_restart().await?;
            until("both to find that they cannot dial", || {
                let after = [failures(&pair.source), failures(&pair.destination)];
                after[0] > before[0] && after[1] > before[1]
            })
            .await
            .context(error)?;
            let used = tokio::try_join!(used_meanwhile(proxies[0]), used_meanwhile(proxies[1]))?;
            has_failed(source).await.context("source")?;
            has_failed(destination).await.context("destination")?;
            let what = format!("links, {error}");
            let recovery = pair.recovers().await.with_context(|| what.clone())?;
            check(&what, used.0.max(used.1), recovery, LINK_GOAL)?;
        }
    }
    Ok(())
}

/// Links that a proxy could not dial so far.
fn failures(process: &Process) -> usize {
    let said = process.output().text(Channel::Stderr);
    said.matches("no connection to localhost").count()
}

/// Lines about connections that cannot be accepted.
fn complaints(process: &Process) -> usize {
    let said = process.output().text(Channel::Stderr);
    said.matches("cannot accept connections").count()
}

/// Ends it; some of the calls must have been made.
async fn has_failed(tampered: Tampered) -> Result<()> {
    let failed = tampered.end().await?;
    ensure!(failed > 0, "no call was made that could fail");
    Ok(())
}

on_each_loop!(
    within super::LIMIT;
    without_a_descriptor_left_everything_waits_and_nothing_ends,
    calls_that_fail_for_want_of_anything_are_tried_again,
    a_link_is_dialled_again_as_soon_as_calls_succeed,
);
