//! SIGHUP by the hundred, under load, with good and broken files of keys in turn: nothing is cut, what is
//! broken is refused, and the keys that were in force stay.
//!
//! `ADIT_RELOADS` is how many (a release: 1,000).

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use adit_tests::api::Tunnel;
use adit_tests::deadline::until;
use adit_tests::on_own_choice;
use adit_tests::output::Channel;
use adit_tests::process::{Process, Signal};
use adit_tests::programs;
use adit_tests::scenario::{Scenario, count};
use adit_tests::stack::Serve;
use anyhow::{Result, ensure};

use super::pair::Pair;

const LIMIT: Duration = Duration::from_secs(1_800);

pub(crate) const TAKEN: &str = "access keys read again";
pub(crate) const REFUSED: &str = "the access keys stay as they were";
const NEXT_STEP: &str = "hint: mend the file and send SIGHUP again";

/// Opens a tunnel as somebody does who has the data directory.
pub(crate) async fn open(scenario: &Scenario, serve: &Serve) -> Result<Tunnel> {
    let mut command = scenario.binary().adit();
    command.args(["tunnel", "open", "--service", "SSH", "--json", "--data-dir"]);
    command.arg(serve.data());
    let output = programs::run(Duration::from_secs(30), command).await?;
    Tunnel::read(&serde_json::from_slice(&output.stdout)?)
}

fn said(process: &Process, text: &str) -> usize {
    process.output().text(Channel::Stderr).matches(text).count()
}

async fn reloads_cut_nothing_and_broken_files_change_nothing(scenario: Scenario) -> Result<()> {
    let mut serve = Serve::start_signed(&scenario).await?;
    let tunnel = open(&scenario, &serve).await?;
    let mut pair = Pair::of_tunnel(&scenario, &serve, tunnel, |proxy| proxy).await?;
    pair.recovers().await?;
    let load = pair.load(4, 200_000);
    let keys = serve.data().join("access-keys.json");
    let good = std::fs::read(&keys)?;
    // `None`: there is no file.
    let broken: [Option<&[u8]>; 6] = [
        Some(b""),
        Some(b"{"),
        Some(&good[..good.len() / 2]),
        Some(b"[1, 2, 3]"),
        Some(b"\xff\xfe\x00"),
        None,
    ];
    let times = count("ADIT_RELOADS", 40)?;
    for number in 0..times {
        let (content, words) = match number % 2 {
            0 => (broken[number / 2 % broken.len()], REFUSED),
            _ => (Some(&good[..]), TAKEN),
        };
        // In one step, as an operator should; and the next signal after the last one was obeyed, since
        // signals of one kind fold into one.
        match content {
            Some(content) => {
                let draft = scenario.write("keys", content)?;
                std::fs::set_permissions(&draft, PermissionsExt::from_mode(0o600))?;
                std::fs::rename(&draft, &keys)?;
            }
            None => std::fs::remove_file(&keys)?,
        }
        let before = said(&serve.process, words);
        serve.process.signal(Signal::Hangup).await?;
        let what = format!("reload {number} to be obeyed");
        until(&what, || said(&serve.process, words) > before).await?;
        // With a broken file in place the keys of before are in force.
        if number.is_multiple_of(10) {
            open(&scenario, &serve).await?;
        }
    }
    serve.process.still_runs()?;
    let complete = load.stop_whole().await?;
    ensure!(said(&serve.process, REFUSED) == times.div_ceil(2));
    ensure!(said(&serve.process, NEXT_STEP) == times.div_ceil(2));
    let log = serve.process.output().text(Channel::Stderr);
    ensure!(!log.contains("--access-keys"), "advice for a start: {log}");
    eprintln!("{times} reloads, {complete} exchanges, none cut");
    Ok(())
}

on_own_choice!(
    within LIMIT;
    reloads_cut_nothing_and_broken_files_change_nothing,
);
