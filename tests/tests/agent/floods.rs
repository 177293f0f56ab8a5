//! Threat T-10: notifications by the thousand that came before, or that nobody may send; no tunnel more than
//! there are.
//!
//! `ADIT_NOTIFICATIONS` is how many of each kind (a release: 10,000).

use std::time::Duration;

use adit_tests::deadline::{pause, within_limit};
use adit_tests::on_own_choice;
use adit_tests::process::Process;
use adit_tests::scenario::Scenario;
use anyhow::{Context, Result, ensure};

use super::stage::{Stage, notification, said, terminate, topic};

/// At ten in a second, which takes a machine that does much else.
const LIMIT: Duration = Duration::from_secs(3_000);

/// Fewer than the 1,000 that the broker queues: none is lost on the way.
const BATCH: usize = 500;

fn count() -> Result<usize> {
    match std::env::var("ADIT_NOTIFICATIONS") {
        Ok(text) => text.parse().context("ADIT_NOTIFICATIONS is no number"),
        Err(_) => Ok(600),
    }
}

/// Publishes them, and waits until the agent has done with each.
async fn flood(
    stage: &Stage,
    agent: &Process,
    lines: &[String],
    done: impl Fn(&Process) -> usize,
) -> Result<()> {
    let before = done(agent);
    for (number, batch) in lines.chunks(BATCH).enumerate() {
        stage.broker.publish_lines(&topic(), batch).await?;
        let wanted = before + number * BATCH + batch.len();
        within_limit(LIMIT, "waiting for the end of a batch", async {
            while done(agent) < wanted {
                pause(Duration::from_millis(50)).await;
            }
            Ok(())
        })
        .await?;
        ensure!(done(agent) == wanted, "the agent made more of them");
    }
    Ok(())
}

/// Half of them before a restart of the agent, half behind it.
async fn repeats_start_nothing_before_and_after_a_restart(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let count = count()?;
    let ignored = |agent: &Process| said(agent, "came again and is ignored");
    let mut agent = stage.agent().await?;
    let (first, source) = stage.carries(&["SSH"]).await?;
    let repeats = vec![notification(&first.destination_token, &["SSH"]); count.div_ceil(2)];
    flood(&stage, &agent, &repeats, ignored).await?;
    stage.carries(&["SSH"]).await?;
    ensure!(said(&agent, "tunnel opened") == 2, "a repeat was acted on");
    source.echoes().await?;
    agent.kill().await?;
    let agent = stage.agent().await?;
    flood(&stage, &agent, &repeats, ignored).await?;
    stage.carries(&["SSH"]).await?;
    ensure!(said(&agent, "tunnel resumed") == 2, "two went on");
    ensure!(said(&agent, "tunnel opened") == 1, "a repeat was acted on");
    source.echoes().await?;
    terminate(agent).await
}

/// Each is tried once, within the bound of tunnels, and none comes about.
async fn forgeries_leave_nothing_behind(scenario: Scenario) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let agent = stage.agent().await?;
    let forged = |number| notification(&format!("forged-{number}"), &["SSH"]);
    let lines: Vec<String> = (0..count()?).map(forged).collect();
    let done = |agent: &Process| said(agent, "tunnel closed") + said(agent, "which is the limit");
    flood(&stage, &agent, &lines, done).await?;
    ensure!(
        said(&agent, "tunnel connected") == 0,
        "a forged one was taken"
    );
    stage.carries(&["SSH"]).await?;
    ensure!(
        said(&agent, "tunnel connected") == 1,
        "a forged one was taken"
    );
    terminate(agent).await?;
    ensure!(!stage.state()?.contains("forged-"), "a token is kept");
    Ok(())
}

on_own_choice!(
    within LIMIT;
    repeats_start_nothing_before_and_after_a_restart,
    forgeries_leave_nothing_behind,
);
