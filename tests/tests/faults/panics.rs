//! Threat T-30: a panic ends what it happened in, is told, and costs no other tunnel a byte. Where there is no
//! telling what else is broken, the process ends with words.
//!
//! Failpoints are in debug builds alone. `ADIT_PANICS` is how often each is tried.

use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_tests::api::Api;
use adit_tests::deadline::{pause, until, within};
use adit_tests::on_each_loop;
use adit_tests::output::Channel;
use adit_tests::process::{Process, Signal};
use adit_tests::scenario::{Scenario, count};
use adit_tests::stack::Serve;
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::kills::SETTLED;
use super::pair::Pair;

const LIMIT: Duration = Duration::from_secs(1_200);

/// What tells of one.
const TOLD: &str = "a mistake in adit";

/// The same where a device's connection ends by it.
const TOLD_OF_DEVICE: &str = "a device connection's task failed";

/// What an agent says once its connection is of use.
const HEARS: &str = "waiting for tunnels";

/// The directory whose files arm failpoints; `None` for a build that has none.
pub(crate) fn failpoints(scenario: &Scenario, name: &str) -> Result<Option<PathBuf>> {
    if std::env::var_os("ADIT_UNDER_TEST").is_some() || !cfg!(debug_assertions) {
        scenario.skip("a release build has no failpoints");
        return Ok(None);
    }
    let directory = scenario.path(name);
    std::fs::create_dir_all(&directory)?;
    Ok(Some(directory))
}

fn arm(directory: &Path, point: &str) -> Result<()> {
    Ok(std::fs::write(directory.join(point), "")?)
}

async fn is_hit(directory: &Path, point: &str) -> Result<()> {
    let file = directory.join(point);
    until(&format!("{point} to be hit"), || !file.exists()).await
}

async fn serve(scenario: &Scenario, failpoints: &Path) -> Result<Serve> {
    Serve::start_changed(scenario, |command| {
        command.env("ADIT_FAILPOINTS", failpoints);
    })
    .await
}

fn told(process: &Process) -> usize {
    process.output().text(Channel::Stderr).matches(TOLD).count()
}

async fn a_panic_in_any_task_of_a_service_costs_no_other_tunnel(scenario: Scenario) -> Result<()> {
    let Some(points) = failpoints(&scenario, "points")? else {
        return Ok(());
    };
    let mut serve = serve(&scenario, &points).await?;
    let mut victim = Pair::start(&scenario, &serve).await?;
    let other = Pair::start(&scenario, &serve).await?;
    let load = other.load(4, 200_000);
    let api = serve.api()?;
    for round in 0..count("ADIT_PANICS", 1)? {
        if round > 0 {
            pause(SETTLED).await;
        }
        for point in ["relay-turn", "relay-forward"] {
            let point = format!("{point}.{}", victim.tunnel.id);
            let before = told(&serve.process);
            // A new connection may come after the cut, and waits for the next link.
            let resting = victim.rests().await?;
            arm(&points, &point)?;
            let _ = victim.carries().await;
            is_hit(&points, &point).await?;
            ensure!(resting.end().await.is_err(), "{point}: nothing was cut");
            victim.recovers().await.context(point.clone())?;
            ensure!(told(&serve.process) == before + 1, "{point} was not told");
        }
        // A handshake in the middle, its token spent or bound already: the proxy comes back with the same one.
        arm(&points, "handshake")?;
        victim.kill_source().await?;
        is_hit(&points, "handshake").await?;
        victim.recovers().await.context("handshake")?;
        for (point, refuses) in [
            ("api-call", true),
            ("store-change", true),
            ("audit-write", false),
        ] {
            hit_a_call(&api, &points, point, refuses).await?;
        }
        load.goes_on(4).await?;
    }
    serve.process.still_runs()?;
    let complete = load.stop_whole().await?;
    eprintln!("{complete} exchanges of the other tunnel, none cut");
    Ok(())
}

