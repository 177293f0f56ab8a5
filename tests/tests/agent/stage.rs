//! Broker, service and device of one scenario.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use adit_tests::api::Tunnel;
use adit_tests::apps::{self, App, Temper};
use adit_tests::deadline::{pause, within};
use adit_tests::output::Channel;
use adit_tests::ports;
use adit_tests::process::{Process, Signal};
use adit_tests::proxy::Proxy;
use adit_tests::scenario::Scenario;
use adit_tests::stack::Serve;
use anyhow::{Result, ensure};
use serde_json::json;
use tokio::net::TcpStream;

use super::broker::Broker;

/// The device.
pub(crate) const THING: &str = "lamp-17";

/// What it says once it is subscribed.
pub(crate) const READY: &str = "waiting for tunnels";

/// Everything but the agent itself, which scenarios start and end as they like.
pub(crate) struct Stage {
    pub(crate) scenario: Scenario,
    pub(crate) broker: Broker,
    pub(crate) serve: Serve,
    /// What is behind the service `SSH`.
    app: App,
}

impl Stage {
    /// Sets everything up; `None` where the broker is not installed.
    pub(crate) async fn new(scenario: &Scenario) -> Result<Option<Self>> {
        let Some(broker) = Broker::start(scenario).await? else {
            return Ok(None);
        };
        let serve = Serve::start(scenario).await?;
        let authorities = [
            scenario.pki().ca_pem(),
            &std::fs::read_to_string(serve.ca_file())?,
        ]
        .concat();
        scenario.write("device/ca.pem", authorities)?;
        let pair = scenario.pki().named(THING, &[])?;
        scenario.write("device/device.pem", pair.certificate)?;
        let key = scenario.write("device/device.key", pair.key)?;
        std::fs::set_permissions(key, PermissionsExt::from_mode(0o600))?;
        let stage = Self {
            scenario: scenario.clone(),
            broker,
            serve,
            app: App::start(Temper::Echo).await?,
        };
        stage.configure("")?;
        Ok(Some(stage))
    }

    /// Writes the agent's configuration, with more lines at its end.
    pub(crate) fn configure(&self, more: &str) -> Result<()> {
        let text = format!(
            "endpoint = \"localhost:{}\"\ncertificate = \"device.pem\"\nkey = \"device.key\"\n\
             ca = \"ca.pem\"\nthing = \"{THING}\"\ntunnel_endpoint = \"{}\"\n\
             services.SSH = \"{}\"\n{more}\n",
            self.broker.port,
            self.serve.endpoint(),
            self.app.address(),
        );
        self.scenario.write("device/agent.toml", text)?;
        Ok(())
    }

    /// Starts the agent.
    pub(crate) fn launch(&self, arguments: &[&str]) -> Result<Process> {
        self.launch_changed(|command| _ = command.args(arguments))
    }

    /// Starts the agent by a command that is changed before.
    pub(crate) fn launch_changed(&self, change: impl FnOnce(&mut Command)) -> Result<Process> {
        self.launch_telling("5", change)
    }

    /// Starts the agent without a line for each connection, of which thousands are more than is kept.
    pub(crate) fn launch_terse(&self) -> Result<Process> {
        self.launch_telling("4", |_| {})
    }

    fn launch_telling(
        &self,
        verbosity: &str,
        change: impl FnOnce(&mut Command),
    ) -> Result<Process> {
        let mut command = self.scenario.binary().adit();
        // Whatever its own environment holds is no business of its hook.
        command.env("AWSIOT_TUNNEL_ACCESS_TOKEN", "token-of-the-environment");
        command.arg("agent").arg("--config");
        command
            .arg(self.scenario.path("device/agent.toml"))
            .args(["-v", verbosity]);
        if let Some(io) = self.scenario.io().argument() {
            command.args(["--io", io]);
        }
        change(&mut command);
        Process::start(&self.scenario, "agent", command)
    }

    /// Starts the agent and waits until it is subscribed.
    pub(crate) async fn agent(&self) -> Result<Process> {
        let agent = self.launch(&[])?;
        agent.line(READY).await?;
        Ok(agent)
    }

    /// Opens a tunnel that nobody is told of yet.
    pub(crate) async fn open(&self, services: &[&str]) -> Result<Tunnel> {
        self.serve.api()?.open_tunnel(services).await
    }

