//! The operator's program, run for each turn in the life of a tunnel.
//!
//! It is a program and no command line: no shell takes it apart, and it gets no arguments. Whoever wants a
//! shell writes a script. What happened is in its environment, which is otherwise empty but for `PATH`,
//! `HOME`, `LANG`, `TZ` and what the agent itself was started with under these names:
//!
//! | variable | |
//! | --- | --- |
//! | `ADIT_EVENT` | `opened`, `connected` (also after a loss) or `closed` |
//! | `ADIT_TUNNEL` | number of the tunnel in this agent's log |
//! | `ADIT_THING`, `ADIT_REGION` | as in the notification's topic and text |
//! | `ADIT_SERVICES` | names with commas between, only those that are carried |
//! | `ADIT_TUNNEL_ENDPOINT` | `host:port` of the data plane |
//! | `ADIT_REASON` | why it was opened or closed, else empty |
//!
//! No token is ever in it. What the program writes goes where the agent's own words go. Runs follow one
//! another in the order of the events, so that `closed` never overtakes `opened`. A run that fails or takes
//! too long is told in the log and changes nothing. Its core files are limited as the agent's were before it
//! allowed itself none.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use adit_process::core_files;
use adit_proto::escape::Escaped;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

/// What a tunnel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Opened,
    Connected,
    Closed,
}

impl Turn {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Connected => "connected",
            Self::Closed => "closed",
        }
    }
}

/// What is the same for all turns of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) tunnel: u64,
    pub(super) thing: String,
    pub(super) services: String,
    pub(super) region: String,
    pub(super) endpoint: String,
}

/// One run to come.
#[derive(Debug)]
struct Run {
    turn: Turn,
    facts: Facts,
    reason: String,
}

/// Where turns are told. Without a program they go nowhere.
#[derive(Clone, Debug)]
pub(super) struct Hook(Option<mpsc::Sender<Run>>);

/// What carries out the runs.
pub(super) struct Runner(Option<JoinHandle<()>>);

impl Hook {
    /// Starts what runs the program, if there is one.
    pub(super) fn start(program: Option<PathBuf>) -> (Self, Runner) {
        let Some(program) = program else {
            return (Self(None), Runner(None));
        };
        let (sender, runs) = mpsc::channel(WAITING_MAX);
        let task = tokio::spawn(carry_out(program, runs));
        (Self(Some(sender)), Runner(Some(task)))
    }

    /// Tells a turn; never waits.
    pub(super) fn tell(&self, turn: Turn, facts: &Facts, reason: &str) {
        let Some(sender) = &self.0 else {
            return;
        };
        let run = Run {
            turn,
            facts: facts.clone(),
            reason: reason.to_owned(),
        };
        if sender.try_send(run).is_err() {
            let event = turn.as_str();
            warn!(
                event,
                tunnel = facts.tunnel,
                "on_tunnel: {WAITING_MAX} runs wait already; this one is left out"
            );
        }
    }
}

impl Runner {
    /// Waits for the runs that are due, within bounds. Every [`Hook`] must be gone by then.
    pub(super) async fn end(self) {
        if let Some(mut task) = self.0
            && tokio::time::timeout(END_LIMIT, &mut task).await.is_err()
        {
            warn!("on_tunnel: runs that were due at the end are left out");
            task.abort();
        }
    }
}

async fn carry_out(program: PathBuf, mut runs: mpsc::Receiver<Run>) {
    while let Some(run) = runs.recv().await {
        let (event, tunnel) = (run.turn.as_str(), run.facts.tunnel);
        let shown = program.to_string_lossy();
        let shown = Escaped(&shown);
        match tokio::time::timeout(RUN_LIMIT, execute(&program, &run)).await {
            Ok(Ok(status)) if status.success() => debug!(event, tunnel, "on_tunnel has run"),
            Ok(Ok(status)) => warn!(event, tunnel, "on_tunnel: {shown} ended with {status}"),
            Ok(Err(fault)) => warn!(event, tunnel, "on_tunnel: cannot run {shown}: {fault}"),
            Err(_) => warn!(
                event,
                tunnel, "on_tunnel: {shown} took more than {RUN_LIMIT:?} and was ended"
            ),
        }
    }
}

