//! System calls of a running process that fail for a while.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::deadline::until;
use crate::process::{Process, Signal};
use crate::programs;
use crate::scenario::Scenario;
use anyhow::{Result, ensure};

/// What changes a process from outside; `None` where it is not to be had.
pub struct Tools {
    scenario: Scenario,
    strace: PathBuf,
    prlimit: PathBuf,
}

/// Its calls fail while this lives.
pub struct Tampered {
    strace: Process,
    victim: u32,
    log: PathBuf,
}

impl Tools {
    /// Looks for them.
    ///
    /// # Errors
    /// They are required, and are missing.
    pub fn find(scenario: &Scenario) -> Result<Option<Self>> {
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
    ///
    /// # Errors
    /// The process cannot be traced.
    pub async fn tamper(
        &self,
        victim: u32,
        calls: &str,
        error: &str,
        paths: &[PathBuf],
    ) -> Result<Tampered> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = self.scenario.path(&format!("strace-{number}"));
        let mut command = programs::command(&self.strace);
        command.args(["-f", "-qq", "-p", &victim.to_string(), "-o"]);
        command.arg(&log);
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
        Ok(Tampered {
            strace,
            victim,
            log,
        })
    }

    /// Leaves a process no descriptor beyond those that it has. Returns the limit that it had.
    ///
    /// # Errors
    /// The process is gone, or may not be limited.
    pub fn exhaust(&self, process: u32) -> Result<u64> {
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
    ///
    /// # Errors
    /// The process is gone, or may not be limited.
    pub fn limit(&self, process: u32, descriptors: u64) -> Result<()> {
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
    /// The calls succeed again. How many have failed, as strace tells.
    ///
    /// The victim stands still meanwhile: strace has a call fail by asking for one that does not exist, and gives
    /// it the wanted error when it returns. Were it ended between the two, the call would fail with `ENOSYS`.
    ///
    /// # Errors
    /// The victim or strace goes on as before.
    pub async fn end(mut self) -> Result<usize> {
        signal(self.victim, "STOP")?;
        until("every thread to stand still outside of calls", || {
            is_stopped(self.victim, &self.log)
        })
        .await?;
        self.strace.signal(Signal::Terminate).await?;
        self.strace.end().await?;
        let victim = self.victim;
        until("strace to let go", || {
            tracers(victim).iter().all(|tracer| *tracer == 0)
        })
        .await?;
        signal(victim, "CONT")?;
        let told = std::fs::read_to_string(&self.log)?;
        Ok(told.matches("(INJECTED)").count())
    }
}

/// Who traces the threads of a process that have not ended; 0: nobody.
///
/// A thread that has is left out: it is nobody's any more, and what it ended from may be the very call that failed.
fn tracers(process: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    let statuses = tasks.into_iter().flatten().flatten();
    let statuses =
        statuses.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
    statuses
        .filter(|status| !status.contains("\nState:\tZ"))
        .filter_map(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("TracerPid:"))?;
            line.trim().parse().ok()
        })
        .collect()
}

fn signal(process: u32, signal: &str) -> Result<()> {
    let mut command = Command::new("kill");
    command.args([&format!("-{signal}"), &process.to_string()]);
    let sent = command.status()?;
    ensure!(sent.success(), "kill -{signal} {process}: {sent}");
    Ok(())
}

/// Whether strace has told of each thread of a process that it was stopped, which the kernel does to threads on
/// their way out of a call.
fn is_stopped(process: u32, log: &Path) -> bool {
    let told = std::fs::read_to_string(log).unwrap_or_default();
    let stopped: HashSet<&str> = told
        .lines()
        .filter(|line| line.ends_with("--- stopped by SIGSTOP ---"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return false;
    };
    let mut tasks = tasks.flatten().map(|task| task.file_name());
    tasks.all(|task| task.to_str().is_some_and(|task| stopped.contains(task)))
}
