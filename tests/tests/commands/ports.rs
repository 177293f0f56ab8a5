//! The ports of `adit connect` are open from its first tunnel to its end, whatever happens to the tunnels.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adit_tests::apps::{self, App, Temper};
use adit_tests::deadline::{pause, within, within_limit};
use adit_tests::output::Channel;
use adit_tests::process::{Process, Signal};
use adit_tests::scenario::Scenario;
use adit_tests::{on_own_choice, ports};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::desk::{Desk, run};

/// The shortest lifetime is a minute; what comes before and after it is the machine's.
const LIMIT: Duration = Duration::from_secs(150);

/// A device with an echo behind its service, and a `connect` to it.
struct Stage {
    desk: Desk,
    port: u16,
    connect: Process,
    _agent: Process,
    _app: App,
}

impl Stage {
    async fn set(scenario: &Scenario, options: &[&str]) -> Result<Self> {
        let desk = Desk::open(scenario).await?;
        let app = App::start(Temper::Echo).await?;
        let place = format!("ECHO={}", app.address());
        desk.done(&["thing", "create", "lamp", "--service", &place])
            .await?;
        let agent = desk.bare(&["agent", "--config", "lamp/agent.toml"]);
        let agent = Process::start(scenario, "agent", agent)?;
        agent.line("waiting for tunnels").await?;
        let port = ports::free()?;
        let mut connect = desk.command(&["connect", "lamp", &format!("ECHO={port}")]);
        connect.args(["-b", "127.0.0.1"]).args(options);
        let connect = Process::start(scenario, "connect", connect)?;
        connect.line(&format!("ECHO  127.0.0.1:{port}")).await?;
        let stage = Self {
            desk,
            port,
            connect,
            _agent: agent,
            _app: app,
        };
        // The device is not there from the first moment on.
        within("the first echo", async {
            while stage.echo().await.is_err() {
                pause(Duration::from_millis(20)).await;
            }
            Ok(())
        })
        .await?;
        Ok(stage)
    }

    /// The ids of the tunnels that are open.
    async fn open(&self) -> Result<Vec<String>> {
        let list = self.desk.json(&["tunnel", "list", "--open"]).await?;
        let tunnels = list["tunnelSummaries"].as_array().context("a list")?;
        let id = |tunnel: &Value| Some(tunnel["tunnelId"].as_str()?.to_owned());
        tunnels
            .iter()
            .map(|tunnel| id(tunnel).context("an id"))
            .collect()
    }

    async fn said(&self, limit: Duration, text: &str, count: usize) -> Result<()> {
        within_limit(limit, text, async {
            let output = self.connect.output();
            while output.text(Channel::Stderr).matches(text).count() < count {
                pause(Duration::from_millis(20)).await;
            }
            Ok(())
        })
        .await
    }

    /// Waits until a new connection is answered. Before that, some may come to nothing, and none is refused.
    async fn served_again(&self) -> Result<()> {
        within_limit(Duration::from_secs(60), "an echo after the loss", async {
            while self.echo().await.is_err() {
                pause(Duration::from_millis(50)).await;
            }
            Ok(())
        })
        .await
    }

    /// A new connection, which is answered: not reset, not cut.
    async fn echo(&self) -> Result<TcpStream> {
        let mut stream = apps::connect(self.port).await?;
        apps::ping(&mut stream, b"there and back").await?;
        Ok(stream)
    }

    async fn end(mut self, probe: Probe) -> Result<()> {
        probe.end()?;
        self.connect.signal(Signal::Interrupt).await?;
        self.connect.ends_with(0).await?;
        ensure!(self.open().await?.is_empty());
        Ok(())
    }
}

