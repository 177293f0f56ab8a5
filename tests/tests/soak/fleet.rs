//! The processes, and how to reach them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use adit_tests::api::{Api, Tunnel};
use adit_tests::apps::{self, App, Temper};
use adit_tests::deadline::{pause, within_limit};
use adit_tests::ports;
use adit_tests::process::{Process, Signal};
use adit_tests::proxy::Proxy;
use adit_tests::scenario::Scenario;
use adit_tests::stack::Serve;
use adit_tests::verifier::{Transfer, is_wrong};
use anyhow::Result;
use serde_json::json;
use tokio::sync::Mutex;

use super::junction::Junction;

pub(crate) const SERVICE: &str = "SSH";
pub(crate) const SEED: u64 = 48;
/// For connections to work again after a cut or a restart: what `kills.rs` grants, too.
const RECOVERY: Duration = Duration::from_secs(30);

/// Everything that runs.
pub(crate) struct Fleet {
    pub(crate) api: Api,
    pub(crate) serve: Mutex<Serve>,
    ends: Ends,
    /// What is behind every service: it answers transfers.
    _app: App,
    pub(crate) junction: Junction,
    /// Both its proxies live through everything, behind the junction.
    pub(crate) steady: Mutex<Pair>,
    /// Its proxies are replaced as their tokens are.
    pub(crate) rotated: Mutex<Pair>,
    /// The agent of the first lives through everything, the other is started again.
    pub(crate) devices: [Mutex<Device>; 2],
    transfers: AtomicU64,
    bytes: AtomicU64,
}

/// A tunnel with a proxy at each end.
pub(crate) struct Pair {
    pub(crate) tunnel: Tunnel,
    pub(crate) port: u16,
    pub(crate) source: Process,
    pub(crate) destination: Process,
}

/// How a proxy is started.
struct Ends {
    scenario: Scenario,
    /// The service's own listener.
    endpoint: String,
    ca: PathBuf,
    /// What destinations dial.
    place: String,
}

/// A thing and its agent.
pub(crate) struct Device {
    scenario: Scenario,
    pub(crate) thing: &'static str,
    pub(crate) agent: Process,
}

