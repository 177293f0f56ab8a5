//! no descriptors, and no memory for sockets, by a limit and by calls that fail: nothing ends, nothing turns in
//! circles, what is open goes on, and as soon as there are some again new connections work.
//!
//! `ADIT_SHORTAGES` is how often each is tried (a release: 20).

use std::time::{Duration, Instant};

use adit_tests::apps;
use adit_tests::deadline::pause;
use adit_tests::kernel::processor_ticks;
use adit_tests::on_each_loop;
use adit_tests::scenario::{Scenario, count, judges};
use adit_tests::stack::Serve;
use anyhow::{Context, Result, ensure};

use super::pair::{PARTS, Pair, Resting, part};
use super::tampered::Tools;

const LIMIT: Duration = Duration::from_secs(1_800);

/// How long a shortage lasts, in which its processor time is looked at.
const SHORTAGE: Duration = Duration::from_secs(1);

/// Of a core: a process that turns in circles takes all of it.
const SPIN: u64 = 25;

/// The goal of the plan for a machine that does nothing else.
const SPIN_GOAL: u64 = 5;
const RECOVERY_GOAL: Duration = Duration::from_secs(1);

/// Clients that come while there is a shortage: of the tunnel and of the service. What becomes of them is no
/// matter; all of them go when this does.
async fn crowd(serve: &Serve, pair: &Pair) -> Vec<tokio::net::TcpStream> {
    let mut clients = Vec::new();
    for port in [pair.port, serve.tunnel().port] {
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

fn check(what: &str, used: u64, recovery: Duration) -> Result<()> {
    eprintln!("{what}: {used} % of a core meanwhile, new connections {recovery:?} after it");
    let (most, latest) = match judges() {
        true => (SPIN_GOAL, RECOVERY_GOAL),
        false => (SPIN, Duration::MAX),
    };
    ensure!(used <= most, "{what}: {used} % of a core was used");
    ensure!(recovery <= latest, "{what}: it took {recovery:?}");
    Ok(())
}

async fn without_a_descriptor_left_everything_waits_and_nothing_ends(
    scenario: Scenario,
) -> Result<()> {
    let Some(tools) = Tools::find(&scenario)? else {
        return Ok(());
    };
    let mut serve = Serve::start(&scenario).await?;
    let mut pair = Pair::start(&scenario, &serve).await?;
    for _ in 0..count("ADIT_SHORTAGES", 1)? {
        for name in PARTS {
            let resting = Resting::begin(pair.port).await?;
            let process = part(name, &mut serve, &mut pair).id();
            let before = tools.exhaust(process)?;
            let clients = crowd(&serve, &pair).await;
            let used = used_meanwhile(process).await?;
            ensure!(!resting.is_over(), "{name}: what was open was cut");
            tools.limit(process, before)?;
            drop(clients);
            let recovery = pair.recovers().await.context(name)?;
            resting.end().await.context(name)?;
            serve.api()?.open_tunnel(&["SSH"]).await.context(name)?;
            part(name, &mut serve, &mut pair).still_runs()?;
            check(name, used, recovery)?;
        }
    }
    Ok(())
}

async fn calls_that_fail_for_want_of_anything_are_tried_again(scenario: Scenario) -> Result<()> {
    let Some(tools) = Tools::find(&scenario)? else {
        return Ok(());
    };
    let mut serve = Serve::start(&scenario).await?;
    let mut pair = Pair::start(&scenario, &serve).await?;
    for _ in 0..count("ADIT_SHORTAGES", 1)? {
        for error in ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"] {
            for name in PARTS {
                let what = format!("{name}, {error}");
                let resting = Resting::begin(pair.port).await?;
                let process = part(name, &mut serve, &mut pair).id();
                let calls = "accept,accept4,socket,connect";
                let tampered = tools.tamper(process, calls, error, &[]).await?;
                let clients = crowd(&serve, &pair).await;
                let used = used_meanwhile(process).await?;
                ensure!(!resting.is_over(), "{what}: what was open was cut");
                tampered.end().await?;
                drop(clients);
                let recovery = pair.recovers().await.with_context(|| what.clone())?;
                resting.end().await.with_context(|| what.clone())?;
                part(name, &mut serve, &mut pair).still_runs()?;
                check(&what, used, recovery)?;
            }
        }
    }
    Ok(())
}

on_each_loop!(
    within super::LIMIT;
    without_a_descriptor_left_everything_waits_and_nothing_ends,
    calls_that_fail_for_want_of_anything_are_tried_again,
);
