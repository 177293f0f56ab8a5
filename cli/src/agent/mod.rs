//! `adit agent`: a device that waits for tunnels and carries the destination of each.
//!
//! ```text
//! mqtt ─► desk ─► ledger      what was heard, and what became of it; on disk before anything is dialled
//!           └───► tunnel      one destination each, all on one loop of the engine
//!                   └──► hook the operator's program
//! ```
//!
//! It follows section 13.5 of the control-plane specification. The same settings serve AWS IoT Core, a
//! service of ours, and any broker between.

pub mod config;
mod desk;
mod hook;
pub(crate) mod identity;
mod ledger;
mod mqtt;
mod orders;
pub mod services;
pub mod settings;
mod standing;
mod tunnel;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use adit_engine::link::{Lookups, WebProxy};
use adit_engine::ring::{self, LoopHandle};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info};

use self::desk::{Desk, Rules, Verdict};
use self::hook::{Hook, Runner};
pub use self::ledger::fuzz_ledger;
use self::ledger::store::Store;
use self::mqtt::{Delivery, MqttSettings};
use self::orders::Order;
pub(crate) use self::orders::Orders;
use self::settings::AgentSettings;
pub(crate) use self::standing::Standing;
use self::tunnel::Shared;
use crate::exit::ExitCode;
use crate::run::IO_HINT;

/// Runs the agent until a signal ends it.
pub(crate) async fn run(settings: AgentSettings) -> Result<(), ExitCode> {
    let orders = Orders::of_signals().map_err(|fault| {
        error!("cannot watch for signals: {fault}");
        ExitCode::Failure
    })?;
    Agent::start(settings)?.run(orders).await
}

/// An agent whose data plane runs and whose books are open. It hears of nothing yet.
pub(crate) struct Agent {
    settings: AgentSettings,
    store: Store,
    shared: Arc<Shared>,
    runner: Runner,
    thread: JoinHandle<()>,
}

impl Agent {
    /// Opens the state directory and starts the data plane. What goes wrong is told in the log.
    pub(crate) fn start(settings: AgentSettings) -> Result<Self, ExitCode> {
        let store = Store::open(&settings.state_dir).map_err(|fault| {
            error!("state_dir: {fault}");
            ExitCode::BadConfiguration
        })?;
        let web_proxy = web_proxy(&settings)?;
        let started = ring::start("adit-data".into(), settings.io);
        let (event_loop, thread) = started.map_err(|fault| {
            error!("--io {}: {fault}", settings.io);
            error!("hint: {IO_HINT}");
            ExitCode::Failure
        })?;
        info!(backend = event_loop.backend(), "data plane started");
        let (hook, runner) = Hook::start(settings.on_tunnel.clone());
        let shared = Arc::new(Shared {
            event_loop,
            lookups: Lookups::default(),
            tls: settings.identity.tunnels.clone(),
            web_proxy,
            limits: settings.limits,
            nowhere: settings.state_dir.join(NOWHERE),
            hook,
            standing: watch::Sender::default(),
            clock: store.clock(),
        });
        Ok(Self {
            settings,
            store,
            shared,
            runner,
            thread,
        })
    }

    /// The loop that carries its tunnels, each under its number.
    pub(crate) fn event_loop(&self) -> LoopHandle {
        self.shared.event_loop.clone()
    }

    /// What it is at, now and later.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.shared.standing.subscribe()
    }

    /// Acts on notifications until it is ordered to end.
    pub(crate) async fn run(self, orders: Orders) -> Result<(), ExitCode> {
        let event_loop = self.event_loop();
        let stop = watch::channel(false);
        let result = work(self.settings, orders, self.store, self.shared, stop).await;
        self.runner.end().await;
        event_loop.finish();
        event_loop.ended().await;
        let _ = self.thread.join();
        result
    }
}

