//! Shows a tunnel at work on this machine, with everything it takes in one process.
//!
//! Nothing is left out and nothing is faked: the service checks the signatures of its API, the device is
//! registered and the tunnel opened through it, the device's agent hears of it over MQTT, and both sides
//! come to the relay over TLS. Only the services on the device are pretended.

mod agent;
mod check;
mod device;
mod home;
mod http;
mod intro;
mod meter;
mod operator;
mod page;
mod quantity;
mod screen;
mod source;
mod stack;
mod status;
mod text;
mod transfer;

use std::time::Duration;

use adit_engine::ring::IoChoice;
use anyhow::{Context as _, Result};
use tokio::time::{MissedTickBehavior, interval};

pub use self::check::DEADLINE as CHECK_DEADLINE;
use self::device::EchoEnd;
use self::home::Home;
use self::meter::{Meter, SAMPLE_INTERVAL};
use self::quantity::{bytes, counted, long_time};
use self::screen::Screen;
use self::stack::Stack;
use self::text::{Look, Row};
use super::runtime::{self, Stop};
use crate::exit::ExitCode;
use crate::settings::DemoSettings;
use crate::world::World;

/// Samples between two lines where there is no terminal: two seconds.
const LINE_SAMPLES: u32 = 8;

/// Shows a tunnel, or checks one.
pub fn demo(settings: DemoSettings, world: &World) -> ExitCode {
    let mut screen = Screen::new(world);
    let io = settings.io;
    let ended = runtime::run(async {
        if settings.check {
            check::run(&mut screen, io).await
        } else {
            show(&mut screen, io).await
        }
    });
    match ended.context("start").flatten() {
        Ok(()) => ExitCode::Ended,
        Err(error) => {
            screen.print(&[Row::new().and(Look::Bad, " ✗ ").plain(format!("{error:#}"))]);
            ExitCode::Failure
        }
    }
}

async fn show(screen: &mut Screen, io: IoChoice) -> Result<()> {
    let mut stop = Stop::new().context("watch for signals")?;
    let home = Home::new()?;
    let path = home.path().to_owned();
    // Who does not wait for the end leaves nothing behind either.
    let last = || {
        let path = path.clone();
        move || home::remove(&path)
    };
    screen.print(&[Row::new()]);
    let tell = |label, text| screen.print(&[step(label, text)]);
    let mut stack = tokio::select! {
        stack = Stack::start(home, io, EchoEnd::Client, tell) => stack?,
        () = stop.requested_with(last()) => return Ok(()),
    };
    let width = screen.width();
    screen.print(&intro::rows(stack.ports, &stack.exports, width));
    let mut meter = Meter::new(stack.sample().await);
    tokio::select! {
        () = stop.requested_with(last()) => {}
        error = watch(screen, &mut stack, &mut meter) => {
            stack.abandon().await;
            return Err(error);
        }
    }
    screen.print(&ending(&meter));
    stack.stop().await?;
    screen.print(&[Row::new()
        .and(Look::Good, " ✓")
        .plain(" everything has ended")]);
    Ok(())
}

/// What was done, or has happened.
fn step(label: &str, text: String) -> Row {
    let row = Row::new().and(Look::Good, " ✓ ");
    row.strong(format!("{label:<9}")).plain(text)
}

/// Shows what goes through the tunnel, until a part of it fails.
async fn watch(screen: &mut Screen, stack: &mut Stack, meter: &mut Meter) -> anyhow::Error {
    let mut ticks = interval(SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reporter = Reporter::new(meter);
    let mut tokens_used = stack.tokens_used();
    loop {
        meter.record(stack.sample().await);
        let used = stack.tokens_used();
        if used != std::mem::replace(&mut tokens_used, used) {
            let what = "the device was told a new token over MQTT and has connected with it";
            screen.print(&[step("agent", what.to_owned())]);
        }
        if screen.is_live() {
            screen.show(&status::rows(meter, screen.width()));
        } else if let Some(line) = reporter.line(meter) {
            screen.print(&[Row::new().plain(format!(" {line}"))]);
        }
        tokio::select! {
            _ = ticks.tick() => {}
            error = stack.failed() => return error,
        }
    }
}

/// Says every few seconds what is new, if anything is.
struct Reporter {
    samples: u32,
    said_at: Duration,
    /// What was said last: open connections, all connections, bytes delivered each way.
    said: (usize, u64, [u64; 2]),
}

impl Reporter {
    fn new(meter: &Meter) -> Self {
        Self {
            samples: 0,
            said_at: meter.elapsed(),
            said: Self::key(meter),
        }
    }

    fn key(meter: &Meter) -> (usize, u64, [u64; 2]) {
        let latest = meter.latest();
        (
            latest.source.connections,
            latest.source.counters.connections,
            [meter.delivered_there().total, meter.delivered_here().total],
        )
    }

    fn line(&mut self, meter: &Meter) -> Option<String> {
        self.samples += 1;
        let key = Self::key(meter);
        if self.samples < LINE_SAMPLES || key == self.said {
            return None;
        }
        let time = meter.elapsed().saturating_sub(self.said_at).as_secs_f64();
        // A proxy that has ended counts nothing any more: less than before is no news.
        let news = |at: usize| key.2[at].saturating_sub(self.said.2[at]);
        let rates = [0, 1].map(|at| news(at) as f64 / time.max(0.001));
        *self = Self {
            samples: 0,
            said_at: meter.elapsed(),
            said: key,
        };
        Some(status::line(meter, &rates))
    }
}

fn ending(meter: &Meter) -> Vec<Row> {
    let latest = meter.latest();
    let mut rows = vec![
        Row::new(),
        Row::new().plain(format!(
            " {} in {}, {} to the device, {} from it",
            counted(latest.source.counters.connections, "connection"),
            long_time(meter.elapsed()),
            bytes(meter.delivered_there().total),
            bytes(meter.delivered_here().total),
        )),
    ];
    let open = latest.source.connections as u64;
    if open > 0 {
        let open = counted(open, "open connection");
        let patience = long_time(source::DRAIN_TIMEOUT);
        rows.push(Row::new().faint(format!(
            " {open} may go on for {patience}; Ctrl-C again does not wait"
        )));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::meter::testing::sample;
    use super::*;
    use std::time::Instant;

    /// A side that is over reports zeros, which is less than it has said before.
    #[test]
    fn counters_that_fall_back_to_zero_are_a_rate_of_nothing() {
        let start = Instant::now();
        let mut meter = Meter::new(sample(start, 5_000, 7_000));
        let mut reporter = Reporter::new(&meter);
        meter.record(sample(start + Duration::from_secs(2), 0, 0));
        let lines = (0..LINE_SAMPLES).filter_map(|_| reporter.line(&meter));
        assert_eq!(lines.count(), 1);
    }
}