/// Connects to a port all the time.
struct Probe {
    tries: Arc<AtomicUsize>,
    refusals: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Probe {
    fn start(port: u16) -> Self {
        let (tries, refusals) = (
            Arc::<AtomicUsize>::default(),
            Arc::<Mutex<Vec<String>>>::default(),
        );
        let (count, list) = (Arc::clone(&tries), Arc::clone(&refusals));
        let task = tokio::spawn(async move {
            loop {
                if let Err(fault) = TcpStream::connect(("127.0.0.1", port)).await {
                    let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
                    list.push(fault.to_string());
                }
                count.fetch_add(1, Ordering::Relaxed);
                pause(Duration::from_millis(20)).await;
            }
        });
        Self {
            tries,
            refusals,
            task,
        }
    }

    /// Nothing was refused, all the time.
    fn end(self) -> Result<()> {
        self.task.abort();
        let tries = self.tries.load(Ordering::Relaxed);
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(
            refusals.is_empty(),
            "{} of {tries} were refused: {}",
            refusals.len(),
            refusals[0]
        );
        ensure!(tries > 10, "the port was tried {tries} times only");
        Ok(())
    }
}

/// Who comes after the loss waits for the next token, and is served.
async fn nobody_is_refused_while_a_tunnel_is_lost(scenario: Scenario) -> Result<()> {
    let stage = Stage::set(&scenario, &[]).await?;
    let probe = Probe::start(stage.port);
    let open = stage.open().await?;
    for round in 1..=2 {
        stage
            .desk
            .json(&["tunnel", "rotate", &open[0], "--side", "source"])
            .await?;
        let limit = Duration::from_secs(20);
        stage
            .said(limit, "the service closed the tunnel", round)
            .await?;
        drop(stage.echo().await?);
    }
    ensure!(stage.open().await? == open, "another tunnel was opened");
    stage.end(probe).await
}

/// The next tunnel is there before the last one ends, and neither new connections nor old ones notice.
async fn nobody_is_refused_at_a_change_over(scenario: Scenario) -> Result<()> {
    let stage = Stage::set(&scenario, &["--lifetime", "1m"]).await?;
    let mut old = stage.echo().await?;
    let probe = Probe::start(stage.port);
    let first = stage.open().await?;
    let lifetime = Duration::from_secs(75);
    stage
        .said(lifetime, "changing over to the next tunnel", 1)
        .await?;
    apps::ping(&mut old, b"still there").await?;
    stage
        .said(Duration::from_secs(20), "tunnel connected", 2)
        .await?;
    // Until the first has let go of the port it may take a connection, which ends with it.
    pause(Duration::from_millis(500)).await;
    let mut new = stage.echo().await?;
    within_limit(lifetime, "waiting for the end of the first", async {
        loop {
            let open = stage.open().await?;
            if open.len() == 1 && open != first {
                return Ok(());
            }
            pause(Duration::from_millis(200)).await;
        }
    })
    .await?;
    apps::is_ended(&mut old).await?;
    apps::ping(&mut new, b"still there").await?;
    drop(stage.echo().await?);
    stage.end(probe).await
}

/// Somebody with the right to may end a tunnel that is in use: `connect` opens another.
async fn a_tunnel_that_somebody_else_closed_is_replaced(scenario: Scenario) -> Result<()> {
    let stage = Stage::set(&scenario, &[]).await?;
    let probe = Probe::start(stage.port);
    let mut old = stage.echo().await?;
    let first = stage.open().await?;
    stage.desk.done(&["tunnel", "close", &first[0]]).await?;
    apps::is_ended(&mut old).await?;
    stage.served_again().await?;
    let open = stage.open().await?;
    ensure!(open.len() == 1 && open != first, "{first:?}, then {open:?}");
    stage.end(probe).await
}

/// The service knows its tunnels when it is back, so nothing is opened anew.
async fn a_service_that_was_killed_is_met_again(scenario: Scenario) -> Result<()> {
    let mut stage = Stage::set(&scenario, &[]).await?;
    let probe = Probe::start(stage.port);
    let mut old = stage.echo().await?;
    let open = stage.open().await?;
    stage.desk.serve = stage.desk.serve.kill_and_restart().await?;
    apps::is_ended(&mut old).await?;
    stage.served_again().await?;
    ensure!(stage.open().await? == open, "another tunnel was opened");
    stage.end(probe).await
}

/// As many as the device has, over one tunnel.
async fn each_service_has_a_port_of_its_own(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    let mut create = desk.command(&["thing", "create", "lamp"]);
    let mut connect = desk.command(&["connect", "lamp", "-b", "127.0.0.1"]);
    let mut services = Vec::new();
    for name in ["FIRST", "SECOND", "THIRD", "FOURTH"] {
        let app = App::start(Temper::Greet(name.as_bytes().to_vec())).await?;
        create
            .arg("--service")
            .arg(format!("{name}={}", app.address()));
        let port = ports::free()?;
        connect.arg(format!("{name}={port}"));
        services.push((name, port, app));
    }
    let said = run(create).await?;
    ensure!(said.code == Some(0), "{}", said.stderr);
    let agent = desk.bare(&["agent", "--config", "lamp/agent.toml"]);
    let agent = Process::start(&scenario, "agent", agent)?;
    agent.line("waiting for tunnels").await?;
    let mut connect = Process::start(&scenario, "connect", connect)?;
    for (name, port, _) in &services {
        connect.line(&format!("{name}  127.0.0.1:{port}")).await?;
        within(name, async {
            while !greets(*port, name).await? {
                pause(Duration::from_millis(20)).await;
            }
            Ok(())
        })
        .await?;
    }
    let list = desk.json(&["tunnel", "list", "--open"]).await?;
    ensure!(
        list["tunnelSummaries"].as_array().map(Vec::len) == Some(1),
        "{list}"
    );
    connect.signal(Signal::Interrupt).await?;
    connect.ends_with(0).await
}

/// False while the device is not there yet, which ends the connection with nothing.
async fn greets(port: u16, name: &str) -> Result<bool> {
    let mut stream = apps::connect(port).await?;
    let said = apps::read_to_end(&mut stream).await.unwrap_or_default();
    ensure!(
        said.is_empty() || said == name.as_bytes(),
        "{name} answers as {}",
        String::from_utf8_lossy(&said)
    );
    Ok(!said.is_empty())
}

on_own_choice!(
    within LIMIT;
    nobody_is_refused_while_a_tunnel_is_lost,
    nobody_is_refused_at_a_change_over,
    a_tunnel_that_somebody_else_closed_is_replaced,
    a_service_that_was_killed_is_met_again,
    each_service_has_a_port_of_its_own,
);
