//! A tunnel of the agent, and one of two proxies beside it, with an application that verifies.

use std::time::Instant;

use adit_tests::api::Tunnel;
use adit_tests::apps::{App, Temper};
use adit_tests::process::Process;
use adit_tests::proxy::Proxy;
use anyhow::Result;

use super::load::{SEED, recovers};
use super::stage::{READY, Source, Stage};

/// Two tunnels with an application that verifies: the agent's, and one that two proxies carry.
pub(crate) struct Tunnels {
    pub(crate) agent: Process,
    pub(crate) source: Source,
    pub(crate) beside: Source,
    /// Where the configuration leads them.
    line: String,
    _destination: Process,
    _app: App,
}

impl Tunnels {
    pub(crate) async fn start(stage: &Stage) -> Result<Self> {
        Self::start_with(stage, "").await
    }

    /// With more lines of configuration.
    pub(crate) async fn start_with(stage: &Stage, more: &str) -> Result<Self> {
        let app = App::start(Temper::Verify(SEED)).await?;
        let line = format!("services.LOAD = \"{}\"", app.address());
        stage.configure(&format!("{line}\n{more}"))?;
        let agent = stage.launch_terse()?;
        agent.line(READY).await?;
        let tunnel = stage.open(&["LOAD"]).await?;
        stage.notify(&tunnel, &["LOAD"]).await?;
        stage.connected(&tunnel).await?;
        let source = stage.source(&tunnel, &["LOAD"]).await?;
        recovers(source.ports[0]).await?;
        let other = stage.open(&["LOAD"]).await?;
        let destination = destination(stage, &other, &app)?;
        stage.connected(&other).await?;
        let beside = stage.source(&other, &["LOAD"]).await?;
        recovers(beside.ports[0]).await?;
        Ok(Self {
            agent,
            source,
            beside,
            line,
            _destination: destination,
            _app: app,
        })
    }

    /// Writes the configuration anew, with these lines besides.
    pub(crate) fn configure(&self, stage: &Stage, more: &str) -> Result<()> {
        stage.configure(&format!("{}\n{more}", self.line))
    }

    /// Kills the agent, and starts it again as a supervisor would; when that was.
    pub(crate) async fn kill_agent(&mut self, stage: &Stage) -> Result<Instant> {
        let now = Instant::now();
        self.agent.kill().await?;
        self.agent = stage.launch_terse()?;
        Ok(now)
    }
}

fn destination(stage: &Stage, tunnel: &Tunnel, app: &App) -> Result<Process> {
    let mapping = format!("LOAD={}", app.address());
    Proxy::destination(&stage.scenario, &mapping, &stage.serve.endpoint())
        .token(&tunnel.destination_token)
        .trusting(&stage.serve.ca_file())
        .start()
}
