//! SIGHUP at the agent by the hundred, under load, with good and broken files in turn: nothing is cut, what is
//! broken is refused with words, and the services that were in force stay.
//!
//! `ADIT_RELOADS` is how many (a release: 1,000).

use std::time::Duration;

use adit_tests::apps::{self, App, Temper};
use adit_tests::deadline::{pause, until, within};
use adit_tests::on_own_choice;
use adit_tests::output::Channel;
use adit_tests::process::Signal;
use adit_tests::scenario::{Scenario, count};
use anyhow::{Result, ensure};

use super::beside::Tunnels;
use super::load::Load;
use super::stage::{Stage, said, terminate};

const LIMIT: Duration = Duration::from_secs(1_800);

const TAKEN: &str = "the services were read again";
const REFUSED: &str = "the services stay as they are";

/// What applications say to which the service `PLACE` leads by turns.
const GREETINGS: [&[u8]; 2] = [b"the one", b"the other"];

/// Files that are of no use, made from one that is; `None`: there is no file. The second one is whole by itself.
fn broken(good: &[u8]) -> Vec<Option<Vec<u8>>> {
    let named: &[u8] = b"services.";
    let services = good.windows(named.len()).position(|at| at == named);
    // With the quote of its last value.
    let end = good.trim_ascii_end().len() - 1;
    let with = |more: &[u8]| Some([good, more].concat());
    vec![
        Some(Vec::new()),
        services.map(|at| good[..at].to_vec()),
        Some(good[..end].to_vec()),
        with(b"services.VNC = 0\n"),
        with(b"servicse.VNC = 5900\n"),
        with(b"limits.tunnels = 0\n"),
        with(b"\xff\xfe\x00"),
        None,
    ]
}

/// What a new tunnel's service `PLACE` says.
async fn place(stage: &Stage) -> Result<Vec<u8>> {
    let tunnel = stage.open(&["PLACE"]).await?;
    stage.notify(&tunnel, &["PLACE"]).await?;
    stage.connected(&tunnel).await?;
    let source = stage.source(&tunnel, &["PLACE"]).await?;
    let said = within("a greeting through the tunnel", async {
        loop {
            let mut stream = apps::connect(source.ports[0]).await?;
            match apps::read_to_end(&mut stream).await {
                Ok(said) if !said.is_empty() => return Ok(said),
                // The device may have been connected a moment ago only.
                _ => pause(Duration::from_millis(20)).await,
            }
        }
    })
    .await?;
    stage.serve.api()?.close_tunnel(&tunnel.id).await?;
    Ok(said)
}

async fn reloads_of_the_agent_cut_nothing_and_broken_files_change_nothing(
    scenario: Scenario,
) -> Result<()> {
    let Some(stage) = Stage::new(&scenario).await? else {
        return Ok(());
    };
    let mut places = Vec::new();
    for greeting in GREETINGS {
        places.push(App::start(Temper::Greet(greeting.to_vec())).await?);
    }
    let line = |number: usize| format!("services.PLACE = \"{}\"", places[number].address());
    let mut tunnels = Tunnels::start_with(&stage, &line(0)).await?;
    let loads = [&tunnels.source, &tunnels.beside].map(|source| Load::start(source.ports[0], 2));
    let file = scenario.path("device/agent.toml");
    let broken = broken(&std::fs::read(&file)?);
    let (mut in_force, times) = (0, count("ADIT_RELOADS", 40)?);
    for number in 0..times {
        let words = if number % 2 == 0 {
            match &broken[number / 2 % broken.len()] {
                Some(content) => std::fs::write(&file, content)?,
                None => std::fs::remove_file(&file)?,
            }
            REFUSED
        } else {
            in_force = (in_force + 1) % places.len();
            tunnels.configure(&stage, &line(in_force))?;
            TAKEN
        };
        // The next one after the last was obeyed, since signals of one kind fold into one.
        let before = said(&tunnels.agent, words);
        tunnels.agent.signal(Signal::Hangup).await?;
        let what = format!("reload {number} to be obeyed");
        until(&what, || said(&tunnels.agent, words) > before).await?;
        // With a broken file in place, and once with the last one.
        if number.is_multiple_of(10) || number + 1 == times {
            ensure!(place(&stage).await? == GREETINGS[in_force], "at {number}");
        }
    }
    for load in loads {
        let whole = load.stop_whole().await?;
        eprintln!("{times} reloads of the agent, {whole} exchanges, none cut");
    }
    ensure!(said(&tunnels.agent, REFUSED) == times.div_ceil(2));
    let log = tunnels.agent.output().text(Channel::Stderr);
    let mut refusals = log.lines().filter(|line| line.contains(REFUSED));
    ensure!(refusals.all(|line| line.contains("agent.toml")), "{log}");
    terminate(tunnels.agent).await
}

on_own_choice!(
    within LIMIT;
    reloads_of_the_agent_cut_nothing_and_broken_files_change_nothing,
);
