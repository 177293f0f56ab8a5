//! a process that is stopped and goes on. Shorter than the pings are patient, nothing is cut.
//!
//! `ADIT_FREEZES` is how often each part is stopped; the n-th time for n seconds, up to 120 (a release: 12, ten
//! seconds longer each time).

use std::time::Duration;

use adit_tests::deadline::pause;
use adit_tests::on_own_choice;
use adit_tests::process::{Process, Signal};
use adit_tests::scenario::{Scenario, count};
use adit_tests::stack::Serve;
use anyhow::{Context, Result, ensure};

use super::pair::{Pair, RECOVERY};

const LIMIT: Duration = Duration::from_secs(3_600);

/// Within it an exchange is only late: a third of what pings and handshakes are given.
const HARMLESS: Duration = Duration::from_secs(5);

async fn freeze(process: &mut Process, time: Duration) -> Result<()> {
    process.signal(Signal::Stop).await?;
    pause(time).await;
    process.signal(Signal::Continue).await
}

async fn a_part_that_stood_still_goes_on(scenario: Scenario) -> Result<()> {
    let freezes = count("ADIT_FREEZES", 1)?;
    let step = if freezes > 1 { 10 } else { 1 };
    let mut serve = Serve::start(&scenario).await?;
    let mut pair = Pair::start(&scenario, &serve).await?;
    for round in 1..=freezes {
        let time = Duration::from_secs((round * step).min(120) as u64);
        for part in ["source", "destination", "service"] {
            // Nobody takes it for dead while its kernel acknowledges: what is under way waits for it.
            let load = pair.patient_load(4, 300_000, time + RECOVERY);
            load.goes_on(4).await?;
            let process = match part {
                "source" => &mut pair.source,
                "destination" => &mut pair.destination,
                _ => &mut serve.process,
            };
            freeze(process, time).await?;
            let took = pair.recovers().await?;
            let (complete, cut) = load
                .stop()
                .await
                .with_context(|| format!("{part} for {time:?}"))?;
            eprintln!(
                "{part} for {time:?}: carries after {took:?}; {complete} complete, {cut} cut"
            );
            ensure!(
                cut == 0 || time > HARMLESS,
                "{part}: {cut} exchanges were cut"
            );
        }
    }
    serve.process.still_runs()
}

on_own_choice!(
    within LIMIT;
    a_part_that_stood_still_goes_on,
);
