//! Deadlines. Every wait in a test has one, and says what it waited for when it passes.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// How long any single event may take before the test fails.
///
/// The machines are shared and noisy: this is far beyond what a healthy run needs (some
/// milliseconds), so that a failure means "never", not "late".
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How long a silence must last to count as one, where no later event can prove it.
pub const SILENCE: Duration = Duration::from_millis(300);

/// How long a blocked writer is given before it counts as stalled.
pub const STALL: Duration = Duration::from_secs(1);

/// Waits for `event` within [`PATIENCE`].
///
/// # Errors
/// The event's own error, or that it did not happen in time; both name `what`.
pub async fn within<T>(what: &str, event: impl Future<Output = Result<T>>) -> Result<T> {
    within_limit(PATIENCE, what, event).await
}

/// Waits for `event` within `limit`.
///
/// # Errors
/// As [`within`].
pub async fn within_limit<T>(
    limit: Duration,
    what: &str,
    event: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(limit, event)
        .await
        .with_context(|| format!("{what}: nothing happened for {limit:?}"))?
        .with_context(|| what.to_owned())
}

/// Asks again and again until `probe` says yes, within [`PATIENCE`]: for conditions of the
/// machine (a listening port, a process's memory) that announce themselves to nobody.
///
/// # Errors
/// The condition did not come true in time.
pub async fn until(what: &str, mut probe: impl FnMut() -> bool) -> Result<()> {
    within(what, async {
        while !probe() {
            pause(Duration::from_millis(5)).await;
        }
        Ok(())
    })
    .await
}

/// Waits until a counter of bytes has not moved for [`STALL`], and returns it: how much a
/// path takes whose far end does not read.
///
/// # Errors
/// It has passed `limit`: the path has no bound.
pub async fn until_stalled(moved: &AtomicUsize, limit: usize) -> Result<usize> {
    let mut seen = moved.load(Ordering::Relaxed);
    loop {
        pause(STALL).await;
        let now = moved.load(Ordering::Relaxed);
        ensure!(now <= limit, "{now} bytes went in and nobody reads");
        if now == seen && now > 0 {
            return Ok(now);
        }
        seen = now;
    }
}

/// Lets time itself pass. Only where time is the subject of the test: the pace of a slow
/// reader, the interval of a poll, a silence that must last.
pub async fn pause(duration: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where tests let time pass"
    )]
    tokio::time::sleep(duration).await;
}
