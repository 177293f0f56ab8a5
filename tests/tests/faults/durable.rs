//! at each step of making something durable the process panics, dies, fails, or stands still for a second. What
//! was acknowledged before and meanwhile is there afterwards, also in the process that is started again, and the service
//! goes on or comes back.
//!
//! A process that dies does so at the very step, by `abort`: nothing is unwound, flushed or closed, so that files are
//! left as a `kill -9` leaves them (kills from outside, at any moment, are R-01's). An error is what the disk would
//! answer; calls of the kernel that fail on the store's and the audit's files are R-04's (`disk`).
//!
//! Failpoints are in debug builds alone. `ADIT_STEPS` is how often each pair of step and fault is tried (a release: 125,
//! which is 2,000 runs).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use adit_tests::api::Api;
use adit_tests::deadline::pause;
use adit_tests::on_own_choice;
use adit_tests::scenario::{Scenario, count};
use adit_tests::scripted_proxy::{Endpoint, Upgrade};
use adit_tests::stack::Serve;
use anyhow::{Context, Error, Result, bail, ensure};
use serde_json::json;
use tokio::task::JoinSet;

use super::panics::failpoints;

const LIMIT: Duration = Duration::from_secs(7_200);

/// Before the change is made for good, before the commit, between commit and answers, before the audit's record.
const STEPS: [&str; 4] = [
    "store-change",
    "store-commit",
    "store-committed",
    "audit-write",
];

const FAULTS: [&str; 4] = ["panic", "kill", "error", "delay"];

/// Tunnels whose promises are looked at after each end of the process: those of the last ten to twenty runs.
const KEPT_MAX: usize = 200;

/// What is asked of a new tunnel, each beside the others: what shares the commit.
#[derive(Clone, Copy)]
enum Asked {
    Open,
    Close,
    Rotate,
    /// A handshake, which spends the token of its source.
    Join,
}

const ASKED: [Asked; 4] = [Asked::Open, Asked::Close, Asked::Rotate, Asked::Join];

/// A tunnel, and what the service has said of it.
struct Said {
    id: String,
    /// `None` where a close was not answered: nobody knows.
    status: Option<&'static str>,
    /// A token of its destination that is good for one handshake.
    good: Option<String>,
    worthless: Vec<Worthless>,
    /// What was not answered.
    doubt: Option<Error>,
}

/// A token that no handshake gets in with any more, and what it is told.
struct Worthless {
    what: &'static str,
    mode: &'static str,
    token: String,
    refusal: &'static str,
}

impl Worthless {
    fn used(mode: &'static str, token: String) -> Self {
        Self {
            what: "used",
            mode,
            token,
            refusal: "Invalid access token: The access token was previously used and can not be used again.",
        }
    }
}

/// Promises that are told apart where they are counted.
const PROMISES: [&str; 6] = ["OPEN", "CLOSED", "closed", "rotated", "used", "good"];

async fn nothing_acknowledged_is_lost_at_any_step(scenario: Scenario) -> Result<()> {
    let Some(points) = failpoints(&scenario, "points")? else {
        return Ok(());
    };
    let mut serve = Serve::start_changed(&scenario, |command| {
        command.env("ADIT_FAILPOINTS", &points);
    })
    .await?;
    let (mut runs, mut killed) = (0, 0);
    let (mut kept, mut found) = (Vec::new(), BTreeMap::<_, usize>::new());
    for _ in 0..count("ADIT_STEPS", 2)? {
        for step in STEPS {
            for fault in FAULTS {
                let what = format!("{fault} at {step}");
                let mut said = acknowledged(&serve).await.context(what.clone())?;
                arm(&points, step, fault)?;
                until_hit(&serve, &points.join(step), &mut said)
                    .await
                    .context(what.clone())?;
                let mut rest = kept.len();
                if fault == "kill" {
                    serve = serve
                        .restart_ended(|command| {
                            command.env("ADIT_FAILPOINTS", &points);
                        })
                        .await
                        .context(what.clone())?;
                    killed += 1;
                    rest = 0;
                }
                kept.extend(said);
                let checked = are_kept(&serve, kept.split_off(rest)).await;
                let (checked, promises) = checked.context(what.clone())?;
                kept.extend(checked);
                kept.drain(..kept.len().saturating_sub(KEPT_MAX));
                if fault == "kill" {
                    for promise in promises {
                        *found.entry(promise).or_default() += 1;
                    }
                }
                serve.process.still_runs().context(what)?;
                runs += 1;
            }
        }
    }
    eprintln!("{runs} runs, {killed} of them kills, nothing acknowledged was lost: {found:?}");
    for promise in PROMISES {
        let found = found.get(promise).copied().unwrap_or_default();
        // Each run has one of each that is answered before its fault.
        ensure!(
            killed > 0 && found >= killed,
            "{promise}: {found} were looked at after {killed} kills"
        );
    }
    Ok(())
}

/// Puts the point there whole: an empty one would be a panic.
fn arm(points: &Path, step: &str, fault: &str) -> Result<()> {
    let whole = points.join("next");
    std::fs::write(&whole, fault)?;
    Ok(std::fs::rename(whole, points.join(step))?)
}

