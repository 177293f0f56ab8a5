//! CPU time of the generator's own threads, from the scheduler's own count.

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

/// Watches this process's threads. A thread that comes and goes between two samples is not seen;
/// workers live for the whole run.
#[derive(Debug)]
pub(crate) struct OwnCpu {
    threads: HashMap<u32, Thread>,
    sampled: Option<Instant>,
}

/// Cores used in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cpu {
    /// By all threads together.
    pub(crate) all: f64,
    /// By the busiest.
    pub(crate) busiest: f64,
}

#[derive(Debug)]
struct Thread {
    seen_first: (Instant, Duration),
    seen_last: (Instant, Duration),
}

impl OwnCpu {
    pub(crate) fn new() -> Self {
        Self {
            threads: HashMap::new(),
            sampled: None,
        }
    }

    /// Reads all threads; tells what they used since the last sample, nothing at the first.
    pub(crate) fn sample(&mut self, now: Instant) -> Cpu {
        let since = self
            .sampled
            .replace(now)
            .map(|before| now.saturating_duration_since(before));
        let (all, busiest) = self.update(now, threads());
        match since {
            Some(since) if !since.is_zero() => Cpu {
                all: all.as_secs_f64() / since.as_secs_f64(),
                busiest: busiest.as_secs_f64() / since.as_secs_f64(),
            },
            _ => Cpu::default(),
        }
    }

    /// CPU time since the last reading: of all threads, and of the busiest.
    fn update(
        &mut self,
        now: Instant,
        read: impl Iterator<Item = (u32, Duration)>,
    ) -> (Duration, Duration) {
        let (mut all, mut busiest) = (Duration::ZERO, Duration::ZERO);
        for (id, cpu) in read {
            let thread = self.threads.entry(id).or_insert(Thread {
                seen_first: (now, cpu),
                seen_last: (now, cpu),
            });
            let used = cpu.saturating_sub(thread.seen_last.1);
            thread.seen_last = (now, cpu);
            all += used;
            busiest = busiest.max(used);
        }
        (all, busiest)
    }

    /// CPU time of all threads since each was first seen.
    pub(crate) fn total(&self) -> Duration {
        self.threads.values().map(Thread::used).sum()
    }

    /// Cores that the busiest thread used while it was seen, among those seen for a second and more
    /// (a shorter look cannot tell a burst from a load).
    pub(crate) fn busiest(&self) -> f64 {
        let long_enough = self
            .threads
            .values()
            .filter(|thread| thread.span() >= SPAN_MIN);
        long_enough
            .map(|thread| thread.used().as_secs_f64() / thread.span().as_secs_f64())
            .fold(0.0, f64::max)
    }
}

impl Thread {
    fn used(&self) -> Duration {
        self.seen_last.1.saturating_sub(self.seen_first.1)
    }

    fn span(&self) -> Duration {
        self.seen_last
            .0
            .saturating_duration_since(self.seen_first.0)
    }
}

/// Time on a CPU of each thread: the first field of `schedstat`, nanoseconds. `stat` counts in ticks
/// of 10 ms, which would hide a thread that sleeps and wakes often.
fn threads() -> impl Iterator<Item = (u32, Duration)> {
    let tasks = fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    tasks.filter_map(|task| {
        let id = task.file_name().to_str()?.parse().ok()?;
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let nanoseconds = text.split(' ').next()?.parse().ok()?;
        Some((id, Duration::from_nanos(nanoseconds)))
    })
}

const SPAN_MIN: Duration = Duration::from_millis(900);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_thread_is_told_from_the_sum() {
        let mut own = OwnCpu::new();
        let start = Instant::now();
        let seconds = Duration::from_secs;
        let milliseconds = Duration::from_millis;
        own.update(start, [(1, seconds(7)), (2, seconds(1))].into_iter());
        let used = own.update(
            start + seconds(2),
            [(1, milliseconds(8_800)), (2, milliseconds(1_100))].into_iter(),
        );
        assert_eq!(used, (milliseconds(1_900), milliseconds(1_800)));
        assert_eq!(own.total(), milliseconds(1_900));
        assert!((own.busiest() - 0.9).abs() < 1e-9);
        // A thread that has ended keeps what it had used.
        own.update(start + seconds(4), [(2, milliseconds(1_200))].into_iter());
        assert_eq!(own.total(), milliseconds(2_000));
        assert!((own.busiest() - 0.9).abs() < 1e-9);
    }

    #[test]
    fn this_process_has_threads() {
        assert!(
            threads().count() >= 1,
            "no schedstat: the kernel lacks CONFIG_SCHED_INFO"
        );
    }
}
