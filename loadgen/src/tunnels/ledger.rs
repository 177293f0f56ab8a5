//! Processor time of a system in the slices in which it was driven, and in those in which it was not.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::account::{Subject, Usage, Window};

/// Accounts for the parts of one system, slice by slice.
///
/// Contract: [`begin`](Self::begin) and [`end`](Self::end) in turns.
pub(super) struct Ledger {
    subjects: Vec<Subject>,
    begun: Instant,
    before: Vec<Option<Usage>>,
    driven: Half,
    idle: Half,
}

/// All slices of one kind.
#[derive(Debug, Default)]
struct Half {
    seconds: f64,
    operations: u64,
    /// Processor seconds in user mode and in the kernel, by part.
    spent: BTreeMap<String, (f64, f64)>,
}

impl Ledger {
    pub(super) fn new(subjects: Vec<Subject>) -> Self {
        Self {
            subjects,
            begun: Instant::now(),
            before: Vec::new(),
            driven: Half::default(),
            idle: Half::default(),
        }
    }

    /// A slice begins.
    pub(super) fn begin(&mut self) {
        self.begun = Instant::now();
        self.before = self.read();
    }

    /// It is over, and the system has carried so many round trips in it; `None`: it was left alone.
    pub(super) fn end(&mut self, operations: Option<u64>) {
        let now = self.read();
        let half = match operations {
            Some(_) => &mut self.driven,
            None => &mut self.idle,
        };
        half.seconds += self.begun.elapsed().as_secs_f64();
        half.operations += operations.unwrap_or(0);
        for ((subject, before), now) in self.subjects.iter().zip(&self.before).zip(now) {
            // A part that has ended fails the run elsewhere.
            let (Some(before), Some(now)) = (before, now) else {
                continue;
            };
            let spent = half.spent.entry(subject.name().to_owned()).or_default();
            spent.0 += now.cpu_user - before.cpu_user;
            spent.1 += now.cpu_system - before.cpu_system;
        }
    }

    /// The window of a part, with the processor time of the slices in which the system was driven.
    pub(super) fn while_driven(&self, window: Window) -> Window {
        let spent = self.driven.spent.get(&window.name);
        let (user, system) = spent.copied().unwrap_or_default();
        window.with_cpu(user, system, self.driven.seconds)
    }

    /// Processor time of the product's parts for each round trip, nanoseconds; `None` without a round trip.
    pub(super) fn cpu_per_operation_ns(&self) -> Option<f64> {
        let operations = self.driven.operations;
        (operations > 0).then(|| self.driven.product() * 1e9 / operations as f64)
    }

    /// Cores that the product's parts used while the system was left alone.
    pub(super) fn idle_cores(&self) -> f64 {
        self.idle.product() / self.idle.seconds.max(1e-9)
    }

    fn read(&self) -> Vec<Option<Usage>> {
        let read = |subject: &Subject| subject.usage().ok();
        self.subjects.iter().map(read).collect()
    }
}

impl Half {
    /// Processor seconds of all parts but the verifying server, which is the instrument's.
    fn product(&self) -> f64 {
        let parts = self.spent.iter().filter(|(name, _)| *name != "server");
        parts.map(|(_, (user, system))| user + system).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::account::SubjectSpec;

    fn work(time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            std::hint::black_box(start.elapsed());
        }
    }

    #[test]
    fn each_half_has_its_own_processor_time() {
        let subject = |name: &str| SubjectSpec::process(std::process::id(), name).find();
        let subjects = ["source", "server"].map(|name| subject(name).unwrap());
        let mut ledger = Ledger::new(subjects.into());
        ledger.begin();
        work(Duration::from_millis(200));
        ledger.end(Some(1000));
        let per_operation = ledger.cpu_per_operation_ns().unwrap();
        // Counted in hundredths of a second, of one of the two parts; other tests run in this process, too.
        assert!(per_operation > 0.0, "{per_operation}");
        let spent = ledger.driven.spent["source"];
        assert!((per_operation - (spent.0 + spent.1) * 1e6).abs() < 1.0);
        assert_eq!(ledger.idle_cores(), 0.0);
        assert!(ledger.idle.spent.is_empty());
        ledger.begin();
        ledger.end(None);
        assert_eq!(ledger.driven.spent["source"], spent);
        assert_eq!(ledger.driven.operations, 1000);
        assert_eq!(ledger.idle.spent.len(), 2);
    }
}
