//! at each step of making something durable the process panics, is killed, or stands still for a second. What
//! was acknowledged is there afterwards, also after a `kill -9`, and the service goes on or comes back.
//!
//! Failpoints are in debug builds alone. `ADIT_STEPS` is how often each pair of step and fault is tried (a release: 170,
//! which is 2,040 runs).

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use adit_tests::deadline::pause;
use adit_tests::on_own_choice;
use adit_tests::scenario::{Scenario, count};
use adit_tests::stack::Serve;
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tokio::task::JoinSet;

use super::panics::failpoints;

const LIMIT: Duration = Duration::from_secs(3_600);

/// Before the change is made for good, before the commit, between commit and answers, before the audit's record.
const STEPS: [&str; 4] = [
    "store-change",
    "store-commit",
    "store-committed",
    "audit-write",
];

const FAULTS: [&str; 3] = ["panic", "kill", "delay"];

/// Calls beside each other: what shares the commit.
const CALLERS: usize = 4;

/// What the service has said.
#[derive(Default)]
struct Said {
    open: BTreeSet<String>,
    closed: BTreeSet<String>,
}

async fn nothing_acknowledged_is_lost_at_any_step(scenario: Scenario) -> Result<()> {
    let Some(points) = failpoints(&scenario, "points")? else {
        return Ok(());
    };
    let mut serve = Serve::start_changed(&scenario, |command| {
        command.env("ADIT_FAILPOINTS", &points);
    })
    .await?;
    let (mut runs, mut killed) = (0, 0);
    for _ in 0..count("ADIT_STEPS", 2)? {
        for step in STEPS {
            for fault in FAULTS {
                let what = format!("{fault} at {step}");
                let mut said = Said::default();
                arm(&points, step, fault)?;
                until_hit(&serve, &points.join(step), &mut said)
                    .await
                    .context(what.clone())?;
                if fault == "kill" {
                    serve = serve
                        .restart_ended(|command| {
                            command.env("ADIT_FAILPOINTS", &points);
                        })
                        .await
                        .context(what.clone())?;
                    killed += 1;
                }
                is_there(&serve, &said).await.context(what.clone())?;
                serve.process.still_runs().context(what)?;
                runs += 1;
            }
        }
    }
    eprintln!("{runs} runs, {killed} of them kills, nothing acknowledged was lost");
    Ok(())
}

/// Puts the point there whole: an empty one would be a panic.
fn arm(points: &Path, step: &str, fault: &str) -> Result<()> {
    let whole = points.join("next");
    std::fs::write(&whole, fault)?;
    Ok(std::fs::rename(whole, points.join(step))?)
}

/// Opens and closes tunnels until the step was come to.
async fn until_hit(serve: &Serve, point: &Path, said: &mut Said) -> Result<()> {
    for _ in 0..100 {
        let mut calls = JoinSet::new();
        for caller in 0..CALLERS {
            let api = serve.api()?;
            calls.spawn(async move {
                let opened = api.open_tunnel(&["SSH"]).await.ok()?;
                let closes = caller.is_multiple_of(2);
                let is_closed = closes && api.close_tunnel(&opened.id).await.is_ok();
                // Whether one is closed whose end was not answered, nobody knows.
                (is_closed == closes).then_some((opened.id, is_closed))
            });
        }
        for (id, is_closed) in calls.join_all().await.into_iter().flatten() {
            match is_closed {
                true => said.closed.insert(id),
                false => said.open.insert(id),
            };
        }
        if !point.exists() {
            return Ok(());
        }
        pause(Duration::from_millis(1)).await;
    }
    bail!("nothing came to it")
}

async fn is_there(serve: &Serve, said: &Said) -> Result<()> {
    let api = serve.api()?;
    for (ids, status) in [(&said.open, "OPEN"), (&said.closed, "CLOSED")] {
        for id in ids {
            let answer = api.call("DescribeTunnel", &json!({ "tunnelId": id })).await;
            let answer = answer.with_context(|| format!("{id} was acknowledged"))?;
            let found = &answer["tunnel"]["status"];
            ensure!(found == status, "{id} was {status} and is {found}");
        }
    }
    Ok(())
}

on_own_choice!(
    within LIMIT;
    nothing_acknowledged_is_lost_at_any_step,
);
