//! The whole system on the loopback: `adit serve` and two `adit proxy`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use crate::api::{Api, Tunnel};
use crate::apps;
use crate::deadline::until;
use crate::ports;
use crate::process::Process;
use crate::proxy::Proxy;
use crate::scenario::Scenario;
use crate::scripted_proxy::Endpoint;

/// A running `adit serve`.
pub struct Serve {
    scenario: Scenario,
    /// The process, to be killed or looked at.
    pub process: Process,
    data: PathBuf,
    api_port: u16,
    tunnel_port: u16,
    ca_pem: String,
    wants_signatures: bool,
}

impl Serve {
    /// Starts a service on free ports, and waits until it is ready.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(scenario: &Scenario) -> Result<Self> {
        Self::start_with(scenario, &[]).await
    }

    /// Starts a service with further arguments.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_with(scenario: &Scenario, arguments: &[&str]) -> Result<Self> {
        Self::start_changed(scenario, |command| _ = command.args(arguments)).await
    }

    /// Starts a service whose command is changed before.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_changed(
        scenario: &Scenario,
        change: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        // Each service of a scenario has a data directory of its own.
        let names = (0..).map(|number| scenario.path(&format!("service-{number}")));
        let data = names.into_iter().find(|path| !path.exists());
        let data = data.context("numbers do not end")?;
        Self::start_in(scenario, data, [0, 0], false, change).await
    }

    /// Starts a service with its data below a directory.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_below(scenario: &Scenario, directory: &Path) -> Result<Self> {
        let data = directory.join("service");
        Self::start_in(scenario, data, [0, 0], false, |_| {}).await
    }

    /// Starts a service that takes signed requests only, and tells devices of their tunnels.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_signed(scenario: &Scenario) -> Result<Self> {
        let data = scenario.path("signed");
        Self::start_in(scenario, data, [0, 0], true, |_| {}).await
    }

    /// Ends the service as `kill -9` does, and starts it again with the same data on the
    /// same ports.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn kill_and_restart(mut self) -> Result<Self> {
        self.process.kill().await?;
        self.start_again(|_| {}).await
    }

    /// Waits for the end of a service that ends by itself, and starts it again likewise, with a command that
    /// is changed before.
    ///
    /// # Errors
    /// It goes on, or does not come up.
    pub async fn restart_ended(mut self, change: impl FnOnce(&mut Command)) -> Result<Self> {
        self.process.end().await?;
        self.start_again(change).await
    }

    async fn start_again(self, change: impl FnOnce(&mut Command)) -> Result<Self> {
        let Self {
            scenario,
            data,
            api_port,
            tunnel_port,
            wants_signatures,
            ..
        } = self;
        let ports = [api_port, tunnel_port];
        Self::start_in(&scenario, data, ports, wants_signatures, change).await
    }

    /// The URL of its API.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("https://localhost:{}", self.api_port)
    }

    /// The port of its API.
    #[must_use]
    pub fn api_port(&self) -> u16 {
        self.api_port
    }

    /// Its API.
    ///
    /// # Errors
    /// It listens at no usable address.
    pub fn api(&self) -> Result<Api> {
        let secrets = self.scenario.secrets().clone();
        Api::at(&self.api_url(), &self.ca_pem, secrets)
    }

    /// Its tunnel endpoint, for scripted proxies.
    #[must_use]
    pub fn tunnel(&self) -> Endpoint {
        Endpoint {
            host: "localhost".to_owned(),
            port: self.tunnel_port,
            ca_pem: self.ca_pem.clone(),
            secrets: self.scenario.secrets().clone(),
        }
    }

    /// Its tunnel endpoint, as a proxy's `-e`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("localhost:{}", self.tunnel_port)
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The file with the authority that signed its certificate.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.data.join("ca.pem")
    }

    async fn start_in(
        scenario: &Scenario,
        data: PathBuf,
        [api_port, tunnel_port]: [u16; 2],
        wants_signatures: bool,
        change: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let endpoints = data.join("endpoints.json");
        // What an earlier run left would look like readiness.
        let _ = std::fs::remove_file(&endpoints);
        let mut command = scenario.binary().adit();
        command.arg("serve").arg("--data-dir").arg(&data);
        command.args(["--api-listen", &format!("127.0.0.1:{api_port}")]);
        command.args(["--tunnel-listen", &format!("127.0.0.1:{tunnel_port}")]);
        // The client of most tests does not sign; those that do are clients of others, and ours.
        if wants_signatures {
            command.args(["--mqtt-listen", "127.0.0.1:0"]);
        } else {
            command.arg("--insecure-no-auth");
        }
        if let Some(io) = scenario.io().argument() {
            command.args(["--io", io]);
        }
        change(&mut command);
        let mut process = Process::start(scenario, "serve", command)?;
        let mut ready = None;
        until("waiting for adit serve to be ready", || {
            ready = parse_endpoints(&endpoints).ok();
            ready.is_some() || process.still_runs().is_err()
        })
        .await?;
        process.still_runs()?;
        let (api_port, tunnel_port) = ready.context("it wrote its endpoints")?;
        if let Ok(credentials) = std::fs::read_to_string(data.join("credentials")) {
            let lines = credentials.lines();
            let keys = lines.filter_map(|line| line.strip_prefix("aws_secret_access_key"));
            keys.for_each(|key| scenario.secrets().keep(key.trim_start_matches([' ', '='])));
        }
        Ok(Self {
            scenario: scenario.clone(),
            process,
            api_port,
            tunnel_port,
            ca_pem: std::fs::read_to_string(data.join("ca.pem"))?,
            data,
            wants_signatures,
        })
    }
}

