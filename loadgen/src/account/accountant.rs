//! Samples all subjects once a second, and tells what a measured window cost.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{SAMPLE_INTERVAL, Subject, Usage};
use crate::report::ProcessUse;

/// Samples of one subject that are kept: a day of them, 9 MB. Of a longer run the newest.
pub const SAMPLES_MAX: usize = 24 * 3600;

/// Payload bytes from which on processor time is told for each GiB: it is counted in hundredths of a second,
/// and of little payload it would be rounding.
const PER_GIB_MIN: u64 = 64 << 20;

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the accounting began.
    pub at: f64,
    /// What was read.
    pub usage: Usage,
}

/// What one subject used in the measured window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Who.
    pub name: String,
    /// Its process number; `None` for a control group.
    pub pid: Option<u32>,
    /// Path and build id of its program, where known.
    pub executable: Option<String>,
    /// Length of the window, seconds.
    pub seconds: f64,
    /// At the window's start.
    pub begin: Usage,
    /// At its end; if the subject ended before, what was read of it last.
    pub end: Usage,
    /// When the subject ended, in seconds since the accounting began; `None`: it lives.
    pub gone_at: Option<f64>,
    /// The most that was resident at a sample, bytes.
    pub resident_max: Option<u64>,
    /// The most user memory at a sample, bytes.
    pub user_memory_max: Option<u64>,
    /// Once a second, over the whole accounting: at most [`SAMPLES_MAX`].
    pub samples: Vec<Sample>,
}

impl Window {
    /// Processor seconds that the window cost, user and kernel.
    #[must_use]
    pub fn cpu(&self) -> f64 {
        (self.end.cpu() - self.begin.cpu()).max(0.0)
    }

    /// The same for each GiB of `bytes`; `None` where nothing was carried.
    #[must_use]
    pub fn cpu_per_gib(&self, bytes: u64) -> Option<f64> {
        const GIB: f64 = (1_u64 << 30) as f64;
        (bytes > 0).then(|| self.cpu() / (bytes as f64 / GIB))
    }

    /// Threads that were ready to run and had no core, on average; `None` where that cannot be known.
    fn waiting_cores(&self) -> Option<f64> {
        let waited = self.end.cpu_wait? - self.begin.cpu_wait?;
        Some(waited.max(0.0) / self.seconds.max(1e-9))
    }

    /// As a summary tells it. `bytes` is the payload carried in the window, both directions.
    #[must_use]
    pub fn to_use(&self, bytes: u64) -> ProcessUse {
        let since = |of: fn(&Usage) -> f64| (of(&self.end) - of(&self.begin)).max(0.0);
        ProcessUse {
            name: self.name.clone(),
            pid: self.pid,
            executable: self.executable.clone(),
            cpu_user_s: since(|it| it.cpu_user),
            cpu_system_s: since(|it| it.cpu_system),
            cpu_cores: self.cpu() / self.seconds.max(1e-9),
            waiting_cores: self.waiting_cores(),
            cpu_s_per_gib: self.cpu_per_gib(bytes).filter(|_| bytes >= PER_GIB_MIN),
            resident_bytes: self.end.resident,
            resident_max_bytes: self.resident_max,
            user_memory_bytes: self.end.user_memory,
            user_memory_max_bytes: self.user_memory_max,
            descriptors: self.end.descriptors,
            has_ended: self.gone_at.is_some(),
        }
    }

    /// The same window with this processor time, over so many seconds: those parts of it that are asked for.
    #[must_use]
    pub fn with_cpu(mut self, user: f64, system: f64, seconds: f64) -> Self {
        self.begin.cpu_user = self.end.cpu_user - user;
        self.begin.cpu_system = self.end.cpu_system - system;
        // Nobody has kept it apart.
        self.begin.cpu_wait = None;
        self.seconds = seconds;
        self
    }

    /// Context switches in the window, voluntary and not, of threads that live at its end.
    #[must_use]
    pub fn switches(&self) -> Option<u64> {
        let sum = |usage: &Usage| Some(usage.switches_voluntary? + usage.switches_involuntary?);
        Some(sum(&self.end)?.saturating_sub(sum(&self.begin)?))
    }
}

/// Watches subjects until it is told to finish.
pub struct Accountant {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    begun: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    accounts: Vec<Account>,
    /// When the window began.
    window: Instant,
    /// When it is to end, unless the watching ends before.
    until: Option<Instant>,
    /// How long it was, once it has ended.
    length: Option<Duration>,
    is_over: bool,
}

