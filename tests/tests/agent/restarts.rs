//! What outlives its process: tunnels of the agent, messages for it, its subscription.

use std::path::PathBuf;

use adit_tests::on_own_choice;
use adit_tests::output::Channel;
use adit_tests::process::Signal;
use adit_tests::programs::lacking;
use adit_tests::scenario::Scenario;
use adit_tests::web_proxy::WebProxy;
use anyhow::{Result, ensure};

use super::stage::{READY, Stage, THING, notification, said, terminate, topic};

async fn a_killed_agent_goes_on_with_its_tunnel(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let mut agent = stage.agent().await?;
    let (tunnel, source) = stage.carries(&["SSH"]).await?;
    for _ in 0..3 {
        agent.kill().await?;
        stage.disconnected(&tunnel).await?;
        agent = stage.launch(&[])?;
        agent.line("tunnel resumed").await?;
        stage.connected(&tunnel).await?;
        source.echoes().await?;
    }
    terminate(agent).await
}

/// An update of the agent must not cost its operator the tunnel through which it is done.
async fn an_agent_that_was_ended_goes_on_with_its_tunnel(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let agent = stage.agent().await?;
    let (tunnel, source) = stage.carries(&["SSH"]).await?;
    terminate(agent).await?;
    stage.disconnected(&tunnel).await?;
    let agent = stage.agent().await?;
    stage.connected(&tunnel).await?;
    source.echoes().await?;
    terminate(agent).await
}

/// A device without a battery starts at some date, and its clock is set while the agent runs.
async fn an_agent_that_is_started_anew_after_the_clock_was_set_goes_on_with_its_tunnel(
    scenario: Scenario,
) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let Some(library) = libfaketime() else {
        return lacking(&scenario, "faketime").map(|_: Option<()>| ());
    };
    let launch = |clock: &str| {
        stage.launch_changed(|command| {
            _ = command
                .env("LD_PRELOAD", &library)
                .env("FAKETIME", clock)
                // Monotonic time goes on; the name differs between versions.
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("DONT_FAKE_MONOTONIC", "1");
        })
    };
    let agent = launch("+0")?;
    agent.line(READY).await?;
    let (tunnel, source) = stage.carries(&["SSH"]).await?;
    terminate(agent).await?;
    // As far as the service's certificate holds, and back.
    for clock in ["+30d", "+13h", "+0"] {
        stage.disconnected(&tunnel).await?;
        let agent = launch(clock)?;
        agent.line("tunnel resumed").await?;
        agent.line(READY).await?;
        stage.connected(&tunnel).await?;
        source.echoes().await?;
        stage.notify(&tunnel, &["SSH"]).await?;
        agent.line("came again and is ignored").await?;
        terminate(agent).await?;
    }
    Ok(())
}

/// Debian's, which stands in for a clock that was set.
fn libfaketime() -> Option<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let mut paths = places.map(|place| place.path().join("faketime/libfaketimeMT.so.1"));
    paths.find(|path| path.exists())
}

