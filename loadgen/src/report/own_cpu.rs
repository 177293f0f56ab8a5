//! CPU time of the generator's own threads, from the scheduler's own count.

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

/// Watches this process's threads. It remembers each that ever lived in the run: the workers, and a
/// handful of others.
#[derive(Debug, Default)]
pub(crate) struct OwnCpu {
    threads: HashMap<u32, Thread>,
    /// When it was looked last, and CPU time of the whole process then; and when it was looked first.
    seen_first: Option<Sample>,
    seen_last: Option<Sample>,
}

/// A time, and the CPU time used until then.
type Sample = (Instant, Duration);

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
    seen_first: Sample,
    seen_last: Sample,
    /// How long it had been ready, and without a processor.
    waited_first: Duration,
    waited_last: Duration,
    has_ended: bool,
}

impl OwnCpu {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Reads all threads; tells what they used since the last sample, nothing at the first.
    pub(crate) fn sample(&mut self, now: Instant) -> Cpu {
        self.update((now, process()), threads())
    }

    fn update(
        &mut self,
        whole: Sample,
        read: impl Iterator<Item = (u32, Duration, Duration)>,
    ) -> Cpu {
        let (now, _) = whole;
        let (mut known, mut busiest) = (Duration::ZERO, Duration::ZERO);
        let before = self.seen_last.replace(whole);
        self.seen_first.get_or_insert(whole);
        for (id, cpu, waited) in read {
            let thread = self.threads.entry(id).or_insert(Thread {
                seen_first: (now, cpu),
                seen_last: (now, cpu),
                waited_first: waited,
                waited_last: waited,
                has_ended: false,
            });
            thread.waited_last = waited;
            let used = cpu.saturating_sub(thread.seen_last.1);
            thread.seen_last = (now, cpu);
            known += used;
            busiest = busiest.max(used);
        }
        let Some(before) = before else {
            return Cpu::default();
        };
        let all = whole.1.saturating_sub(before.1);
        busiest = busiest.max(self.share_among_ended(now, all.saturating_sub(known)));
        let time = now
            .saturating_duration_since(before.0)
            .as_secs_f64()
            .max(1e-9);
        Cpu {
            all: all.as_secs_f64() / time,
            busiest: busiest.as_secs_f64() / time,
        }
    }

    /// What no living thread has used, those that ended since the last look have: the workers of a run
    /// end before its last second is told. Gives the part of each.
    fn share_among_ended(&mut self, now: Instant, rest: Duration) -> Duration {
        let is_new = |thread: &&mut Thread| !thread.has_ended && thread.seen_last.0 < now;
        let mut ended: Vec<&mut Thread> = self.threads.values_mut().filter(is_new).collect();
        let count = u32::try_from(ended.len()).unwrap_or(u32::MAX);
        let Some(part) = rest.checked_div(count) else {
            return Duration::ZERO;
        };
        for thread in &mut ended {
            thread.seen_last = (now, thread.seen_last.1 + part);
            thread.has_ended = true;
        }
        part
    }

    /// CPU time of the whole process since it was looked first.
    pub(crate) fn total(&self) -> Duration {
        match (self.seen_first, self.seen_last) {
            (Some(first), Some(last)) => last.1.saturating_sub(first.1),
            _ => Duration::ZERO,
        }
    }

    /// Cores that the busiest thread used while it was seen, among those seen for a second and more
    /// (a shorter look cannot tell a burst from a load).
    pub(crate) fn busiest(&self) -> f64 {
        self.most(Thread::used)
    }

    /// The same of the thread that was idle least: running, or ready to run while others had the processors.
    pub(crate) fn busiest_wanted(&self) -> f64 {
        self.most(|thread| thread.used() + thread.waited_last.saturating_sub(thread.waited_first))
    }

    fn most(&self, time: impl Fn(&Thread) -> Duration) -> f64 {
        let all = self.threads.values();
        let long_enough = all.filter(|thread| thread.span() >= SPAN_MIN);
        let share = |thread: &Thread| time(thread).as_secs_f64() / thread.span().as_secs_f64();
        long_enough.map(share).fold(0.0, f64::max)
    }
}

impl Thread {
    fn used(&self) -> Duration {
        self.seen_last.1.saturating_sub(self.seen_first.1)
    }

    fn span(&self) -> Duration {
        let (first, last) = (self.seen_first.0, self.seen_last.0);
        last.saturating_duration_since(first)
    }
}

/// CPU time of all threads of this process, also of those that have ended.
fn process() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Time that each thread was on a CPU, and waited for one: the first fields of `schedstat`, nanoseconds. `stat` counts in
/// ticks of 10 ms, which would hide a thread that sleeps and wakes often.
fn threads() -> impl Iterator<Item = (u32, Duration, Duration)> {
    let tasks = fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    tasks.filter_map(|task| {
        let id = task.file_name().to_str()?.parse().ok()?;
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let mut times = text
            .split(' ')
            .map(|it| it.parse().map(Duration::from_nanos));
        Some((id, times.next()?.ok()?, times.next()?.ok()?))
    })
}

const SPAN_MIN: Duration = Duration::from_millis(900);

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// One that never waited for a processor.
    fn thread(id: u32, cpu: u64) -> (u32, Duration, Duration) {
        (id, milliseconds(cpu), Duration::ZERO)
    }

    #[test]
    fn the_busiest_thread_is_told_from_the_sum() {
        let mut own = OwnCpu::new();
        let start = Instant::now();
        let begin = [
            (1, milliseconds(7_000), milliseconds(50)),
            (2, milliseconds(1_000), milliseconds(0)),
        ];
        let first = own.update((start, milliseconds(9_000)), begin.into_iter());
        assert_eq!(first, Cpu::default());
        let after = [
            (1, milliseconds(8_800), milliseconds(100)),
            (2, milliseconds(1_100), milliseconds(1_880)),
        ];
        let two = start + milliseconds(2_000);
        let used = own.update((two, milliseconds(10_900)), after.into_iter());
        assert!((used.all - 0.95).abs() < 1e-9 && (used.busiest - 0.9).abs() < 1e-9);
        assert_eq!(own.total(), milliseconds(1_900));
        assert!((own.busiest() - 0.9).abs() < 1e-9);
        // The other one would have had much to do.
        assert!((own.busiest_wanted() - 0.99).abs() < 1e-9);
    }

    #[test]
    fn what_a_thread_used_before_it_ended_is_its_own() {
        let mut own = OwnCpu::new();
        let start = Instant::now();
        let at = |seconds: u64| start + milliseconds(seconds * 1_000);
        own.update(
            (at(0), milliseconds(0)),
            [thread(1, 0), thread(2, 0)].into_iter(),
        );
        own.update(
            (at(1), milliseconds(500)),
            [thread(1, 500), thread(2, 0)].into_iter(),
        );
        let last = own.update((at(2), milliseconds(1_400)), [thread(2, 100)].into_iter());
        assert!(
            (last.all - 0.9).abs() < 1e-9 && (last.busiest - 0.8).abs() < 1e-9,
            "{last:?}"
        );
        assert_eq!(own.total(), milliseconds(1_400));
        assert!((own.busiest() - 0.65).abs() < 1e-9);
        // It has ended once and for all.
        let later = own.update((at(3), milliseconds(1_500)), [thread(2, 200)].into_iter());
        assert!((later.busiest - 0.1).abs() < 1e-9, "{later:?}");
    }

    #[test]
    fn this_process_has_threads() {
        assert!(
            threads().count() >= 1,
            "no schedstat: the kernel lacks CONFIG_SCHED_INFO"
        );
        assert!(process() > Duration::ZERO);
    }
}