struct Account {
    subject: Subject,
    begin: Usage,
    last: Usage,
    /// At the window's end, once it has ended.
    end: Option<Usage>,
    gone_at: Option<f64>,
    samples: VecDeque<Sample>,
}

impl Accountant {
    /// Begins to watch. The window begins here too, until [`begin_window`](Self::begin_window).
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(subjects: Vec<Subject>) -> io::Result<Self> {
        let begun = Instant::now();
        let account = |subject: Subject| {
            let usage = subject.usage();
            let read = usage.as_ref().copied().unwrap_or_default();
            Account {
                subject,
                begin: read,
                last: read,
                end: None,
                gone_at: usage.err().map(|_| 0.0),
                samples: VecDeque::new(),
            }
        };
        let shared = Arc::new(Shared {
            begun,
            state: Mutex::new(State {
                accounts: subjects.into_iter().map(account).collect(),
                window: begun,
                until: None,
                length: None,
                is_over: false,
            }),
            changed: Condvar::new(),
        });
        let thread = std::thread::Builder::new().name("account".to_owned());
        let watched = Arc::clone(&shared);
        let thread = thread.spawn(move || watched.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// What was before does not count, nor what is after: the measured window begins now and ends at `until`, or with the
    /// watching if that is earlier.
    pub fn begin_window(&self, until: Instant) {
        let mut state = self.shared.lock();
        (state.window, state.until, state.length) = (Instant::now(), Some(until), None);
        for account in &mut state.accounts {
            account.read(self.shared.begun);
            (account.begin, account.end) = (account.last, None);
        }
        drop(state);
        // Its thread waits for a time that may be later.
        self.shared.changed.notify_all();
    }

    /// Reads every subject now; those that are gone are left out.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(String, Usage)> {
        let state = self.shared.lock();
        let read = |account: &Account| {
            let usage = account.subject.usage().ok()?;
            Some((account.subject.name().to_owned(), usage))
        };
        state.accounts.iter().filter_map(read).collect()
    }

    /// Ends the watching, and the window if that has not ended by itself.
    #[must_use]
    pub fn finish(mut self) -> Vec<Window> {
        self.stop();
        let mut state = self.shared.lock();
        let length = state.length.unwrap_or_else(|| state.window.elapsed());
        let seconds = length.as_secs_f64();
        let begun = self.shared.begun;
        let close = |mut account: Account| {
            account.read(begun);
            account.close(seconds)
        };
        state.accounts.drain(..).map(close).collect()
    }

    fn stop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It cannot panic with a reading: those give errors.
            let _ = thread.join();
        }
    }
}