/// Acts on notifications until it is ordered to end, then lets tunnels drain.
async fn work(
    settings: AgentSettings,
    mut orders: Orders,
    store: Store,
    shared: Arc<Shared>,
    (stop, stopped): (watch::Sender<bool>, watch::Receiver<bool>),
) -> Result<(), ExitCode> {
    let rules = Rules {
        thing: settings.thing.clone(),
        region: settings.region,
        tunnel_endpoint: settings.tunnel_endpoint,
        limits: settings.limits,
    };
    let mqtt = MqttSettings {
        endpoint: settings.endpoint,
        tls: settings.identity.mqtt,
        thing: settings.thing,
        standing: shared.standing.clone(),
    };
    let loop_ended = shared.event_loop.ended();
    tokio::pin!(loop_ended);
    let mut desk = Desk::new(rules, settings.services, store, shared, stopped.clone());
    desk.resume().await;
    let (sender, mut deliveries) = mpsc::channel(DELIVERIES_MAX);
    let mut listener = tokio::spawn(mqtt::listen(mqtt, sender, stopped));
    // A notification that no place is free for, and how long it waits; those behind it wait at the service.
    let mut waiting: Option<(Delivery, Instant)> = None;
    let fault = loop {
        let save_due = desk.save_due();
        // What was begun is finished: only waiting is given up for something else.
        let (delivery, until) = tokio::select! {
            biased;
            order = orders.next() => match order {
                Order::End => break None,
                Order::ReadAgain => {
                    read_again(&mut desk, &settings.config);
                    continue;
                }
            },
            // Before anything new: a rotation ends a tunnel and tells of the next in one moment.
            ended = desk.ended() => {
                desk.close(ended).await;
                match waiting.take() {
                    Some((delivery, until)) => (delivery, Some(until)),
                    None => continue,
                }
            }
            // Before the tunnels, which end with it and are all that is known to be wrong then.
            () = &mut loop_ended => break Some("the event loop has ended by itself"),
            _ = &mut listener => break Some("nobody listens for notifications any more"),
            () = passed(save_due) => {
                desk.save_again().await;
                continue;
            }
            Some(delivery) = deliveries.recv(), if waiting.is_none() => (delivery, None),
            () = passed(waiting.as_ref().map(|(_, until)| *until)) => {
                if let Some((delivery, _)) = waiting.take() {
                    desk.refuse_full();
                    let _ = delivery.handled.send(());
                }
                continue;
            }
        };
        match desk.on_notification(&delivery.payload).await {
            Verdict::Done => {
                // Nobody hears it when the connection is gone; the message comes again then.
                let _ = delivery.handled.send(());
            }
            Verdict::Full => {
                let until = until.unwrap_or_else(|| Instant::now() + desk.patience());
                waiting = Some((delivery, until));
            }
        }
    };
    // Everybody who listens to it is told; that nobody does is fine as well.
    let _ = stop.send(true);
    drop((deliveries, waiting));
    desk.drain().await;
    if let Some(fault) = fault {
        error!("{fault}");
        return Err(ExitCode::Failure);
    }
    // Bounded by itself.
    let _ = listener.await;
    Ok(())
}

/// Completes when it is time; never, where nothing is due.
async fn passed(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// A file that cannot be used changes nothing.
fn read_again(desk: &mut Desk, config: &Path) {
    match config::read_services(config, desk.services()) {
        Ok(services) => desk.set_services(services),
        Err(fault) => {
            error!("{}; the services stay as they are", fault.message());
            error!("hint: {}", fault.hint());
        }
    }
}

/// Says what would be done, for `--check`.
pub(crate) fn summary(settings: &AgentSettings) -> String {
    let tunnels = match &settings.tunnel_endpoint {
        Some(endpoint) => endpoint.to_string(),
        None => "AWS, by the region of each tunnel".to_owned(),
    };
    let services = settings.services.lines().join("\n          ");
    format!(
        "thing     {}\nmqtt      {}\ntunnels   {tunnels}\nservices  {services}\nstate     {}\n",
        settings.thing,
        settings.endpoint,
        settings.state_dir.display()
    )
}

fn web_proxy(settings: &AgentSettings) -> Result<Option<WebProxy>, ExitCode> {
    let Some(found) = &settings.web_proxy else {
        return Ok(None);
    };
    WebProxy::parse(found.url.expose()).map(Some).map_err(|fault| {
        error!("{}: {fault}", found.variable);
        error!("hint: write it as [http|https]://[user:password@]host[:port], or leave it empty for none");
        ExitCode::Usage
    })
}

/// Notifications that wait to be judged; the service waits for each.
const DELIVERIES_MAX: usize = 1;

/// A name in the state directory under which nothing ever is.
const NOWHERE: &str = "no-such-service";
