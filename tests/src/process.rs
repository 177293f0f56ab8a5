//! A child process: started, listened to, ended, and never left behind.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::deadline::{PATIENCE, until, within, within_limit};
use crate::output::Output;
use crate::scenario::Scenario;

const SETPRIV: &str = "/usr/bin/setpriv";
const CONTAINING: [&str; 3] = ["--pdeathsig", "KILL", "--"];

/// A running program. It is killed when this value goes.
pub struct Process {
    name: String,
    child: Child,
    /// Stays known after the end, for messages.
    id: u32,
    output: Arc<Output>,
}

/// What a test may tell a process by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// End in good order.
    Terminate,
    /// What Ctrl-C sends.
    Interrupt,
    /// Freeze.
    Stop,
    /// Thaw.
    Continue,
    /// Read the configuration again.
    Hangup,
}

impl Signal {
    /// For `kill`.
    fn option(self) -> &'static str {
        match self {
            Self::Terminate => "-TERM",
            Self::Interrupt => "-INT",
            Self::Stop => "-STOP",
            Self::Continue => "-CONT",
            Self::Hangup => "-HUP",
        }
    }

    /// Its number, the same on all that Linux runs on; for those that a process may handle.
    fn number(self) -> Option<u32> {
        match self {
            Self::Terminate => Some(15),
            Self::Interrupt => Some(2),
            Self::Hangup => Some(1),
            Self::Stop | Self::Continue => None,
        }
    }
}

impl Process {
    /// Starts `command` with nothing on its standard input; its output is collected.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        scenario: &Scenario,
        name: &str,
        mut command: std::process::Command,
    ) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = launch(name, command)?;
        let stdout = child.stdout.take().context("stdout was piped")?;
        Self::follow(scenario, name, child, stdout)
    }

    /// Starts `command` with its standard input and output in the test's hands; only
    /// standard error is collected.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_piped(
        scenario: &Scenario,
        name: &str,
        mut command: std::process::Command,
    ) -> Result<(Self, ChildStdin, ChildStdout)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = launch(name, command)?;
        let stdin = child.stdin.take().context("stdin was piped")?;
        let stdout = child.stdout.take().context("stdout was piped")?;
        let process = Self::follow(scenario, name, child, tokio::io::empty())?;
        Ok((process, stdin, stdout))
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What it wrote so far.
    #[must_use]
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Waits for a line with `needle` in it.
    ///
    /// # Errors
    /// It did not come, or the process ended without it.
    pub async fn line(&self, needle: &str) -> Result<String> {
        self.output.line(needle).await.context(self.name.clone())
    }

    /// Waits for the process to end by itself and for the rest of its output.
    ///
    /// # Errors
    /// It goes on running.
    pub async fn end(&mut self) -> Result<ExitStatus> {
        self.end_within(PATIENCE).await
    }

    /// As [`Self::end`], for a program that takes its time.
    ///
    /// # Errors
    /// It goes on running after `limit`.
    pub async fn end_within(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("waiting for {} to end", self.name);
        let status = within_limit(limit, &what, async { Ok(self.child.wait().await?) }).await?;
        self.output.end().await?;
        Ok(status)
    }

    /// Waits for the process to end by itself with this exit code.
    ///
    /// # Errors
    /// It goes on running, or ends otherwise; a signal is named.
    pub async fn ends_with(&mut self, code: i32) -> Result<()> {
        let status = self.end().await?;
        ensure!(
            status.code() == Some(code),
            "{} ended with {status}, not with exit code {code}",
            self.name
        );
        Ok(())
    }

    /// Makes sure that the process has not ended.
    ///
    /// # Errors
    /// It has; the message says how.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}", self.name),
        }
    }

    /// Sends a signal, and waits until the process has taken it: until its handler has been called, or it is
    /// frozen, or dead. A frozen process takes nothing, and is not waited for. What a handler leaves to be
    /// done later, and what a child of the process does, has yet to show itself.
    ///
    /// # Errors
    /// The process is gone, or does not take it.
    pub async fn signal(&mut self, signal: Signal) -> Result<()> {
        // Not reaped yet, so the id still is this process's and nobody else's.
        self.still_runs()?;
        let flag = signal.option();
        let sent = Command::new("kill")
            .args([flag, &self.id.to_string()])
            .status()
            .await?;
        ensure!(sent.success(), "kill {flag} {} failed", self.id);
        let what = format!("waiting for {} to take {signal:?}", self.name);
        until(&what, || has_taken(self.id, signal)).await
    }

    /// Ends the process as `kill -9` does, and waits until it is gone.
    ///
    /// # Errors
    /// It had ended before.
    pub async fn kill(&mut self) -> Result<()> {
        self.still_runs()?;
        self.child.start_kill()?;
        let status = within("waiting for a killed process", async {
            Ok(self.child.wait().await?)
        });
        let status = status.await?;
        ensure!(
            status.signal() == Some(9),
            "{} ended with {status} before it was killed",
            self.name
        );
        Ok(())
    }

    fn follow(
        scenario: &Scenario,
        name: &str,
        mut child: Child,
        stdout: impl tokio::io::AsyncRead + Unpin + Send + 'static,
    ) -> Result<Self> {
        let stderr = child.stderr.take().context("stderr was piped")?;
        let output = Output::collect(stdout, stderr);
        scenario.keep_evidence(name, &output);
        Ok(Self {
            name: name.to_owned(),
            id: child.id().context("it was started just now")?,
            child,
            output,
        })
    }
}

