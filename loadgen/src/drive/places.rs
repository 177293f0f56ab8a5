//! Which worker has which connections.

use std::iter::StepBy;
use std::ops::Range;

use super::Job;
use crate::settings::Profile;

impl Job {
    /// The connections, of all, that worker number `worker` has.
    ///
    /// What is interactive beside bulk has the first worker for itself: on a thread that carries bulk it would wait for
    /// the generator's own work, and on a busy machine for a processor, as threads do that are always at work.
    pub(super) fn places(&self, worker: usize) -> StepBy<Range<usize>> {
        let (all, workers) = (self.drive.connections, self.drive.threads);
        match self.drive.profile {
            Profile::Mixed { interactive, .. } if workers > 1 => match worker {
                0 => (0..interactive).step_by(1),
                other => (interactive + other - 1..all).step_by(workers - 1),
            },
            _ => (worker..all).step_by(workers),
        }
    }

    /// Workers, the first ones, whose connections take the starts of a schedule.
    pub(super) fn starters(&self) -> usize {
        match self.drive.profile {
            Profile::Mixed { .. } => 1,
            _ => self.drive.threads,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;
    use crate::settings::Settings;
    use clap::Parser as _;

    fn job(arguments: &str) -> Job {
        let arguments = format!("adit-loadgen {arguments} --target 127.0.0.1:1");
        let args = Args::parse_from(arguments.split_whitespace());
        let Ok(Settings::Drive(drive)) = Settings::of(args) else {
            panic!("{arguments}");
        };
        Job {
            drive: *drive,
            targets: Vec::new(),
        }
    }

    #[test]
    fn every_connection_has_one_worker() {
        for arguments in [
            "latency --connections 7 --threads 3",
            "latency --connections 2 --threads 5",
            "mixed --connections 2 --threads 1",
            "mixed --connections 2 --threads 4",
            "mixed --connections 9 --interactive 4 --threads 3",
        ] {
            let job = job(arguments);
            let workers = 0..job.drive.threads;
            let mut places: Vec<usize> = workers.clone().flat_map(|it| job.places(it)).collect();
            places.sort_unstable();
            let all: Vec<usize> = (0..job.drive.connections).collect();
            assert_eq!(places, all, "{arguments}");
            assert!(
                workers.clone().all(|it| job.places(it).len() > 0),
                "{arguments}"
            );
        }
    }

    /// A worker that had a share of the starts and no connection to make them would never make them.
    #[test]
    fn starts_are_shared_among_those_who_can_make_them() {
        for (arguments, starters) in [
            ("latency --connections 7 --threads 3", 3),
            ("mixed --connections 9 --interactive 4 --threads 3", 1),
        ] {
            let job = job(arguments);
            assert_eq!(job.starters(), starters);
            let Profile::Mixed { interactive, .. } = job.drive.profile else {
                continue;
            };
            assert_eq!(job.places(0).collect::<Vec<_>>(), [0, 1, 2, 3]);
            assert!((1..job.drive.threads).all(|it| job.places(it).all(|it| it >= interactive)));
        }
    }
}