/// The task of a device's connection: it comes back by itself, and no tunnel notices.
async fn a_panic_in_the_task_of_a_device_costs_its_connection(scenario: Scenario) -> Result<()> {
    let Some(points) = failpoints(&scenario, "points")? else {
        return Ok(());
    };
    let mut serve = Serve::start_changed(&scenario, |command| {
        command.args(["--mqtt-listen", "127.0.0.1:0"]);
        command.env("ADIT_FAILPOINTS", &points);
    })
    .await?;
    let other = Pair::start(&scenario, &serve).await?;
    let load = other.load(4, 200_000);
    for thing in ["lamp", "bell"] {
        register(&scenario, &serve, thing).await?;
    }
    let mut beside = agent(&scenario, "bell")?;
    beside.line(HEARS).await?;
    for _ in 0..count("ADIT_PANICS", 1)? {
        let seen = serve.process.output().count();
        arm(&points, "device")?;
        let mut agent = agent(&scenario, "lamp")?;
        is_hit(&points, "device").await?;
        agent.line("connecting again in").await?;
        agent.line(HEARS).await?;
        let told = serve.process.output().line_after(seen, TOLD_OF_DEVICE);
        told.await.context("the service")?;
        agent.signal(Signal::Terminate).await?;
        agent.ends_with(0).await?;
        load.goes_on(4).await?;
    }
    serve.process.still_runs()?;
    beside.still_runs()?;
    let text = beside.output().text(Channel::Stderr);
    ensure!(!text.contains("connecting again in"), "{text}");
    let complete = load.stop_whole().await?;
    eprintln!("{complete} exchanges of a tunnel, none cut");
    Ok(())
}

async fn register(scenario: &Scenario, serve: &Serve, thing: &str) -> Result<()> {
    let mut command = scenario.binary().adit();
    command.args(["thing", "create", thing, "--service", "SSH=22"]);
    command.args(["--no-sign-request", "--data-dir"]);
    command.arg(serve.data()).current_dir(scenario.directory());
    let mut registered = Process::start(scenario, "thing", command)?;
    registered.ends_with(0).await
}

fn agent(scenario: &Scenario, thing: &str) -> Result<Process> {
    let mut command = scenario.binary().adit();
    command.args(["agent", "--config"]);
    command.arg(scenario.path(thing).join("agent.toml"));
    Process::start(scenario, thing, command)
}

/// Panics in the way of a call. Another change may come to the store before that of the call, and is made good by
/// whoever asked for it: then once more.
async fn hit_a_call(api: &Api, points: &Path, point: &str, refuses: bool) -> Result<()> {
    for _ in 0..10 {
        arm(points, point)?;
        let (status, answer) = api.try_call("OpenTunnel", &json!({})).await?;
        is_hit(points, point).await?;
        let opened = api.open_tunnel(&[]).await.context(point.to_owned())?;
        api.close_tunnel(&opened.id).await?;
        if (status >= 500) == refuses {
            return Ok(());
        }
        ensure!(point == "store-change", "{point}: {status}: {answer}");
    }
    bail!("{point} never hit the call")
}

/// The loop itself: the service does not run on half dead.
async fn a_loop_that_panics_ends_its_process_with_words(scenario: Scenario) -> Result<()> {
    let Some(points) = failpoints(&scenario, "of-the-service")? else {
        return Ok(());
    };
    let Some(of_proxy) = failpoints(&scenario, "of-a-proxy")? else {
        return Ok(());
    };
    let mut serve = serve(&scenario, &points).await?;
    let mut pair = Pair::start_with(&scenario, &serve, |proxy| {
        proxy.env("ADIT_FAILPOINTS", &of_proxy.display().to_string())
    })
    .await?;
    for (point, words) in [("loop", "event loop"), ("proxy-turn", TOLD)] {
        arm(&of_proxy, point)?;
        let _ = pair.carries().await;
        is_hit(&of_proxy, point).await?;
        // Whichever of the two came first.
        let ended = within("one of the proxies to end", async {
            loop {
                for process in [&mut pair.source, &mut pair.destination] {
                    if process.still_runs().is_err() {
                        process.ends_with(1).await?;
                        return Ok(process.output().text(Channel::Stderr));
                    }
                }
                pause(Duration::from_millis(10)).await;
            }
        });
        let said = ended.await?;
        ensure!(said.contains(words), "{point}: {said}");
        pair = Pair::start_with(&scenario, &serve, |proxy| {
            proxy.env("ADIT_FAILPOINTS", &of_proxy.display().to_string())
        })
        .await?;
    }
    arm(&points, "loop")?;
    let _ = pair.carries().await;
    is_hit(&points, "loop").await?;
    serve.process.ends_with(1).await?;
    let said = serve.process.output().text(Channel::Stderr);
    ensure!(
        said.contains("a loop of the relay ended by itself"),
        "{said}"
    );
    Ok(())
}

on_each_loop!(
    within super::LIMIT;
    a_panic_in_any_task_of_a_service_costs_no_other_tunnel,
    a_panic_in_the_task_of_a_device_costs_its_connection,
    a_loop_that_panics_ends_its_process_with_words,
);
