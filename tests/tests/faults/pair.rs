//! A tunnel of a service with both its proxies, and verified load on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use adit_tests::api::Tunnel;
use adit_tests::apps::{self, App, Temper};
use adit_tests::deadline::{pause, within_limit};
use adit_tests::ports;
use adit_tests::process::Process;
use adit_tests::proxy::Proxy;
use adit_tests::resting::Resting;
use adit_tests::scenario::Scenario;
use adit_tests::stack::Serve;
use adit_tests::tampered::Tools;
use adit_tests::verifier::{Transfer, is_wrong};
use anyhow::{Context, Result, ensure};
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;

pub(crate) const SEED: u64 = 20_261_129;

/// Longer than anything here takes to come back; times are told, and judged at a release.
pub(crate) const RECOVERY: Duration = Duration::from_secs(30);

/// The processes of a tunnel.
pub(crate) const PARTS: [&str; 3] = ["service", "source", "destination"];

/// One of [`PARTS`].
pub(crate) fn part<'a>(name: &str, serve: &'a mut Serve, pair: &'a mut Pair) -> &'a mut Process {
    match name {
        "service" => &mut serve.process,
        "source" => &mut pair.source,
        _ => &mut pair.destination,
    }
}

/// Ids of transfers, so that bytes of another one are wrong bytes.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Both proxies of a tunnel, and an application that answers transfers.
pub(crate) struct Pair {
    pub(crate) tunnel: Tunnel,
    pub(crate) source: Process,
    pub(crate) destination: Process,
    pub(crate) port: u16,
    commands: [Proxy; 2],
    _app: App,
}

impl Pair {
    pub(crate) async fn start(scenario: &Scenario, serve: &Serve) -> Result<Self> {
        Self::start_with(scenario, serve, |proxy| proxy).await
    }

    /// With what tampers with its processes; `None` where that is not to be had.
    pub(crate) async fn with_tools(scenario: &Scenario) -> Result<Option<(Tools, Serve, Self)>> {
        let Some(tools) = Tools::find(scenario)? else {
            return Ok(None);
        };
        let serve = Serve::start(scenario).await?;
        let pair = Self::start(scenario, &serve).await?;
        Ok(Some((tools, serve, pair)))
    }

    /// With changes to the command lines of both.
    pub(crate) async fn start_with(
        scenario: &Scenario,
        serve: &Serve,
        change: impl Fn(Proxy) -> Proxy,
    ) -> Result<Self> {
        let tunnel = serve.api()?.open_tunnel(&["SSH"]).await?;
        let pair = Self::of_tunnel(scenario, serve, tunnel, change).await?;
        let api = serve.api()?;
        api.wait_connected(&pair.tunnel.id, true, true).await?;
        Ok(pair)
    }

    /// Of a tunnel that is open already. Its destination may be a moment late.
    pub(crate) async fn of_tunnel(
        scenario: &Scenario,
        serve: &Serve,
        tunnel: Tunnel,
        change: impl Fn(Proxy) -> Proxy,
    ) -> Result<Self> {
        let app = App::start(Temper::Verify(SEED)).await?;
        let port = ports::free()?;
        let endpoint = serve.endpoint();
        let source = Proxy::source(scenario, &format!("SSH={port}"), &endpoint);
        let destination =
            Proxy::destination(scenario, &format!("SSH={}", app.address()), &endpoint);
        let source = source.token(&tunnel.source_token);
        let destination = destination.token(&tunnel.destination_token);
        let commands = [source, destination].map(|proxy| change(proxy.trusting(&serve.ca_file())));
        let pair = Self {
            source: commands[0].start()?,
            destination: commands[1].start()?,
            commands,
            tunnel,
            port,
            _app: app,
        };
        ports::listened_on(port).await?;
        Ok(pair)
    }

    /// Ends the source as `kill -9` does, and starts it again as a supervisor would.
    pub(crate) async fn kill_source(&mut self) -> Result<()> {
        self.source.kill().await?;
        self.source = self.commands[0].start()?;
        Ok(())
    }

    /// As [`Self::kill_source`], for the destination.
    pub(crate) async fn kill_destination(&mut self) -> Result<()> {
        self.destination.kill().await?;
        self.destination = self.commands[1].start()?;
        Ok(())
    }

    /// One verified exchange in a new connection.
    pub(crate) async fn carries(&self) -> Result<()> {
        exchange(self.port, 100_000).await
    }

    /// As [`Self::recovers_since`], from now on.
    pub(crate) async fn recovers(&mut self) -> Result<Duration> {
        self.recovers_since(Instant::now()).await
    }

    /// Tries new connections until one carries a verified exchange; how long that was after `begin`. A wrong byte is
    /// an error at once.
    pub(crate) async fn recovers_since(&mut self, begin: Instant) -> Result<Duration> {
        within_limit(RECOVERY, "new connections", async {
            loop {
                self.source.still_runs()?;
                self.destination.still_runs()?;
                match self.carries().await {
                    Ok(()) => return Ok(()),
                    Err(error) if is_wrong(&error) => return Err(error),
                    Err(_) => pause(Duration::from_millis(20)).await,
                }
            }
        })
        .await?;
        Ok(begin.elapsed())
    }

