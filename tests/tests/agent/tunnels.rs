//! From a notification to bytes, and back to nothing.

use adit_tests::apps::App;
use adit_tests::scenario::Scenario;
use adit_tests::{on_each_loop, on_own_choice};
use anyhow::{Result, ensure};

use super::stage::{Stage, is_silent_about, said, terminate};

async fn a_notification_connects_the_device_and_bytes_flow(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let agent = stage.agent().await?;
    let (tunnel, _source) = stage.carries(&["SSH"]).await?;
    is_silent_about(&agent, &tunnel.destination_token)?;
    terminate(agent).await
}

/// One loop carries them all, and neither end of one touches another.
async fn tunnels_live_side_by_side(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    // A broker that does not know the protocol's name goes on without.
    stage.configure("alpn = \"x-amzn-mqtt-ca\"")?;
    let agent = stage.agent().await?;
    let (first, first_source) = stage.carries(&["SSH"]).await?;
    let (_second, second_source) = stage.carries(&["SSH"]).await?;
    first_source.echoes().await?;
    stage.serve.api()?.close_tunnel(&first.id).await?;
    agent.line("tunnel closed").await?;
    second_source.echoes().await?;
    ensure!(
        said(&agent, "tunnel opened") == 2,
        "two tunnels were opened"
    );
    terminate(agent).await
}

async fn a_tunnel_that_was_closed_leaves_no_token_behind(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let agent = stage.agent().await?;
    let (tunnel, _source) = stage.carries(&["SSH"]).await?;
    ensure!(
        stage.state()?.contains(&tunnel.destination_token),
        "it can be resumed"
    );
    stage.serve.api()?.close_tunnel(&tunnel.id).await?;
    agent.line("tunnel closed").await?;
    terminate(agent).await?;
    ensure!(
        !stage.state()?.contains(&tunnel.destination_token),
        "it is over"
    );
    Ok(())
}

/// As a map in the configuration may say: a path beside it.
async fn a_service_may_be_a_unix_socket(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let _app = App::start_unix_echo(&scenario.path("device/app.sock"))?;
    stage.configure("services.LOG = \"unix:app.sock\"")?;
    let agent = stage.agent().await?;
    stage.carries(&["LOG"]).await?;
    terminate(agent).await
}

/// Each tunnel's destination runs in the agent itself: nothing is started beside it.
async fn a_tunnel_takes_no_process_of_its_own(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let agent = stage.agent().await?;
    let (_tunnel, _source) = stage.carries(&["SSH"]).await?;
    for task in std::fs::read_dir(format!("/proc/{}/task", agent.id()))? {
        let children = std::fs::read_to_string(task?.path().join("children"))?;
        ensure!(children.trim().is_empty(), "it has children: {children}");
    }
    terminate(agent).await
}

on_each_loop!(
    a_notification_connects_the_device_and_bytes_flow,
    tunnels_live_side_by_side,
    a_tunnel_that_was_closed_leaves_no_token_behind,
);

on_own_choice!(
    a_service_may_be_a_unix_socket,
    a_tunnel_takes_no_process_of_its_own,
);