impl Fleet {
    pub(crate) async fn start(scenario: &Scenario) -> Result<Self> {
        // Both retentions pass as fast as the day: three hours and one. The store is filled as fast as it goes.
        let options = [
            "--quota",
            "api-calls-per-second=0",
            "--mqtt-listen",
            "127.0.0.1:0",
            "--tunnel-retention",
            "225s",
            "--notify-retention",
            "75s",
        ];
        let serve = Serve::start_with(scenario, &options).await?;
        let app = App::start(Temper::Verify(SEED)).await?;
        let api = serve.api()?;
        let ends = Ends {
            scenario: scenario.clone(),
            endpoint: serve.endpoint(),
            ca: serve.ca_file(),
            place: app.address().to_string(),
        };
        let junction = Junction::before(serve.tunnel().port).await?;
        let behind = format!("localhost:{}", junction.port());
        let steady = ends.pair(&api, &behind).await?;
        let rotated = ends.pair(&api, &ends.endpoint).await?;
        let port = app.address().port();
        let devices = [
            Device::start(scenario, &serve, "lamp", port).await?,
            Device::start(scenario, &serve, "bell", port).await?,
        ];
        Ok(Self {
            api,
            serve: Mutex::new(serve),
            ends,
            _app: app,
            junction,
            steady: Mutex::new(steady),
            rotated: Mutex::new(rotated),
            devices: devices.map(Mutex::new),
            transfers: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// What lives through everything.
    pub(crate) async fn watched(&self) -> Vec<(String, u32)> {
        let steady = self.steady.lock().await;
        let processes = [
            ("service", self.serve.lock().await.process.id()),
            ("agent", self.devices[0].lock().await.agent.id()),
            ("source", steady.source.id()),
            ("destination", steady.destination.id()),
        ];
        processes.map(|(name, id)| (name.to_owned(), id)).into()
    }

    /// Makes sure that nothing has ended that should not.
    pub(crate) async fn still_run(&self) -> Result<()> {
        self.serve.lock().await.process.still_runs()?;
        for pair in [&self.steady, &self.rotated] {
            let mut pair = pair.lock().await;
            pair.source.still_runs()?;
            pair.destination.still_runs()?;
        }
        for device in &self.devices {
            device.lock().await.agent.still_runs()?;
        }
        Ok(())
    }

    /// Ends everything in good order.
    pub(crate) async fn end(self) -> Result<()> {
        for device in self.devices {
            terminate(&mut device.into_inner().agent).await?;
        }
        for pair in [self.steady, self.rotated] {
            let mut pair = pair.into_inner();
            self.api.close_tunnel(&pair.tunnel.id).await?;
            pair.source.end().await?;
            pair.destination.end().await?;
        }
        terminate(&mut self.serve.into_inner().process).await
    }

    /// A source with this token, once it listens.
    pub(crate) async fn source(&self, token: &str, port: u16) -> Result<Process> {
        let process = self.ends.source(&self.ends.endpoint, token, port)?;
        ports::listened_on(port).await?;
        Ok(process)
    }

    /// A destination with this token.
    pub(crate) fn destination(&self, token: &str) -> Result<Process> {
        self.ends.destination(&self.ends.endpoint, token)
    }

    /// The next transfer, whose bytes nobody had before.
    pub(crate) fn next(&self, length: u64) -> Transfer {
        Transfer {
            id: self.transfers.fetch_add(1, Ordering::Relaxed),
            length,
            seed: SEED,
        }
    }

    /// A connection through the source at `port` that carries so many verified bytes each way.
    pub(crate) async fn carries(&self, port: u16, length: u64) -> Result<()> {
        let mut client = apps::connect(port).await?;
        let transfer = self.next(length);
        let exchanged = transfer.exchange(&mut client);
        within_limit(RECOVERY, "a transfer", exchanged).await?;
        self.bytes.fetch_add(2 * length, Ordering::Relaxed);
        Ok(())
    }

    /// As [`Self::carries`] once it works again: what is refused or cut is tried anew, a wrong byte is an
    /// error at once.
    pub(crate) async fn recovers(&self, port: u16) -> Result<()> {
        let began = Instant::now();
        loop {
            match self.carries(port, 1_000).await {
                Err(error) if is_wrong(&error) || began.elapsed() > RECOVERY => return Err(error),
                Err(_) => pause(Duration::from_millis(20)).await,
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Verified so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Ends {
    /// A new tunnel with both its proxies, connected.
    async fn pair(&self, api: &Api, endpoint: &str) -> Result<Pair> {
        let tunnel = api.open_tunnel(&[SERVICE]).await?;
        let port = ports::free()?;
        let pair = Pair {
            source: self.source(endpoint, &tunnel.source_token, port)?,
            destination: self.destination(endpoint, &tunnel.destination_token)?,
            tunnel,
            port,
        };
        api.wait_connected(&pair.tunnel.id, true, true).await?;
        ports::listened_on(port).await?;
        Ok(pair)
    }

    fn source(&self, endpoint: &str, token: &str, port: u16) -> Result<Process> {
        let mapping = format!("{SERVICE}={port}");
        let proxy = Proxy::source(&self.scenario, &mapping, endpoint);
        self.start(proxy.token(token))
    }

    fn destination(&self, endpoint: &str, token: &str) -> Result<Process> {
        let mapping = format!("{SERVICE}={}", self.place);
        let proxy = Proxy::destination(&self.scenario, &mapping, endpoint);
        self.start(proxy.token(token))
    }

    /// Links are lost far more often than in a day, so that the wait before another attempt would be that of a
    /// service in trouble.
    fn start(&self, proxy: Proxy) -> Result<Process> {
        let quick = json!({ "websocket": { "retry_delay_ms": 100 } });
        proxy.trusting(&self.ca).settings(&quick)?.start()
    }
}

impl Device {
    /// Registers a thing that has a service at this port of the loopback, and starts its agent.
    async fn start(
        scenario: &Scenario,
        serve: &Serve,
        thing: &'static str,
        port: u16,
    ) -> Result<Self> {
        let mut command = scenario.binary().adit();
        command.args([
            "thing",
            "create",
            thing,
            "--service",
            &format!("{SERVICE}={port}"),
        ]);
        command
            .args(["--no-sign-request", "--data-dir"])
            .arg(serve.data());
        command.current_dir(scenario.directory());
        Process::start(scenario, "thing", command)?
            .ends_with(0)
            .await?;
        let mut device = Self {
            agent: Self::launch(scenario, thing)?,
            scenario: scenario.clone(),
            thing,
        };
        device.is_ready().await?;
        Ok(device)
    }

    /// Starts the agent again, which has ended.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.agent = Self::launch(&self.scenario, self.thing)?;
        self.is_ready().await
    }

    /// Waits until the agent hears of tunnels.
    async fn is_ready(&mut self) -> Result<()> {
        self.agent.line("waiting for tunnels").await?;
        Ok(())
    }

    fn launch(scenario: &Scenario, thing: &str) -> Result<Process> {
        let mut command = scenario.binary().adit();
        command.args(["agent", "--config"]);
        command.arg(scenario.path(thing).join("agent.toml"));
        Process::start(scenario, thing, command)
    }
}

/// Ends a process as its supervisor does.
pub(crate) async fn terminate(process: &mut Process) -> Result<()> {
    process.signal(Signal::Terminate).await?;
    process.ends_with(0).await
}
