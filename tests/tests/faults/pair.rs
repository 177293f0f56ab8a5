//! A tunnel of a service with both its proxies, and verified load on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use adit_tests::api::Tunnel;
use adit_tests::apps::{self, App, Temper};
use adit_tests::deadline::{pause, within, within_limit};
use adit_tests::ports;
use adit_tests::process::Process;
use adit_tests::proxy::Proxy;
use adit_tests::scenario::Scenario;
use adit_tests::stack::Serve;
use adit_tests::verifier::{Transfer, is_wrong};
use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::sync::watch;
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

    /// Tries new connections until one carries a verified exchange; how long that took. A wrong byte is an
    /// error at once.
    pub(crate) async fn recovers(&mut self) -> Result<Duration> {
        let begin = Instant::now();
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
    let transfer = Transfer {
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        length,
        seed: SEED,
    };
    let mut client = apps::connect(port).await?;
    within_limit(limit, "an exchange", transfer.exchange(&mut client)).await
}

/// Whether an application was left without a byte or an end until its patience was over: a silent cut.
fn is_silence(error: &anyhow::Error) -> bool {
    error.is::<Elapsed>()
}

/// An exchange that rests half-way until it may go on.
pub(crate) struct Resting {
    go: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
}

impl Resting {
    /// Begins one with the application behind a source's port; half of it is sent, and the answer has begun.
    pub(crate) async fn begin(port: u16) -> Result<Self> {
        let transfer = Transfer {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            length: 100_000,
            seed: SEED,
        };
        let mut bytes = Vec::new();
        transfer.send(&mut bytes).await?;
        let (go, mut wait) = watch::channel(false);
        let mut client = apps::connect(port).await?;
        client.write_all(&bytes[..bytes.len() / 2]).await?;
        within("an answer to begin", async {
            Ok(client.peek(&mut [0]).await?)
        })
        .await?;
        let task = tokio::spawn(async move {
            let (mut read, mut write) = client.split();
            let sending = async {
                // The answer may be here already, so that reading does not tell of a cut.
                tokio::select! {
                    biased;
                    _ = wait.wait_for(|go| *go) => {}
                    _ = write.ready(Interest::ERROR) => bail!("cut while it rested"),
                }
                Ok(write.write_all(&bytes[bytes.len() / 2..]).await?)
            };
            let receiving = async { Transfer::receive(&mut read, !SEED).await?.complete() };
            let ((), received) = tokio::try_join!(sending, receiving)?;
            transfer.is_answered_by(received)
        });
        Ok(Self { go, task })
    }

    /// Whether it has ended although it rests.
    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Lets it go on to its end, which must be whole.
    pub(crate) async fn end(self) -> Result<()> {
        self.go.send_replace(true);
        within_limit(RECOVERY, "the end of an exchange", async {
            self.task.await?
        })
        .await
    }
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