    /// Tells the device of a tunnel, as a control plane does.
    pub(crate) async fn notify(&self, tunnel: &Tunnel, services: &[&str]) -> Result<()> {
        self.scenario.secrets().keep(&tunnel.destination_token);
        let payload = notification(&tunnel.destination_token, services);
        self.broker.publish(&topic(), &payload).await
    }

    /// Begins to tell the device of a tunnel, where the broker may take its time.
    pub(crate) fn begin_to_notify(&self, tunnel: &Tunnel, services: &[&str]) -> Result<Process> {
        self.scenario.secrets().keep(&tunnel.destination_token);
        let payload = notification(&tunnel.destination_token, services);
        self.broker.begin_to_publish(&topic(), &payload)
    }

    /// Waits until the service sees the device connected.
    pub(crate) async fn connected(&self, tunnel: &Tunnel) -> Result<()> {
        self.serve
            .api()?
            .wait_connected(&tunnel.id, false, true)
            .await
    }

    /// Waits until the service sees the device gone.
    pub(crate) async fn disconnected(&self, tunnel: &Tunnel) -> Result<()> {
        let api = self.serve.api()?;
        within("waiting for the device to be gone", async {
            while api.connected(&tunnel.id).await?.1 {
                pause(std::time::Duration::from_millis(10)).await;
            }
            Ok(())
        })
        .await
    }

    /// Starts a source with a port for each service, and waits until it is connected.
    pub(crate) async fn source(&self, tunnel: &Tunnel, services: &[&str]) -> Result<Source> {
        let mut items = Vec::new();
        let mut listens = Vec::new();
        for service in services {
            let port = ports::free()?;
            items.push(format!("{service}={port}"));
            listens.push(port);
        }
        let process = Proxy::source(&self.scenario, &items.join(","), &self.serve.endpoint())
            .token(&tunnel.source_token)
            .trusting(&self.serve.ca_file())
            .start()?;
        for port in &listens {
            ports::listened_on(*port).await?;
        }
        Ok(Source {
            ports: listens,
            _process: process,
        })
    }

    /// Opens a tunnel, tells the device, and carries bytes through it: proof that the agent has done with
    /// all that it was told before, too.
    pub(crate) async fn carries(&self, services: &[&str]) -> Result<(Tunnel, Source)> {
        let tunnel = self.open(services).await?;
        self.notify(&tunnel, services).await?;
        self.connected(&tunnel).await?;
        let source = self.source(&tunnel, services).await?;
        source.echoes().await?;
        Ok((tunnel, source))
    }

    /// What the agent keeps on disk.
    pub(crate) fn state(&self) -> Result<String> {
        let path = self.scenario.path("device/state/tunnels.json");
        Ok(std::fs::read_to_string(path)?)
    }
}

/// A source proxy of one tunnel.
pub(crate) struct Source {
    pub(crate) ports: Vec<u16>,
    _process: Process,
}

impl Source {
    /// Carries bytes there and back through the first service, trying anew where a connection is cut: the
    /// device may have been connected a moment ago only.
    pub(crate) async fn echoes(&self) -> Result<()> {
        let port = self.ports[0];
        within("bytes through the tunnel", async {
            loop {
                if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await
                    && apps::ping(&mut stream, b"there and back").await.is_ok()
                {
                    return Ok(());
                }
                pause(std::time::Duration::from_millis(20)).await;
            }
        })
        .await
    }
}

/// The device's topic.
pub(crate) fn topic() -> String {
    format!("$aws/things/{THING}/tunnels/notify")
}

/// A notification as AWS writes it.
pub(crate) fn notification(token: &str, services: &[&str]) -> String {
    json!({
        "clientAccessToken": token,
        "clientMode": "destination",
        "region": "us-east-1",
        "services": services,
    })
    .to_string()
}

/// How often the agent has said something.
pub(crate) fn said(agent: &Process, text: &str) -> usize {
    agent.output().text(Channel::Stderr).matches(text).count()
}

/// Ends an agent as its supervisor does.
pub(crate) async fn terminate(mut agent: Process) -> Result<()> {
    agent.signal(Signal::Terminate).await?;
    agent.ends_with(0).await
}

/// Makes sure that a token is in nothing that the agent wrote.
pub(crate) fn is_silent_about(agent: &Process, token: &str) -> Result<()> {
    for channel in [Channel::Stdout, Channel::Stderr] {
        ensure!(
            !agent.output().text(channel).contains(token),
            "the token was logged"
        );
    }
    Ok(())
}
