//! Threat T-30 at a device, whose tunnels share one loop.

use adit_tests::apps;
use adit_tests::deadline::{until, within};
use adit_tests::on_each_loop;
use adit_tests::output::Channel;
use adit_tests::scenario::Scenario;
use anyhow::{Result, ensure};

use super::stage::{READY, Stage, said};

/// The one that it hits is carried anew, the other one notices nothing.
async fn a_panic_costs_one_tunnel_and_one_of_the_loop_the_agent(scenario: Scenario) -> Result<()> {
    if std::env::var_os("ADIT_UNDER_TEST").is_some() || !cfg!(debug_assertions) {
        scenario.skip("a release build has no failpoints");
        return Ok(());
    }
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let points = scenario.path("points");
    std::fs::create_dir(&points)?;
    let mut agent = stage.launch_changed(|command| {
        command.env("ADIT_FAILPOINTS", &points);
    })?;
    agent.line(READY).await?;
    let (_first, one) = stage.carries(&["SSH"]).await?;
    let (_second, other) = stage.carries(&["SSH"]).await?;
    let mut held = Vec::new();
    for source in [&one, &other] {
        let mut stream = apps::connect(source.ports[0]).await?;
        apps::ping(&mut stream, b"before").await?;
        held.push(stream);
    }

    let point = points.join("proxy-turn");
    std::fs::write(&point, "")?;
    until("a tunnel to panic", || !point.exists()).await?;
    within("the tunnel to be carried anew", async {
        one.echoes().await?;
        other.echoes().await
    })
    .await?;
    let mut alive = 0;
    for stream in &mut held {
        alive += usize::from(apps::ping(stream, b"after").await.is_ok());
    }
    ensure!(alive == 1, "{alive} of two connections are left");
    ensure!(said(&agent, "the tunnel is carried anew") == 1);

    let point = points.join("loop");
    std::fs::write(&point, "")?;
    agent.ends_with(1).await?;
    let text = agent.output().text(Channel::Stderr);
    ensure!(
        text.contains("the event loop has ended by itself"),
        "{text}"
    );
    Ok(())
}

on_each_loop!(a_panic_costs_one_tunnel_and_one_of_the_loop_the_agent);