/// Runs the program to its end. It is killed when this is dropped.
async fn execute(program: &Path, run: &Run) -> std::io::Result<ExitStatus> {
    let facts = &run.facts;
    let kept = KEPT
        .iter()
        .filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let told = [
        ("ADIT_EVENT", run.turn.as_str().to_owned()),
        ("ADIT_TUNNEL", facts.tunnel.to_string()),
        ("ADIT_THING", facts.thing.clone()),
        ("ADIT_SERVICES", facts.services.clone()),
        ("ADIT_REGION", facts.region.clone()),
        ("ADIT_TUNNEL_ENDPOINT", facts.endpoint.clone()),
        // Words of a peer may be in it, and no variable can hold a NUL.
        ("ADIT_REASON", Escaped(&run.reason).to_string()),
    ];
    let told = told.map(|(name, value)| (name, OsString::from(value)));
    let mut child = Command::new(program)
        .env_clear()
        .envs(kept.chain(told))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    child.id().into_iter().for_each(core_files::restore);
    child.wait().await
}

/// What programs need to run at all.
const KEPT: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// For one run.
const RUN_LIMIT: Duration = Duration::from_secs(10);

/// For what is due when the agent ends.
const END_LIMIT: Duration = Duration::from_secs(3);

/// Runs that wait for their turn: three for each of the usual 20 tunnels.
const WAITING_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn facts(tunnel: u64) -> Facts {
        Facts {
            tunnel,
            thing: "lamp".into(),
            services: "SSH,VNC".into(),
            region: "eu-west-1".into(),
            endpoint: "localhost:7443".into(),
        }
    }

    fn script(directory: &Path, text: &str) -> PathBuf {
        let path = directory.join("hook");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        path
    }

    #[tokio::test]
    async fn turns_come_in_order_with_their_facts_and_nothing_of_ours() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let program = script(
            directory.path(),
            &format!("env >> {0}; echo -- >> {0}", out.display()),
        );
        let (hook, runner) = Hook::start(Some(program));
        hook.tell(Turn::Opened, &facts(7), "");
        hook.tell(Turn::Connected, &facts(7), "");
        hook.tell(Turn::Closed, &facts(7), "bad \u{1b}[2J\0 words");
        drop(hook);
        runner.end().await;
        let out = fs::read_to_string(out).unwrap();
        let events: Vec<&str> = out
            .lines()
            .filter_map(|line| line.strip_prefix("ADIT_EVENT="))
            .collect();
        assert_eq!(events, ["opened", "connected", "closed"]);
        for line in [
            "ADIT_TUNNEL=7",
            "ADIT_THING=lamp",
            "ADIT_SERVICES=SSH,VNC",
            "ADIT_REGION=eu-west-1",
            "ADIT_TUNNEL_ENDPOINT=localhost:7443",
            r"ADIT_REASON=bad \u{1b}[2J\u{0} words",
        ] {
            assert!(out.lines().any(|it| it == line), "{line}: {out}");
        }
        assert!(!out.contains("CARGO"), "the agent's own environment: {out}");
    }

    #[tokio::test]
    async fn a_program_that_fails_or_is_missing_stops_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let program = script(
            directory.path(),
            &format!("echo x >> {}; exit 3", out.display()),
        );
        for program in [program, directory.path().join("none")] {
            let (hook, runner) = Hook::start(Some(program));
            hook.tell(Turn::Opened, &facts(1), "");
            hook.tell(Turn::Closed, &facts(1), "");
            drop(hook);
            runner.end().await;
        }
        assert_eq!(fs::read_to_string(out).unwrap(), "x\nx\n");
    }

    #[tokio::test]
    async fn turns_that_nobody_takes_are_bounded() {
        let (sender, mut runs) = mpsc::channel(WAITING_MAX);
        let hook = Hook(Some(sender));
        for count in 0..WAITING_MAX as u64 * 2 {
            hook.tell(Turn::Opened, &facts(count), "");
        }
        drop(hook);
        let mut count = 0;
        while runs.recv().await.is_some() {
            count += 1;
        }
        assert_eq!(count, WAITING_MAX);
    }
}