    /// A verified exchange that rests half-way.
    pub(crate) async fn rests(&self) -> Result<Resting> {
        Resting::begin(self.port, transfer(100_000)).await
    }

    /// Keeps `connections` of verified exchanges going until it is stopped. None may take longer than [`RECOVERY`]:
    /// whatever becomes of the tunnel, it is carried on or its end is noticed.
    pub(crate) fn load(&self, connections: usize, length: u64) -> Load {
        self.patient_load(connections, length, RECOVERY)
    }

    /// As [`Self::load`], where something else is longer in the way of an exchange.
    pub(crate) fn patient_load(&self, connections: usize, length: u64, patience: Duration) -> Load {
        let state = Arc::new(State::default());
        let tasks = (0..connections).map(|_| {
            let (state, port) = (Arc::clone(&state), self.port);
            tokio::spawn(async move {
                while !state.is_over.load(Ordering::Relaxed) {
                    match exchange_within(patience, port, length).await {
                        Ok(()) => _ = state.complete.fetch_add(1, Ordering::Relaxed),
                        Err(error) if is_wrong(&error) => return Err(error),
                        Err(error) if is_silence(&error) => {
                            return Err(error.context("neither carried on nor cut"));
                        }
                        Err(error) => {
                            state.cut.fetch_add(1, Ordering::Relaxed);
                            *state.reason.lock().expect("nothing panics") =
                                Some(format!("{error:#}"));
                            pause(Duration::from_millis(20)).await;
                        }
                    }
                }
                Ok(())
            })
        });
        Load {
            tasks: tasks.collect(),
            state,
        }
    }
}

/// One verified exchange with the application behind a source's port.
pub(crate) async fn exchange(port: u16, length: u64) -> Result<()> {
    exchange_within(RECOVERY, port, length).await
}

async fn exchange_within(limit: Duration, port: u16, length: u64) -> Result<()> {
    let mut client = apps::connect(port).await?;
    within_limit(limit, "an exchange", transfer(length).exchange(&mut client)).await
}

fn transfer(length: u64) -> Transfer {
    Transfer {
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        length,
        seed: SEED,
    }
}

/// Whether an application was left without a byte or an end until its patience was over: a silent cut.
fn is_silence(error: &anyhow::Error) -> bool {
    error.is::<Elapsed>()
}

#[derive(Default)]
struct State {
    is_over: AtomicBool,
    complete: AtomicU64,
    cut: AtomicU64,
    /// Of the last cut.
    reason: std::sync::Mutex<Option<String>>,
}

/// Exchanges that go on in the background.
pub(crate) struct Load {
    tasks: Vec<JoinHandle<Result<()>>>,
    state: Arc<State>,
}

impl Load {
    /// Exchanges that came to their end so far.
    pub(crate) fn complete(&self) -> u64 {
        self.state.complete.load(Ordering::Relaxed)
    }

    /// Waits until `count` more have.
    pub(crate) async fn goes_on(&self, count: u64) -> Result<()> {
        let wanted = self.complete() + count;
        within_limit(RECOVERY, "exchanges to go on", async {
            while self.complete() < wanted {
                ensure!(
                    self.tasks.iter().any(|task| !task.is_finished()),
                    "the load has ended"
                );
                pause(Duration::from_millis(5)).await;
            }
            Ok(())
        })
        .await
    }

    /// Ends it; how many exchanges were complete, and cut. None may have been left in silence.
    pub(crate) async fn stop(self) -> Result<(u64, u64)> {
        self.state.is_over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await?.context("the load")?;
        }
        let state = &self.state;
        Ok((
            self.state.complete.load(Ordering::Relaxed),
            state.cut.load(Ordering::Relaxed),
        ))
    }

    /// Ends it; none may have been cut.
    pub(crate) async fn stop_whole(self) -> Result<u64> {
        let state = Arc::clone(&self.state);
        let (complete, cut) = self.stop().await?;
        let reason = state.reason.lock().expect("nothing panics").clone();
        ensure!(
            cut == 0,
            "{cut} exchanges were cut: {}",
            reason.unwrap_or_default()
        );
        ensure!(complete > 0, "no exchange came to its end");
        Ok(complete)
    }
}

/// The middle one and the 99th percentile, told and if need be judged.
pub(crate) fn tell(what: &str, mut times: Vec<Duration>, goal: Duration) -> Result<()> {
    times.sort();
    let at = |part: usize| times.get(times.len() * part / 100).or(times.last());
    let (Some(median), Some(p99)) = (at(50), at(99)) else {
        return Ok(());
    };
    eprintln!(
        "{what}: {} kills, median {median:?}, p99 {p99:?}",
        times.len()
    );
    ensure!(
        !adit_tests::scenario::judges() || *p99 <= goal,
        "{what}: p99 of {p99:?} is over {goal:?}"
    );
    Ok(())
}