/// A service, a tunnel, and both its proxies.
pub struct Stack {
    /// The service.
    pub serve: Serve,
    /// The tunnel between the proxies.
    pub tunnel: Tunnel,
    /// The source proxy.
    pub source: Process,
    /// The destination proxy.
    pub destination: Process,
    source_command: Proxy,
    destination_command: Proxy,
    ports: BTreeMap<String, u16>,
}

impl Stack {
    /// Starts everything with a place (`HOST:PORT` or a path) behind each service, and
    /// waits until both sides are connected and the source listens.
    ///
    /// # Errors
    /// A part does not come up.
    pub async fn start(scenario: &Scenario, services: &[(&str, String)]) -> Result<Self> {
        Self::start_with(scenario, services, |source, destination| {
            (source, destination)
        })
        .await
    }

    /// As [`Self::start`], with changes to the command lines of source and destination.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(
        scenario: &Scenario,
        services: &[(&str, String)],
        change: impl FnOnce(Proxy, Proxy) -> (Proxy, Proxy),
    ) -> Result<Self> {
        let serve = Serve::start(scenario).await?;
        let names: Vec<&str> = services.iter().map(|(service, _)| *service).collect();
        let tunnel = serve.api()?.open_tunnel(&names).await?;
        let mut ports = BTreeMap::new();
        let (mut listens, mut dials) = (Vec::new(), Vec::new());
        for (service, place) in services {
            let port = ports::free()?;
            listens.push(format!("{service}={port}"));
            dials.push(format!("{service}={place}"));
            ports.insert((*service).to_owned(), port);
        }
        let source = Proxy::source(scenario, &listens.join(","), &serve.endpoint());
        let destination = Proxy::destination(scenario, &dials.join(","), &serve.endpoint());
        let (source_command, destination_command) = change(
            source
                .token(&tunnel.source_token)
                .trusting(&serve.ca_file()),
            destination
                .token(&tunnel.destination_token)
                .trusting(&serve.ca_file()),
        );
        let stack = Self {
            source: source_command.start()?,
            destination: destination_command.start()?,
            serve,
            tunnel,
            source_command,
            destination_command,
            ports,
        };
        stack.ready().await?;
        Ok(stack)
    }

    /// Waits until both sides are connected and the source listens on every port.
    ///
    /// # Errors
    /// That does not come about.
    pub async fn ready(&self) -> Result<()> {
        let api = self.serve.api()?;
        api.wait_connected(&self.tunnel.id, true, true).await?;
        for port in self.ports.values() {
            ports::listened_on(*port).await?;
        }
        Ok(())
    }

    /// Makes sure that nothing of it has ended.
    ///
    /// # Errors
    /// A part has; the message says which, and how.
    pub fn still_run(&mut self) -> Result<()> {
        self.serve.process.still_runs()?;
        self.source.still_runs()?;
        self.destination.still_runs()
    }

    /// The port of a service on the source.
    ///
    /// # Errors
    /// There is no such service.
    pub fn port(&self, service: &str) -> Result<u16> {
        self.ports
            .get(service)
            .copied()
            .with_context(|| format!("the stack has no port for {service}"))
    }

    /// Connects to a service through the tunnel.
    ///
    /// # Errors
    /// The source does not listen.
    pub async fn connect(&self, service: &str) -> Result<TcpStream> {
        apps::connect(self.port(service)?).await
    }

    /// Ends the source as `kill -9` does and starts it again as a supervisor would: the
    /// same command line, the same token.
    ///
    /// # Errors
    /// It had ended before, or cannot be started.
    pub async fn kill_and_restart_source(&mut self) -> Result<()> {
        self.source.kill().await?;
        self.source = self.source_command.start()?;
        Ok(())
    }

    /// As [`Self::kill_and_restart_source`], for the destination.
    ///
    /// # Errors
    /// As [`Self::kill_and_restart_source`].
    pub async fn kill_and_restart_destination(&mut self) -> Result<()> {
        self.destination.kill().await?;
        self.destination = self.destination_command.start()?;
        Ok(())
    }

    /// As [`Self::kill_and_restart_source`], for the service.
    ///
    /// # Errors
    /// As [`Self::kill_and_restart_source`].
    pub async fn kill_and_restart_serve(self) -> Result<Self> {
        Ok(Self {
            serve: self.serve.kill_and_restart().await?,
            ..self
        })
    }
}

/// `{"api": "https://localhost:PORT", "tunnel": "localhost:PORT"}`.
fn parse_endpoints(file: &Path) -> Result<(u16, u16)> {
    let value: serde_json::Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let port = |member: &str| -> Result<u16> {
        let address = value[member].as_str().context("no address")?;
        let (_, port) = address.rsplit_once(':').context("no port")?;
        Ok(port.parse()?)
    };
    Ok((port("api")?, port("tunnel")?))
}