/// Somebody has changed a password. Only the service says that a tunnel is over.
async fn a_web_proxy_that_wants_a_password_costs_no_tunnel(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let web_proxy = WebProxy::start().await?;
    let url = format!("http://127.0.0.1:{}", web_proxy.port()?);
    let agent = stage.launch_changed(|command| _ = command.env("https_proxy", &url))?;
    agent.line(READY).await?;
    let tunnel = stage.open(&["SSH"]).await?;
    stage.notify(&tunnel, &["SSH"]).await?;
    let mut call = web_proxy.call().await?;
    let asked = format!("CONNECT {} HTTP/1.1", stage.serve.endpoint());
    ensure!(call.request.start_line == asked, "{:?}", call.request);
    call.answer(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        .await?;
    let line = agent.line("it answered with status 407").await?;
    ensure!(line.contains("connecting again in 120.0 s"), "{line}");
    agent.line("hint: give it user and password").await?;
    terminate(agent).await?;
    let agent = stage.agent().await?;
    agent.line("tunnel resumed").await?;
    stage.connected(&tunnel).await?;
    stage.source(&tunnel, &["SSH"]).await?.echoes().await?;
    terminate(agent).await
}

async fn what_came_while_the_device_was_away_is_acted_on(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    terminate(stage.agent().await?).await?;
    let tunnel = stage.open(&["SSH"]).await?;
    stage.notify(&tunnel, &["SSH"]).await?;
    let agent = stage.launch(&[])?;
    stage.connected(&tunnel).await?;
    stage.source(&tunnel, &["SSH"]).await?.echoes().await?;
    terminate(agent).await?;
    // It was acknowledged: the broker does not send it again.
    let agent = stage.agent().await?;
    stage.carries(&["SSH"]).await?;
    let log = agent.output().text(Channel::Stderr);
    ensure!(!log.contains("came again"), "{log}");
    terminate(agent).await
}

/// The broker comes back without its sessions: CONNACK says so, and the agent subscribes again.
async fn a_broker_that_forgot_everything_is_subscribed_to_again(scenario: Scenario) -> Result<()> {
    let Some(mut stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let agent = stage.agent().await?;
    let (_tunnel, source) = stage.carries(&["SSH"]).await?;
    let seen = agent.output().count();
    stage.broker.kill_and_restart().await?;
    agent.output().line_after(seen, READY).await?;
    // Tunnels do not need the broker.
    source.echoes().await?;
    stage.carries(&["SSH"]).await?;
    ensure!(
        said(&agent, "tunnel opened") == 2,
        "two tunnels were opened"
    );
    terminate(agent).await
}

/// CONNACK says that the session is there, and nothing of the subscription that it had.
async fn a_session_without_its_subscription_is_subscribed_to_again(
    scenario: Scenario,
) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let mut agent = stage.agent().await?;
    let seen = agent.output().count();
    // Awake, it would come back before the other has done with its session.
    agent.signal(Signal::Stop).await?;
    stage.broker.unsubscribe(THING, &topic()).await?;
    let missed = stage.open(&["SSH"]).await?;
    stage.notify(&missed, &["SSH"]).await?;
    agent.signal(Signal::Continue).await?;
    agent.output().line_after(seen, READY).await?;
    stage.carries(&["SSH"]).await?;
    ensure!(
        said(&agent, "tunnel opened") == 1,
        "the subscription was there all the time"
    );
    terminate(agent).await
}

/// Each subscription is sent a retained message again: one tunnel all the same.
async fn a_retained_notification_starts_one_tunnel(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let agent = stage.agent().await?;
    let tunnel = stage.open(&["SSH"]).await?;
    let payload = notification(&tunnel.destination_token, &["SSH"]);
    stage.broker.publish_retained(&topic(), &payload).await?;
    stage.connected(&tunnel).await?;
    terminate(agent).await?;
    stage.disconnected(&tunnel).await?;
    let agent = stage.agent().await?;
    agent.line("came again and is ignored").await?;
    stage.connected(&tunnel).await?;
    ensure!(said(&agent, "tunnel opened") == 0, "one was opened");
    ensure!(said(&agent, "tunnel resumed") == 1, "one goes on");
    terminate(agent).await
}

async fn an_agent_without_a_broker_tries_again_until_there_is_one(
    scenario: Scenario,
) -> Result<()> {
    let Some(mut stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    stage.broker.process.kill().await?;
    let agent = stage.launch(&[])?;
    agent.line("connecting again in").await?;
    stage.broker.start_again().await?;
    agent.line(READY).await?;
    stage.carries(&["SSH"]).await?;
    terminate(agent).await
}

on_own_choice!(
    a_killed_agent_goes_on_with_its_tunnel,
    an_agent_that_was_ended_goes_on_with_its_tunnel,
    an_agent_that_is_started_anew_after_the_clock_was_set_goes_on_with_its_tunnel,
    a_web_proxy_that_wants_a_password_costs_no_tunnel,
    what_came_while_the_device_was_away_is_acted_on,
    a_broker_that_forgot_everything_is_subscribed_to_again,
    a_session_without_its_subscription_is_subscribed_to_again,
    a_retained_notification_starts_one_tunnel,
    an_agent_without_a_broker_tries_again_until_there_is_one,
);
