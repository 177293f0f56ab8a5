//! writes of the store and of the audit that fail, for want of space, for a disk that is read-only, and for a
//! broken one. The API says so, what is open goes on, and it works again by itself soon after the cause is gone;
//! nothing that was acknowledged is lost. Keys that cannot be read again stay in force.
//!
//! `ADIT_OUTAGES` is how often each is tried (a release: 50).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use adit_tests::deadline::{pause, within};
use adit_tests::namespace::is_inside;
use adit_tests::on_own_choice;
use adit_tests::output::Channel;
use adit_tests::process::Signal;
use adit_tests::scenario::{Scenario, count, judges};
use adit_tests::small_disk::SmallDisk;
use adit_tests::stack::Serve;
use adit_tests::tampered::Tools;
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::pair::Pair;
use super::reload::{REFUSED, TAKEN, open};

const LIMIT: Duration = Duration::from_secs(1_800);

/// The goal of the plan.
const RECOVERY_GOAL: Duration = Duration::from_secs(5);

/// Opens tunnels until one is acknowledged; how long that took.
async fn opens_again(serve: &Serve, acknowledged: &mut Vec<String>) -> Result<Duration> {
    let (begin, api) = (Instant::now(), serve.api()?);
    let opened = within("the store to be written again", async {
        loop {
            if let Ok(tunnel) = api.open_tunnel(&["SSH"]).await {
                return Ok(tunnel.id);
            }
            pause(Duration::from_millis(20)).await;
        }
    });
    acknowledged.push(opened.await?);
    let took = begin.elapsed();
    ensure!(!judges() || took <= RECOVERY_GOAL, "it took {took:?}");
    Ok(took)
}

async fn are_all_there(serve: &Serve, acknowledged: &[String]) -> Result<()> {
    let api = serve.api()?;
    for id in acknowledged {
        let input = json!({ "tunnelId": id });
        let answer = api.call("DescribeTunnel", &input).await;
        answer.with_context(|| format!("{id} was acknowledged"))?;
    }
    Ok(())
}

async fn a_store_that_cannot_be_written_refuses_and_recovers(scenario: Scenario) -> Result<()> {
    let Some((tools, serve, pair)) = Pair::with_tools(&scenario).await? else {
        return Ok(());
    };
    let load = pair.load(2, 200_000);
    let api = serve.api()?;
    let mut acknowledged = Vec::new();
    let files: Vec<PathBuf> = ["adit.db", "adit.db-wal"]
        .map(|name| serve.data().join(name))
        .into();
    ensure!(
        files.iter().all(|file| file.exists()),
        "other names: {files:?}"
    );
    let calls = "write,pwrite64,pwritev,fsync,fdatasync,ftruncate,fallocate";
    for _ in 0..count("ADIT_OUTAGES", 1)? {
        for error in ["ENOSPC", "EROFS", "EIO"] {
            let tampered = tools
                .tamper(serve.process.id(), calls, error, &files)
                .await?;
            let (status, answer) = api.try_call("OpenTunnel", &json!({})).await?;
            ensure!(status >= 500, "{error}: {status}: {answer}");
            // What needs no writing is answered.
            let described = api.connected(&pair.tunnel.id).await;
            ensure!(described.context(error)? == (true, true), "{error}");
            load.goes_on(4).await.context(error)?;
            tampered.end().await?;
            let took = opens_again(&serve, &mut acknowledged).await?;
            eprintln!("{error}: opens again after {took:?}");
        }
    }
    let said = serve.process.output().text(Channel::Stderr);
    ensure!(said.contains("the store cannot be written"), "{said}");
    ensure!(said.contains("the store can be written again"), "{said}");
    load.stop_whole().await?;
    drop(pair);
    let serve = serve.kill_and_restart().await?;
    are_all_there(&serve, &acknowledged).await
}

/// A call is answered all the same, and the log says what is missing.
async fn an_audit_that_cannot_be_written_is_told_and_recovers(scenario: Scenario) -> Result<()> {
    let Some(tools) = Tools::find(&scenario)? else {
        return Ok(());
    };
    let serve = Serve::start(&scenario).await?;
    let api = serve.api()?;
    let file = serve.data().join("audit.jsonl");
    for _ in 0..count("ADIT_OUTAGES", 1)? {
        for error in ["ENOSPC", "EROFS", "EIO"] {
            let paths = [file.clone()];
            let calls = "write,pwrite64,writev";
            let tampered = tools
                .tamper(serve.process.id(), calls, error, &paths)
                .await?;
            api.open_tunnel(&["SSH"]).await.context(error)?;
            tampered.end().await?;
            let opened = api.open_tunnel(&["SSH"]).await.context(error)?;
            within("a record of the last call", async {
                while !std::fs::read_to_string(&file)?.contains(&opened.id) {
                    pause(Duration::from_millis(10)).await;
                }
                Ok(())
            })
            .await
            .context(error)?;
        }
    }
    let said = serve.process.output().text(Channel::Stderr);
    ensure!(
        said.contains("audit.jsonl"),
        "the log does not tell: {said}"
    );
    for line in std::fs::read_to_string(&file)?.lines() {
        serde_json::from_str::<serde_json::Value>(line).with_context(|| line.to_owned())?;
    }
    Ok(())
}

