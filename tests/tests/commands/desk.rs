//! A service that wants signatures, and the commands of somebody who has its data directory.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use adit_tests::deadline::within_limit;
use adit_tests::process::Process;
use adit_tests::proxy::Proxy;
use adit_tests::scenario::Scenario;
use adit_tests::stack::Serve;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Desk {
    pub(crate) scenario: Scenario,
    pub(crate) serve: Serve,
}

/// What a command wrote, and how it ended.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Desk {
    pub(crate) async fn open(scenario: &Scenario) -> Result<Self> {
        Ok(Self {
            scenario: scenario.clone(),
            serve: Serve::start_signed(scenario).await?,
        })
    }

    /// A command that knows the data directory and nothing else.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.bare(words);
        command.arg("--data-dir").arg(self.serve.data());
        command
    }

    /// A command that knows nothing.
    pub(crate) fn bare(&self, words: &[&str]) -> Command {
        let mut command = self.scenario.binary().adit();
        command.current_dir(self.scenario.directory());
        command.args(words);
        command
    }

    pub(crate) async fn say(&self, words: &[&str]) -> Result<Said> {
        run(self.command(words)).await
    }

    /// The output of a command that must succeed.
    pub(crate) async fn done(&self, words: &[&str]) -> Result<String> {
        let said = self.say(words).await?;
        ensure!(
            said.code == Some(0),
            "{words:?}: {:?}: {}",
            said.code,
            said.stderr
        );
        Ok(said.stdout)
    }

    /// The same, with `--json`.
    pub(crate) async fn json(&self, words: &[&str]) -> Result<Value> {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let output = self.done(&words).await?;
        serde_json::from_str(&output).with_context(|| output)
    }

    /// A device's end of a tunnel, with the token that `tunnel open --token-dir` wrote.
    pub(crate) fn device(&self, mapping: &str, token_dir: &str) -> Result<Process> {
        let file = self.scenario.path(token_dir).join("destination-token");
        let token = std::fs::read_to_string(file)?;
        Proxy::destination(&self.scenario, mapping, &self.serve.endpoint())
            .token(token.trim())
            .trusting(&self.serve.ca_file())
            .start()
    }
}

/// Runs a command to its end, whatever that is.
pub(crate) async fn run(command: Command) -> Result<Said> {
    run_into(Stdio::piped(), command).await
}

/// The same, with a standard output that may be somebody else's.
pub(crate) async fn run_into(stdout: impl Into<Stdio>, command: Command) -> Result<Said> {
    let mut command = tokio::process::Command::from(command);
    command
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped());
    let ended = async { Ok(command.spawn()?.wait_with_output().await?) };
    let Output {
        status,
        stdout,
        stderr,
    } = within_limit(LIMIT, "a command", ended).await?;
    Ok(Said {
        code: status.code(),
        stdout: String::from_utf8(stdout)?,
        stderr: String::from_utf8(stderr)?,
    })
}
