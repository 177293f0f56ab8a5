//! What both proxies count, over time: totals, rates, a short history.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use adit_engine::ring::ProxyStatus;

/// Time between two samples.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// Samples that a rate is taken over: one second.
const RATE_SAMPLES: usize = 4;

/// Seconds that the history goes back.
const HISTORY: usize = 60;

/// Both proxies at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) source: ProxyStatus,
    pub(super) destination: ProxyStatus,
}

impl Sample {
    /// Payload that applications got: on the device, and on the user's side.
    fn delivered(&self) -> [u64; 2] {
        [
            self.destination.counters.bytes_received,
            self.source.counters.bytes_received,
        ]
    }
}

/// One direction: everything that was delivered in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Direction {
    /// In bytes.
    pub(super) total: u64,
    /// In bytes per second, over the last second.
    pub(super) rate: f64,
    /// The same for each full second so far, the newest last, at most a minute.
    pub(super) history: VecDeque<f64>,
}

/// Turns samples into what can be shown.
#[derive(Debug)]
pub(super) struct Meter {
    started: Instant,
    recent: VecDeque<Sample>,
    second: Sample,
    to_device: Direction,
    from_device: Direction,
}

impl Meter {
    pub(super) fn new(first: Sample) -> Self {
        let [to, from] = first.delivered();
        let direction = |total| Direction {
            total,
            ..Direction::default()
        };
        Self {
            started: first.at,
            recent: VecDeque::from([first]),
            second: first,
            to_device: direction(to),
            from_device: direction(from),
        }
    }

    /// Takes in the next sample, which is not older than the one before.
    pub(super) fn record(&mut self, sample: Sample) {
        self.recent.push_back(sample);
        if self.recent.len() > RATE_SAMPLES + 1 {
            self.recent.pop_front();
        }
        let rates = self
            .recent
            .front()
            .map_or([0.0; 2], |first| rates(first, &sample));
        let is_full = sample.at.saturating_duration_since(self.second.at) >= Duration::from_secs(1);
        let second = rates_since(&mut self.second, &sample, is_full);
        let directions = [&mut self.to_device, &mut self.from_device];
        for (at, direction) in directions.into_iter().enumerate() {
            direction.total = sample.delivered()[at];
            direction.rate = rates[at];
            if let Some(second) = second {
                direction.history.push_back(second[at]);
                if direction.history.len() > HISTORY {
                    direction.history.pop_front();
                }
            }
        }
    }

    /// Time since the first sample.
    pub(super) fn elapsed(&self) -> Duration {
        self.latest().at.saturating_duration_since(self.started)
    }

    /// The newest sample.
    pub(super) fn latest(&self) -> &Sample {
        self.recent.back().unwrap_or(&self.second)
    }

    /// What applications on the device got.
    pub(super) fn delivered_there(&self) -> &Direction {
        &self.to_device
    }

    /// What applications on the user's side got.
    pub(super) fn delivered_here(&self) -> &Direction {
        &self.from_device
    }
}

fn rates_since(from: &mut Sample, to: &Sample, is_full: bool) -> Option<[f64; 2]> {
    is_full.then(|| rates(&std::mem::replace(from, *to), to))
}

/// Bytes per second in both directions.
fn rates(from: &Sample, to: &Sample) -> [f64; 2] {
    let time = to.at.saturating_duration_since(from.at).as_secs_f64();
    let (before, after) = (from.delivered(), to.delivered());
    [0, 1].map(|at| match after[at].saturating_sub(before[at]) {
        0 => 0.0,
        // Two samples of one instant say nothing of a rate.
        _ if time == 0.0 => 0.0,
        bytes => bytes as f64 / time,
    })
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A sample `at` a time, with these bytes delivered to and from the device.
    pub(in super::super) fn sample(at: Instant, to_device: u64, from_device: u64) -> Sample {
        let mut sample = Sample {
            at,
            source: ProxyStatus {
                is_running: true,
                ..ProxyStatus::default()
            },
            destination: ProxyStatus {
                is_running: true,
                ..ProxyStatus::default()
            },
        };
        sample.source.counters.bytes_received = from_device;
        sample.destination.counters.bytes_received = to_device;
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::testing::sample;
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_second() {
        let start = Instant::now();
        let at = |tick: u32| start + SAMPLE_INTERVAL * tick;
        let mut meter = Meter::new(sample(at(0), 0, 0));
        for tick in 1..=4 {
            meter.record(sample(at(tick), u64::from(tick) * 1_000, 0));
        }
        assert_eq!(meter.delivered_there().rate, 4_000.0);
        assert_eq!(meter.delivered_here().rate, 0.0);
        for tick in 5..=8 {
            meter.record(sample(at(tick), 4_000, 500));
        }
        assert_eq!(meter.delivered_there().rate, 0.0);
        assert_eq!(meter.delivered_here().rate, 500.0);
        assert_eq!(meter.delivered_there().total, 4_000);
        assert_eq!(meter.delivered_there().history, [4_000.0, 0.0]);
        assert_eq!(meter.delivered_here().history, [0.0, 500.0]);
        assert_eq!(meter.elapsed(), Duration::from_secs(2));
    }

    #[test]
    fn the_history_is_bounded_and_the_first_bytes_are_no_rate() {
        let start = Instant::now();
        let mut meter = Meter::new(sample(start, 77, 88));
        for second in 1..=200 {
            meter.record(sample(start + Duration::from_secs(second), 77, 88));
        }
        assert_eq!(meter.delivered_there().history.len(), HISTORY);
        assert!(
            meter
                .delivered_there()
                .history
                .iter()
                .all(|rate| *rate == 0.0)
        );
        assert_eq!(meter.delivered_here().total, 88);
    }

    #[test]
    fn two_samples_of_one_instant_give_no_rate() {
        let start = Instant::now();
        let mut meter = Meter::new(sample(start, 0, 0));
        meter.record(sample(start, 1_000, 1_000));
        assert_eq!(meter.delivered_there().rate, 0.0);
        assert_eq!(meter.delivered_there().total, 1_000);
    }
}
