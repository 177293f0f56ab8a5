//! Verified exchanges through a port of a source, on and on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use adit_tests::apps;
use adit_tests::deadline::{pause, within_limit};
use adit_tests::resting::Resting;
use adit_tests::scenario::judges;
use adit_tests::verifier::{Transfer, is_wrong};
use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::task::JoinSet;

pub(crate) const SEED: u64 = 20_261_130;

/// Longer than anything here takes: who waits for so long hangs.
const HANGS: Duration = Duration::from_secs(30);

/// Bytes of one exchange in each direction.
const LENGTH: u64 = 200_000;

/// Ids of transfers, so that bytes of another one are wrong bytes.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// How an exchange came out that was neither wrong nor hung.
enum Outcome {
    Whole,
    Cut(anyhow::Error),
}

fn transfer() -> Transfer {
    Transfer {
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        length: LENGTH,
        seed: SEED,
    }
}

/// One that rests half-way.
pub(crate) async fn rests(port: u16) -> Result<Resting> {
    Resting::begin(port, transfer()).await
}

async fn exchange(port: u16, patience: Duration) -> Result<Outcome> {
    let transfer = transfer();
    let exchanged = tokio::time::timeout(patience, async {
        transfer.exchange(&mut apps::connect(port).await?).await
    });
    match exchanged.await {
        Ok(Ok(())) => Ok(Outcome::Whole),
        Ok(Err(error)) if is_wrong(&error) => Err(error),
        Ok(Err(error)) => Ok(Outcome::Cut(error)),
        Err(_) => bail!("{transfer} hangs"),
    }
}

/// Tries new connections until one carries a whole exchange.
pub(crate) async fn recovers(port: u16) -> Result<()> {
    within_limit(HANGS, "new connections", async {
        while let Outcome::Cut(_) = exchange(port, HANGS).await? {
            pause(Duration::from_millis(20)).await;
        }
        Ok(())
    })
    .await
}

#[derive(Default)]
struct State {
    is_over: AtomicBool,
    whole: AtomicU64,
    cut: AtomicU64,
}

/// Exchanges that go on in the background.
pub(crate) struct Load {
    tasks: JoinSet<Result<Option<anyhow::Error>>>,
    state: Arc<State>,
}

impl Load {
    /// So many at a time, until it is stopped.
    pub(crate) fn start(port: u16, connections: usize) -> Self {
        Self::patient(port, connections, Duration::ZERO)
    }

    /// The same where an exchange may be held up for so long.
    pub(crate) fn patient(port: u16, connections: usize, held_up: Duration) -> Self {
        let state = Arc::new(State::default());
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            tasks.spawn(go_on(port, held_up + HANGS, Arc::clone(&state)));
        }
        Self { tasks, state }
    }

    /// Waits until so many more exchanges were whole.
    pub(crate) async fn goes_on(&self, count: u64) -> Result<()> {
        let whole = || self.state.whole.load(Ordering::Relaxed);
        let wanted = whole() + count;
        within_limit(HANGS, "exchanges to go on", async {
            while whole() < wanted {
                pause(Duration::from_millis(5)).await;
            }
            Ok(())
        })
        .await
    }

    /// Ends it; how many exchanges were whole, and cut.
    pub(crate) async fn stop(self) -> Result<(u64, u64)> {
        let (whole, cut, _) = self.end().await?;
        Ok((whole, cut))
    }

    /// Ends it; none may have been cut.
    pub(crate) async fn stop_whole(self) -> Result<u64> {
        let (whole, cut, last) = self.end().await?;
        let reason = last.unwrap_or_else(|| anyhow!("nothing"));
        ensure!(cut == 0, "{cut} exchanges were cut, by {reason:#}");
        ensure!(whole > 0, "no exchange came to its end");
        Ok(whole)
    }

    async fn end(mut self) -> Result<(u64, u64, Option<anyhow::Error>)> {
        self.state.is_over.store(true, Ordering::Relaxed);
        let mut last = None;
        while let Some(ended) = self.tasks.join_next().await {
            last = ended?.context("the load")?.or(last);
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok((count(&self.state.whole), count(&self.state.cut), last))
    }
}

/// The reason of the last cut, if there was one.
async fn go_on(port: u16, patience: Duration, state: Arc<State>) -> Result<Option<anyhow::Error>> {
    let mut last = None;
    while !state.is_over.load(Ordering::Relaxed) {
        match exchange(port, patience).await? {
            Outcome::Whole => _ = state.whole.fetch_add(1, Ordering::Relaxed),
            Outcome::Cut(reason) => {
                state.cut.fetch_add(1, Ordering::Relaxed);
                last = Some(reason);
                pause(Duration::from_millis(20)).await;
            }
        }
    }
    Ok(last)
}

/// How long something takes, while it is done again and again.
#[derive(Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// It took from `began` until now.
    pub(crate) fn took_since(&mut self, began: Instant) {
        self.0.push(began.elapsed());
    }

    /// Tells the middle one and the 99th percentile, and judges that one where times are judged.
    pub(crate) fn tell(mut self, what: &str, goal: Duration) -> Result<()> {
        self.0.sort_unstable();
        let count = self.0.len();
        let at = |part: usize| self.0.get(count * part / 100).or(self.0.last());
        let (Some(median), Some(p99)) = (at(50), at(99)) else {
            return Ok(());
        };
        eprintln!("{what}: {count} kills, median {median:?}, p99 {p99:?}");
        ensure!(
            !judges() || *p99 <= goal,
            "{what}: p99 of {p99:?} is over {goal:?}"
        );
        Ok(())
    }
}
