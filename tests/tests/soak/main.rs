//! A day in the life of a small installation, in less time: nothing may pile up (reliability, R-18).
//!
//! One `adit serve` with its store in SQLite, two devices whose agents hear of tunnels over MQTT, and four
//! proxies. `ADIT_SOAK_HOURS` of a day (half a one) are played within `ADIT_SOAK_SECONDS` (25); `tests/release
//! data-plane soak` plays 24 in 30 minutes, 48 times as fast as they pass. What happens is in [`day`].
//!
//! All bytes are verified. Of each process that lives through all of it, memory and descriptors are
//! watched: [`watch`] has the bounds.
//!
//! ```text
//! day      what happens how often, and when     fleet      the processes, and how to reach them
//! events   what is done each time               junction   links that can be cut
//! watch    memory and descriptors, and their judgement
//! ```

mod day;
mod events;
mod fleet;
mod junction;
mod watch;

use std::time::Duration;

use adit_tests::on_own_choice;
use adit_tests::scenario::Scenario;
use anyhow::{Context, Result};

use day::Day;
use fleet::Fleet;
use watch::Watch;

/// For the longest run, with its start and its end; every wait within has a limit of its own.
const LIMIT: Duration = Duration::from_secs(40 * 60);

async fn a_day_leaves_nothing_behind_in_memory_or_descriptors(scenario: Scenario) -> Result<()> {
    let fleet = Fleet::start(&scenario).await?;
    // Once each, so that what is made at the first time is there before anything is measured.
    events::rehearse(&fleet).await.context("before the day")?;
    let day = Day::begin()?;
    let watch = Watch::begin(fleet.watched().await)?;
    let done = tokio::select! {
        done = events::play(&fleet, &day) => done?,
        failed = watch.sample() => failed?,
    };
    eprintln!("{day}: {done}");
    fleet.still_run().await?;
    watch.judge(&day).await?;
    fleet.end().await
}

on_own_choice!(within LIMIT; a_day_leaves_nothing_behind_in_memory_or_descriptors);
