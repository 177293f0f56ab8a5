//! System calls of a running process that fail for a while.

use std::path::PathBuf;
use std::process::Command;

use adit_tests::deadline::until;
use adit_tests::process::{Process, Signal};
use adit_tests::programs;
use adit_tests::scenario::Scenario;
use anyhow::{Result, ensure};

/// What changes a process from outside; `None` where it is not to be had.
pub(crate) struct Tools {
    scenario: Scenario,
    strace: PathBuf,
    prlimit: PathBuf,
}

/// Its calls fail while this lives.
pub(crate) struct Tampered {
    strace: Process,
    victim: u32,
}

impl Tools {
    pub(crate) fn find(scenario: &Scenario) -> Result<Option<Self>> {
        let Some([strace, prlimit]) = programs::find(scenario, ["strace", "prlimit"])? else {
            return Ok(None);
        };
        let works = programs::command(&strace).args(["-qq", "true"]).output();
        if !works.is_ok_and(|output| output.status.success()) {
            return programs::lacking(scenario, "leave to trace");
        }
        Ok(Some(Self {
            scenario: scenario.clone(),
            strace,
            prlimit,
        }))
    }

    /// Has `calls` of a process fail with `error`, only those about `paths` where there are some.
    pub(crate) async fn tamper(
        &self,
        victim: u32,
        calls: &str,
        error: &str,
        paths: &[PathBuf],
    ) -> Result<Tampered> {
        let mut command = programs::command(&self.strace);
        command.args(["-f", "-qq", "-o", "/dev/null", "-p", &victim.to_string()]);
        command.args(["-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={calls}:error={error}")]);
        for path in paths {
            command.arg("-P").arg(path);
        }
        let strace = Process::start(&self.scenario, "strace", command)?;
        until("strace to attach", || {
            tracers(victim).iter().all(|tracer| *tracer != 0)
        })
        .await?;
        Ok(Tampered { strace, victim })
    }

    /// Leaves a process no descriptor beyond those that it has. Returns the limit that it had.
    pub(crate) fn exhaust(&self, process: u32) -> Result<u64> {
        let descriptors = std::fs::read_dir(format!("/proc/{process}/fd"))?;
        let mut taken: Vec<u64> = descriptors
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        taken.sort_unstable();
        let lowest_free = (0..).zip(&taken).find(|(number, taken)| number != *taken);
        let limit = lowest_free.map_or(taken.len() as u64, |(number, _)| number);
        let limits = std::fs::read_to_string(format!("/proc/{process}/limits"))?;
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        let before = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        self.limit(process, limit)?;
        before.ok_or_else(|| anyhow::anyhow!("no limit of descriptors"))
    }

    /// Sets how many descriptors a process may have.
    pub(crate) fn limit(&self, process: u32, descriptors: u64) -> Result<()> {
        let mut command: Command = programs::command(&self.prlimit);
        command.args([
            "--pid",
            &process.to_string(),
            &format!("--nofile={descriptors}:"),
        ]);
        let output = command.output()?;
        ensure!(output.status.success(), "prlimit: {output:?}");
        Ok(())
    }
}

impl Tampered {
    /// The calls succeed again.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.strace.signal(Signal::Terminate).await?;
        self.strace.end().await?;
        let victim = self.victim;
        until("strace to let go", || {
            tracers(victim).iter().all(|tracer| *tracer == 0)
        })
        .await
    }
}

/// Who traces the threads of a process; 0: nobody.
fn tracers(process: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    let statuses = tasks.into_iter().flatten().flatten();
    let statuses =
        statuses.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
    statuses
        .filter_map(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("TracerPid:"))?;
            line.trim().parse().ok()
        })
        .collect()
}