/// What is said of keys that cannot be read, by the call that fails and how; without one, there is no file.
const UNREADABLE: [(Option<(&str, &str)>, &str); 4] = [
    (Some(("openat", "EIO")), "Input/output error"),
    (Some(("openat", "EACCES")), "Permission denied"),
    (Some(("read", "EIO")), "Input/output error"),
    (None, "does not exist"),
];

async fn keys_that_cannot_be_read_again_stay_in_force(scenario: Scenario) -> Result<()> {
    let Some(tools) = Tools::find(&scenario)? else {
        return Ok(());
    };
    let mut serve = Serve::start_signed(&scenario).await?;
    let tunnel = open(&scenario, &serve).await?;
    let mut pair = Pair::of_tunnel(&scenario, &serve, tunnel, |proxy| proxy).await?;
    pair.recovers().await?;
    let load = pair.load(2, 200_000);
    let (file, aside) = (
        serve.data().join("access-keys.json"),
        scenario.path("aside"),
    );
    for _ in 0..count("ADIT_OUTAGES", 1)? {
        for (fault, words) in UNREADABLE {
            let (id, paths) = (serve.process.id(), [file.clone()]);
            let tampered = match fault {
                Some((call, error)) => Some(tools.tamper(id, call, error, &paths).await?),
                None => {
                    std::fs::rename(&file, &aside)?;
                    None
                }
            };
            let refusal = reload(&mut serve, REFUSED).await.context(words)?;
            let names = file.display().to_string();
            ensure!(
                refusal.contains(words) && refusal.contains(&names),
                "{refusal}"
            );
            open(&scenario, &serve).await.context(words)?;
            load.goes_on(4).await.context(words)?;
            match tampered {
                Some(tampered) => ensure!(tampered.end().await? > 0, "no call has failed"),
                None => std::fs::rename(&aside, &file)?,
            }
            reload(&mut serve, TAKEN).await.context(words)?;
        }
    }
    serve.process.still_runs()?;
    load.stop_whole().await?;
    Ok(())
}

/// Has the keys read again; the line that tells of it.
async fn reload(serve: &mut Serve, words: &str) -> Result<String> {
    let seen = serve.process.output().count();
    serve.process.signal(Signal::Hangup).await?;
    serve.process.output().line_after(seen, words).await
}

/// The same on a disk that is really full: a file system in memory, in a namespace of this test's own.
async fn a_full_disk_refuses_and_recovers(scenario: Scenario) -> Result<()> {
    let test = "disk::a_full_disk_refuses_and_recovers";
    if !is_inside(&scenario, test, "--mount", LIMIT).await? {
        return Ok(());
    }
    let Some(disk) = SmallDisk::mount(&scenario, "8m").await? else {
        return Ok(());
    };
    let serve = Serve::start_below(&scenario, disk.path()).await?;
    let pair = Pair::start(&scenario, &serve).await?;
    let load = pair.load(2, 200_000);
    let api = serve.api()?;
    let mut acknowledged = Vec::new();
    for round in 0..count("ADIT_OUTAGES", 2)? {
        disk.fill()?;
        let mut refused = None;
        for _ in 0..2_000 {
            let (status, answer) = api.try_call("OpenTunnel", &json!({})).await?;
            match answer["tunnelId"].as_str() {
                Some(id) => acknowledged.push(id.to_owned()),
                None => {
                    refused = Some((status, answer));
                    break;
                }
            }
        }
        let Some((status, answer)) = refused else {
            bail!("round {round}: nothing was refused on a full disk");
        };
        ensure!(status >= 500, "{status}: {answer}");
        load.goes_on(4).await?;
        disk.clear()?;
        let took = opens_again(&serve, &mut acknowledged).await?;
        eprintln!("opens again {took:?} after there is space");
    }
    load.stop_whole().await?;
    drop(pair);
    let serve = serve.kill_and_restart().await?;
    are_all_there(&serve, &acknowledged).await
}

on_own_choice!(
    within LIMIT;
    a_store_that_cannot_be_written_refuses_and_recovers,
    an_audit_that_cannot_be_written_is_told_and_recovers,
    keys_that_cannot_be_read_again_stay_in_force,
    a_full_disk_refuses_and_recovers,
);
