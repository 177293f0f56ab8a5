//! What happens in a day, and how fast it passes.

use std::fmt;
use std::time::{Duration, Instant};

use adit_tests::deadline::pause;
use anyhow::{Context, Result, ensure};

// How often in a day. No document says what a day of a tunnel service is, so these are chosen: people
// open a tunnel every 90 s around the clock, tokens are rotated each quarter of an hour, links are lost
// every half an hour, each device is updated or crashes every other hour, and there is always somebody
// who works.
/// Tunnels opened for a device, used and closed.
pub(crate) const VISITS: u32 = 960;
/// Connections through a tunnel that stays open.
pub(crate) const CONNECTIONS: u32 = 9_600;
/// Tokens replaced, sources and destinations by turns.
pub(crate) const ROTATIONS: u32 = 96;
/// Links of both proxies of a tunnel lost at once, under a transfer.
pub(crate) const CUTS: u32 = 48;
/// Ends of an agent with a tunnel open, by `kill -9` and by SIGTERM in turns.
pub(crate) const RESTARTS: u32 = 24;
/// SIGHUPs to the service.
pub(crate) const RELOADS: u32 = 12;

/// The part of a day, or the days, that are played, and the time that it takes.
pub(crate) struct Day {
    hours: f64,
    length: Duration,
    began: Instant,
}

impl Day {
    /// Begins now, with what the environment says.
    pub(crate) fn begin() -> Result<Self> {
        let (hours, seconds) = (
            number("ADIT_SOAK_HOURS", 0.5)?,
            number("ADIT_SOAK_SECONDS", 25.0)?,
        );
        Ok(Self {
            hours,
            length: Duration::from_secs_f64(seconds),
            began: Instant::now(),
        })
    }

    /// Whether a whole one is played, so that a slope means something.
    pub(crate) fn is_whole(&self) -> bool {
        self.hours >= 24.0
    }

    /// The real time that 24 hours take, in seconds.
    pub(crate) fn seconds_of_a_day(&self) -> f64 {
        self.length.as_secs_f64() * 24.0 / self.hours
    }

    /// Does something as often as its part of the day, or its days, have it, evenly spread: at least once. An event that
    /// is late makes the next ones late, and none is left out. Returns how many there were.
    pub(crate) async fn spread(
        &self,
        daily: u32,
        what: &str,
        mut event: impl AsyncFnMut(u32) -> Result<()>,
    ) -> Result<u32> {
        let count = ((f64::from(daily) * self.hours / 24.0) as u32).max(1);
        for number in 0..count {
            let moment = self
                .length
                .mul_f64((f64::from(number) + 0.5) / f64::from(count));
            pause((self.began + moment).saturating_duration_since(Instant::now())).await;
            let done = event(number).await;
            done.with_context(|| format!("{what} {number}, at {:?}", self.began.elapsed()))?;
        }
        Ok(count)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, took) = (self.hours, self.began.elapsed().as_secs_f64());
        write!(
            f,
            "{hours} hours in {took:.0} s, {:.0} times as fast",
            hours * 3600.0 / took
        )
    }
}

fn number(name: &str, otherwise: f64) -> Result<f64> {
    let number = match std::env::var(name) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{name}={text} is no number"))?,
        Err(_) => otherwise,
    };
    ensure!(number > 0.0, "{name} has to be above 0");
    Ok(number)
}
