//! The device's agent, just as `adit agent` would run it, but for signals.

use std::path::Path;

use adit_engine::ring::{IoChoice, LoopHandle, ProxyId, ProxyStatus};
use anyhow::{Context as _, Result, anyhow};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::operator::{bad_input, nowhere};
use super::source::{DRAIN_TIMEOUT, PING_INTERVAL};
use crate::agent::{self, Agent, Orders, Standing};
use crate::args::command::AgentArgs;
use crate::exit::ExitCode;
use crate::fleet::AGENT;
use crate::log::{Format, LogSettings, Verbosity};

/// An agent, running. Dropping it ends it soon; after [`stop`](Self::stop) it has ended.
pub(super) struct DemoAgent {
    event_loop: LoopHandle,
    standing: watch::Receiver<Standing>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ExitCode>>,
}

impl DemoAgent {
    /// Starts it with the bundle in this directory.
    pub(super) fn start(bundle: &Path, io: IoChoice) -> Result<Self> {
        let args = AgentArgs {
            config: bundle.join(AGENT),
            check: false,
            on_tunnel: None,
            io,
            verbose: None,
            log_format: None,
        };
        // The log of the process is that of the demo.
        let mut log = LogSettings {
            verbosity: Verbosity::DEFAULT,
            format: Format::Text,
        };
        let settings = agent::config::read(args, &nowhere(), &mut log);
        let mut settings = settings.map_err(bad_input)?;
        settings.limits.ping_interval = PING_INTERVAL;
        settings.limits.drain_timeout = DRAIN_TIMEOUT;
        let agent = Agent::start(settings);
        let agent = agent.map_err(|_| anyhow!("it did not start; the log says why"))?;
        let (event_loop, standing) = (agent.event_loop(), agent.standing());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(agent.run(Orders::Program(Some(stopped))));
        Ok(Self {
            event_loop,
            standing,
            stop,
            task,
        })
    }

    /// What it is at now.
    pub(super) fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    /// Waits until it stands as `is_so` wants it.
    pub(super) async fn stands(&mut self, is_so: impl FnMut(&Standing) -> bool) -> Result<()> {
        let stands = self.standing.wait_for(is_so).await;
        stands.map(drop).context("the agent has ended")
    }

    /// How its newest tunnel stands; all zero while there is none.
    pub(super) async fn status(&self) -> ProxyStatus {
        let id = ProxyId(self.standing().connected);
        self.event_loop.status(id).await.unwrap_or_default()
    }

    /// Completes when it ends by itself, which it should not. To be called until it has, and not again.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match (&mut self.task).await {
            Ok(Ok(())) => anyhow!("it ended by itself"),
            Ok(Err(_)) => anyhow!("it ended by itself; the log says why"),
            Err(error) => anyhow!(error).context("it failed"),
        }
    }

    /// Whether [`ended`](Self::ended) has completed, or would.
    pub(super) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Asks it to end, waits for its connections within bounds.
    pub(super) async fn stop(self) -> Result<()> {
        let _ = self.stop.send(());
        let ended = self.task.await.context("it failed")?;
        ended.map_err(|_| anyhow!("it did not end in order; the log says why"))
    }
}