impl Drop for Accountant {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self) {
        let mut next = self.begun + SAMPLE_INTERVAL;
        let mut state = self.lock();
        while !state.is_over {
            let now = Instant::now();
            if state.until.is_some_and(|until| until <= now) {
                state.end_window(self.begun);
                continue;
            }
            let look_up = state.until.map_or(next, |until| until.min(next));
            let left = look_up.saturating_duration_since(now);
            if left > Duration::ZERO {
                let waited = self.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            for account in &mut state.accounts {
                account.sample(self.begun);
            }
            // A machine that was too busy loses samples rather than taking several at once.
            while next <= Instant::now() {
                next += SAMPLE_INTERVAL;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end_window(&mut self, begun: Instant) {
        self.until = None;
        self.length = Some(self.window.elapsed());
        for account in &mut self.accounts {
            account.read(begun);
            account.end = Some(account.last);
        }
    }
}

impl Account {
    /// Reads the subject, unless it was found gone before.
    fn read(&mut self, begun: Instant) -> bool {
        if self.gone_at.is_some() {
            return false;
        }
        match self.subject.usage() {
            Ok(usage) => self.last = usage,
            Err(_) => self.gone_at = Some(begun.elapsed().as_secs_f64()),
        }
        self.gone_at.is_none()
    }

    fn sample(&mut self, begun: Instant) {
        if self.read(begun) {
            if self.samples.len() == SAMPLES_MAX {
                self.samples.pop_front();
            }
            self.samples.push_back(Sample {
                at: begun.elapsed().as_secs_f64(),
                usage: self.last,
            });
        }
    }

    fn close(self, seconds: f64) -> Window {
        let usages = || self.samples.iter().map(|it| it.usage).chain([self.last]);
        Window {
            name: self.subject.name().to_owned(),
            pid: self.subject.pid(),
            executable: self.subject.executable().map(str::to_owned),
            seconds,
            begin: self.begin,
            end: self.end.unwrap_or(self.last),
            gone_at: self.gone_at,
            resident_max: usages().filter_map(|it| it.resident).max(),
            user_memory_max: usages().filter_map(|it| it.user_memory).max(),
            samples: self.samples.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::SubjectSpec;
    use std::process::{Command, Stdio};

    fn subject(pid: u32, name: &str) -> Subject {
        SubjectSpec::process(pid, name).find().unwrap()
    }

    fn work(time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            std::hint::black_box(start.elapsed());
        }
    }

    #[test]
    fn only_what_is_used_in_the_window_counts() {
        let accountant = Accountant::start(vec![subject(std::process::id(), "self")]).unwrap();
        work(Duration::from_millis(1100));
        accountant.begin_window(Instant::now() + Duration::from_secs(600));
        let window = &accountant.finish()[0];
        assert_eq!(
            (&*window.name, window.pid),
            ("self", Some(std::process::id()))
        );
        // Other tests of this process run beside this one, on any number of cores.
        assert!(window.seconds < 1.0, "{window:?}");
        assert_eq!(window.samples.len(), 1, "{window:?}");
        assert!(window.samples[0].usage.cpu() > 0.0);
        assert!(window.begin.cpu() >= window.samples[0].usage.cpu());
        assert!(window.end.cpu() >= window.begin.cpu());
        assert_eq!(window.cpu_per_gib(0), None);
        assert!(window.resident_max >= window.user_memory_max);
    }

    #[test]
    fn what_is_used_after_the_window_does_not_count() {
        let accountant = Accountant::start(vec![subject(std::process::id(), "self")]).unwrap();
        let begun = Instant::now();
        accountant.begin_window(begun + Duration::from_millis(100));
        work(Duration::from_millis(1500));
        let (_, after) = &accountant.snapshot()[0];
        let all = begun.elapsed().as_secs_f64();
        let window = &accountant.finish()[0];
        assert!(window.seconds >= 0.1 && window.seconds < all, "{window:?}");
        assert!(window.end.cpu() < after.cpu(), "{window:?} {after:?}");
        assert!(!window.samples.is_empty(), "the watching goes on");
    }

    #[test]
    fn cost_is_for_each_gib() {
        let usage = |cpu_user| Usage {
            cpu_user,
            cpu_system: 0.5,
            cpu_wait: Some(cpu_user / 10.0),
            ..Usage::default()
        };
        let window = Window {
            name: "x".to_owned(),
            executable: None,
            pid: None,
            seconds: 1.0,
            begin: usage(1.0),
            end: usage(2.5),
            gone_at: None,
            resident_max: None,
            user_memory_max: None,
            samples: Vec::new(),
        };
        assert_eq!(window.cpu_per_gib(3 << 30), Some(0.5));
        let told = window.to_use(3 << 30);
        assert_eq!((told.cpu_user_s, told.cpu_system_s), (1.5, 0.0));
        assert_eq!((told.cpu_cores, told.cpu_s_per_gib), (1.5, Some(0.5)));
        assert_eq!(told.waiting_cores, Some(0.15));
        assert_eq!(window.to_use(1 << 20).cpu_s_per_gib, None);
        let part = window.clone().with_cpu(0.5, 0.25, 0.5).to_use(1 << 30);
        assert_eq!((part.cpu_user_s, part.cpu_system_s), (0.5, 0.25));
        assert_eq!((part.cpu_cores, part.cpu_s_per_gib), (1.5, Some(0.75)));
        assert_eq!(part.waiting_cores, None);
        assert_eq!(window.switches(), None);
    }

    #[test]
    fn a_subject_that_ends_keeps_what_was_read_of_it() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let accountant = Accountant::start(vec![subject(child.id(), "child")]).unwrap();
        assert_eq!(accountant.snapshot().len(), 1);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(accountant.snapshot().is_empty());
        let window = &accountant.finish()[0];
        assert!(window.gone_at.is_some());
        assert!(window.end.resident.is_some(), "{window:?}");
    }
}
