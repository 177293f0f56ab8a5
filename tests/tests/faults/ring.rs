//! io_uring that refuses what it took before: now and then, which costs nothing but time, and for good, after which
//! the process says so and ends.

use std::time::Duration;

use adit_tests::deadline::pause;
use adit_tests::output::Channel;
use adit_tests::scenario::{Scenario, count};
use anyhow::{Context, Result, ensure};

use super::pair::{PARTS, Pair, part};

const LIMIT: Duration = Duration::from_secs(1_200);

async fn a_ring_that_refuses_now_and_then_loses_nothing(scenario: Scenario) -> Result<()> {
    let Some((tools, mut serve, mut pair)) = Pair::with_tools(&scenario).await? else {
        return Ok(());
    };
    for _ in 0..count("ADIT_SHORTAGES", 1)? {
        for error in ["EAGAIN", "EINTR", "EBUSY"] {
            for name in PARTS {
                let process = part(name, &mut serve, &mut pair).id();
                let load = pair.load(4, 200_000);
                let error = format!("{error}:when=1+3");
                let tampered = tools.tamper(process, "io_uring_enter", &error, &[]).await?;
                load.goes_on(8)
                    .await
                    .with_context(|| format!("{name}, {error}"))?;
                pause(Duration::from_millis(200)).await;
                tampered.end().await?;
                load.stop_whole()
                    .await
                    .with_context(|| format!("{name}, {error}"))?;
            }
        }
    }
    serve.process.still_runs()?;
    pair.source.still_runs()?;
    pair.destination.still_runs()
}

async fn a_ring_that_is_forbidden_later_ends_its_process_with_words(
    scenario: Scenario,
) -> Result<()> {
    let Some((tools, mut serve, mut pair)) = Pair::with_tools(&scenario).await? else {
        return Ok(());
    };
    pair.recovers().await?;
    let id = pair.source.id();
    // It attaches for as long as the process lives.
    let _tampered = tools.tamper(id, "io_uring_enter", "EPERM", &[]).await?;
    let _ = pair.carries().await;
    pair.source.ends_with(1).await?;
    let id = serve.process.id();
    let _tampered = tools.tamper(id, "io_uring_enter", "EPERM", &[]).await?;
    serve.process.ends_with(1).await?;
    for process in [&pair.source, &serve.process] {
        let said = process.output().text(Channel::Stderr);
        let words = "the kernel refuses to report events";
        ensure!(said.contains(words), "{said}");
    }
    Ok(())
}

mod uring {
    use adit_tests::scenario::{Io, play};

    #[test]
    fn a_ring_that_refuses_now_and_then_loses_nothing() {
        let scene = super::a_ring_that_refuses_now_and_then_loses_nothing;
        play(
            "a_ring_that_refuses_now_and_then_loses_nothing",
            Io::Uring,
            super::LIMIT,
            scene,
        );
    }

    #[test]
    fn a_ring_that_is_forbidden_later_ends_its_process_with_words() {
        let scene = super::a_ring_that_is_forbidden_later_ends_its_process_with_words;
        let name = "a_ring_that_is_forbidden_later_ends_its_process_with_words";
        play(name, Io::Uring, super::LIMIT, scene);
    }
}