/// One of everything, all of it answered.
async fn acknowledged(serve: &Serve) -> Result<Vec<Said>> {
    let mut said = Vec::new();
    for asked in ASKED {
        let mut of_one = ask(&serve.api()?, &serve.tunnel(), asked).await?;
        of_one.doubt.take().map_or(Ok(()), Err)?;
        said.push(of_one);
    }
    Ok(said)
}

/// Asks until the step was come to.
async fn until_hit(serve: &Serve, point: &Path, said: &mut Vec<Said>) -> Result<()> {
    for _ in 0..100 {
        let mut calls = JoinSet::new();
        for asked in ASKED {
            let (api, endpoint) = (serve.api()?, serve.tunnel());
            calls.spawn(async move { ask(&api, &endpoint, asked).await });
        }
        said.extend(calls.join_all().await.into_iter().flatten());
        if !point.exists() {
            return Ok(());
        }
        pause(Duration::from_millis(1)).await;
    }
    bail!("nothing came to it")
}

/// Opens a tunnel, which must be answered, and asks this of it.
async fn ask(api: &Api, endpoint: &Endpoint, asked: Asked) -> Result<Said> {
    let opened = api.open_tunnel(&["SSH"]).await?;
    let mut said = Said {
        id: opened.id,
        status: Some("OPEN"),
        good: Some(opened.destination_token),
        worthless: Vec::new(),
        doubt: None,
    };
    let source = opened.source_token;
    match asked {
        Asked::Open => {}
        Asked::Close => {
            said.good = None;
            match api.close_tunnel(&said.id).await {
                Ok(()) => {
                    said.status = Some("CLOSED");
                    said.worthless.push(Worthless {
                        what: "closed",
                        mode: "source",
                        token: source,
                        refusal: "Tunnel is closed",
                    });
                }
                Err(error) => {
                    said.status = None;
                    said.doubt = Some(error);
                }
            }
        }
        Asked::Rotate => {
            let old = said.good.take();
            match api.rotate_destination(&said.id).await {
                Ok(new) => {
                    said.good = Some(new);
                    said.worthless.extend(old.map(|token| Worthless {
                        what: "rotated",
                        mode: "destination",
                        token,
                        refusal: "Invalid access token",
                    }));
                }
                Err(error) => said.doubt = Some(error),
            }
        }
        Asked::Join => match endpoint.upgrade(&Upgrade::new("source", &source)).await {
            Ok(_) => said.worthless.push(Worthless::used("source", source)),
            Err(error) => said.doubt = Some(error),
        },
    }
    Ok(said)
}

/// Makes sure of everything that was said, a part of it beside the others. Returns it, and each promise that was kept.
async fn are_kept(serve: &Serve, said: Vec<Said>) -> Result<(Vec<Said>, Vec<&'static str>)> {
    let (size, mut said) = (said.len().div_ceil(ASKED.len()), said.into_iter());
    let mut checks = Vec::new();
    for _ in ASKED {
        let mut part: Vec<_> = said.by_ref().take(size).collect();
        let (api, endpoint) = (serve.api()?, serve.tunnel());
        checks.push(tokio::spawn(async move {
            let mut promises = Vec::new();
            for said in &mut part {
                let id = said.id.clone();
                let is_kept = said.is_kept(&api, &endpoint, &mut promises).await;
                is_kept.with_context(|| format!("{id} was acknowledged"))?;
            }
            anyhow::Ok((part, promises))
        }));
    }
    let (mut checked, mut promises) = (Vec::new(), Vec::new());
    for check in checks {
        let (part, of_part) = check.await??;
        checked.extend(part);
        promises.extend(of_part);
    }
    Ok((checked, promises))
}

impl Said {
    /// Makes sure of each promise and names it. Uses the good token up.
    async fn is_kept(
        &mut self,
        api: &Api,
        endpoint: &Endpoint,
        promises: &mut Vec<&'static str>,
    ) -> Result<()> {
        let input = json!({ "tunnelId": self.id });
        let answer = api.call("DescribeTunnel", &input).await?;
        let status = &answer["tunnel"]["status"];
        if let Some(said) = self.status {
            ensure!(status == said, "it was {said} and is {status}");
            promises.push(said);
        }
        for token in &self.worthless {
            let upgrade = Upgrade::new(token.mode, &token.token);
            let refused = endpoint.refused(&upgrade).await.context(token.what)?;
            let body = refused.body.trim();
            ensure!(body == token.refusal, "{}: {body}", token.what);
            promises.push(token.what);
        }
        if let Some(token) = self.good.take() {
            let upgrade = Upgrade::new("destination", &token);
            endpoint.upgrade(&upgrade).await.context("a good token")?;
            self.worthless.push(Worthless::used("destination", token));
            promises.push("good");
        }
        Ok(())
    }
}

on_own_choice!(
    within LIMIT;
    nothing_acknowledged_is_lost_at_any_step,
);