/// A command for `program` that dies with the test that started it, even when the test
/// itself is killed.
///
/// `setpriv` becomes the program (same id) after asking the kernel for that.
#[must_use]
pub fn contained(program: &Path) -> std::process::Command {
    if !Path::new(SETPRIV).exists() {
        return std::process::Command::new(program);
    }
    let mut command = std::process::Command::new(SETPRIV);
    command.args(CONTAINING).arg(program);
    command
}

/// The program and arguments of a command without what [`contained`] put in front, for something else that sees to it.
#[must_use]
pub fn bare_words(command: &std::process::Command) -> Vec<&OsStr> {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .collect();
    let front = [[SETPRIV].as_slice(), &CONTAINING].concat();
    if words.starts_with(&front.iter().map(OsStr::new).collect::<Vec<_>>()) {
        return words[front.len()..].to_vec();
    }
    words
}

/// Whether a signal that was sent to a process waits for it no more.
fn has_taken(id: u32, signal: Signal) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{id}/task")) else {
        return true;
    };
    let statuses = tasks.flatten().filter_map(|task| {
        // A thread that is gone by now has taken whatever it was.
        std::fs::read_to_string(task.path().join("status")).ok()
    });
    // One thread is called for all; each of them is frozen by itself.
    statuses.into_iter().all(|status| {
        let field = |name: &str| {
            let mut lines = status.lines();
            lines.find_map(|line| Some(line.strip_prefix(name)?.trim()))
        };
        let state = field("State:").and_then(|state| state.chars().next());
        let is_frozen = state == Some('T');
        let is_dead = matches!(state, Some('Z' | 'X') | None);
        let pending = field("ShdPnd:").and_then(|mask| u64::from_str_radix(mask, 16).ok());
        let is_pending = |number: u32| pending.unwrap_or_default() >> (number - 1) & 1 == 1;
        is_dead
            || match (signal, signal.number()) {
                (Signal::Continue, _) => !is_frozen,
                (_, None) => is_frozen,
                (_, Some(number)) => is_frozen || !is_pending(number),
            }
    })
}

/// With `ADIT_TRACE` set, programs under test say all they can, unless a test has told them how much.
fn speak_up(command: &mut std::process::Command) {
    let words = bare_words(command);
    let program = words[0].to_string_lossy();
    let is_long_lived = program.ends_with("/localproxy")
        || program.ends_with("/adit")
            && words
                .get(1)
                .is_some_and(|word| ["serve", "proxy", "agent"].iter().any(|name| word == name));
    let is_told = words.iter().any(|word| {
        let word = word.to_string_lossy();
        word.starts_with("-v") || word.starts_with("--verbose")
    });
    if is_long_lived && !is_told {
        command.args(["-v", "6"]);
    }
}

fn launch(name: &str, mut command: std::process::Command) -> Result<Child> {
    if std::env::var_os("ADIT_TRACE").is_some() {
        speak_up(&mut command);
    }
    let shown = format!("{command:?}");
    Command::from(command)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {name}: {shown}"))
}
