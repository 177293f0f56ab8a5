//! Where notifications are judged and tunnels begin and end. One task, so nothing is done twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use adit_proto::notification::{Notification, Region};
use adit_proto::{ClientToken, ServiceId};
use tokio::sync::watch;
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::hook::{Facts, Turn};
use super::ledger::store::Store;
use super::ledger::{Denial, Ledger, Record, TokenHash};
use super::services::{Chosen, ServiceMap};
use super::settings::{AgentLimits, Thing, tunnel_endpoint_of};
use super::tunnel::{Ending, Shared, Tunnel};
use crate::settings::service::ServiceAddress;

/// What decides about a notification, and does not change while the agent runs.
pub(super) struct Rules {
    pub(super) thing: Thing,
    pub(super) region: Option<Region>,
    pub(super) tunnel_endpoint: Option<ServiceAddress>,
    pub(super) limits: AgentLimits,
}

/// The agent's books and its running tunnels.
pub(super) struct Desk {
    rules: Rules,
    services: ServiceMap,
    store: Store,
    ledger: Ledger,
    /// When the ledger is to be written again, after it could not be.
    save_due: Option<Instant>,
    shared: Arc<Shared>,
    running: JoinSet<Ending>,
    hashes: HashMap<task::Id, TokenHash>,
    /// Number of the next tunnel, for the loop and for people.
    next: u64,
    stop: watch::Receiver<bool>,
    /// The last notification that waited for a place got none, and no tunnel has ended since.
    has_waited_in_vain: bool,
}

/// What became of a notification.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was acted on, or refused: done with.
    Done,
    /// There are as many tunnels as may be. Nothing was done, and it may be tried again when one has ended.
    Full,
}

impl Desk {
    pub(super) fn new(
        rules: Rules,
        services: ServiceMap,
        store: Store,
        shared: Arc<Shared>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let ledger = store.load(shared.now());
        Self {
            rules,
            services,
            store,
            ledger,
            save_due: None,
            shared,
            running: JoinSet::new(),
            hashes: HashMap::new(),
            next: 1,
            stop,
            has_waited_in_vain: false,
        }
    }

    /// Goes on with the tunnels that an agent before this one has left.
    pub(super) async fn resume(&mut self) {
        for record in self.ledger.tunnels().to_vec() {
            let chosen = self.choose(&record.services);
            if chosen.known.is_empty() {
                self.ledger.end(record.hash());
                continue;
            }
            self.begin(record, chosen, "resumed");
        }
        // What was over at the start is gone from the file as well.
        self.save().await;
    }

    /// When it is time to [`save_again`](Self::save_again).
    pub(super) fn save_due(&self) -> Option<Instant> {
        self.save_due
    }

    /// Writes down what could not be written before: a disk that was full once must not cost the next agent its
    /// tunnels when there has been space for long.
    pub(super) async fn save_again(&mut self) {
        if let Err(fault) = self.write_down().await {
            debug!("{fault}; it is tried again");
        }
    }

    /// What notifications meet now.
    pub(super) fn services(&self) -> &ServiceMap {
        &self.services
    }

    /// From now on, notifications meet this map. Tunnels that are open keep theirs.
    pub(super) fn set_services(&mut self, services: ServiceMap) {
        info!(services = services.names(), "the services were read again");
        self.services = services;
    }

    /// Acts on one notification, or refuses it, unless there is no place for its tunnel.
    pub(super) async fn on_notification(&mut self, payload: &[u8]) -> Verdict {
        let Some((notification, chosen)) = self.judge(payload) else {
            return Verdict::Done;
        };
        let Some(client_token) = client_token() else {
            error!("a notification is refused: the system gives no randomness");
            return Verdict::Done;
        };
        let tunnels_max = self.rules.limits.tunnels;
        let now = self.shared.now();
        match self
            .ledger
            .admit(notification, client_token, tunnels_max, now)
        {
            Ok(record) => {
                // Written down before the first connection: a token that was spent by an agent that is
                // gone is of use to nobody.
                self.save().await;
                self.begin(record, chosen, "");
            }
            Err(Denial::Repeated) => debug!("a notification came again and is ignored"),
            Err(Denial::Full) => {
                debug!("{tunnels_max} tunnels are open: a notification waits for one to end");
                return Verdict::Full;
            }
        }
        Verdict::Done
    }

    /// How long a notification waits for a place. The service has mostly closed the tunnel whose place it is
    /// for, and connections of that one may still be delivered what came before. Where the last one waited
    /// in vain, only for the news of such an end: a thousand that nobody sent in earnest must not
    /// keep a good one for hours.
    pub(super) fn patience(&self) -> Duration {
        if self.has_waited_in_vain {
            PATIENCE_IN_VAIN
        } else {
            self.rules.limits.drain_timeout + PATIENCE
        }
    }

    /// Refuses a notification whose patience is over.
    pub(super) fn refuse_full(&mut self) {
        self.has_waited_in_vain = true;
        let tunnels_max = self.rules.limits.tunnels;
        warn!("a notification is refused: {tunnels_max} tunnels are open, which is the limit");
    }

    /// What is asked for, if it is for this device, new, and names something that is here.
    fn judge(&self, payload: &[u8]) -> Option<(Notification, Chosen)> {
        let notification = match Notification::parse(payload) {
            Ok(notification) => notification,
            Err(fault) => {
                warn!("a notification is refused: {fault}");
                return None;
            }
        };
        if let Some(region) = &self.rules.region
            && *region != notification.region
        {
            let other = &notification.region;
            warn!("a notification is refused: it is for region {other}, not {region}");
            return None;
        }
        // Before anything is said about its services: a repeat is no news.
        if self.ledger.has_seen(&notification, self.shared.now()) {
            debug!("a notification came again and is ignored");
            return None;
        }
        let chosen = self.choose(&notification.services);
        if chosen.known.is_empty() {
            warn!("a notification is refused: it names no service of this device");
            return None;
        }
        Some((notification, chosen))
    }

    /// Completes when a tunnel has ended, never while none runs; to be followed by [`close`](Self::close).
    pub(super) async fn ended(&mut self) -> Ended {
        match self.running.join_next_with_id().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// Waits for all tunnels, once `stop` says so; what goes on later stays in the books.
    pub(super) async fn drain(mut self) {
        while let Some(ended) = self.running.join_next_with_id().await {
            self.close(ended).await;
        }
        if self.save_due.is_some() {
            self.save_again().await;
        }
    }

    /// Takes a tunnel that has ended out of the books.
    pub(super) async fn close(&mut self, ended: Ended) {
        self.has_waited_in_vain = false;
        let (id, is_over) = match ended {
            Ok((id, Ending::Over(_))) => (id, true),
            Ok((id, Ending::Interrupted)) => (id, false),
            Err(fault) => {
                // A bug of ours, and the end of this tunnel only (threat T-30).
                error!("a tunnel failed: {fault}");
                (fault.id(), true)
            }
        };
        let hash = self.hashes.remove(&id);
        if let (Some(hash), true) = (hash, is_over) {
            self.ledger.end(hash);
            self.save().await;
        }
    }

    /// Writes the books down after a change. A failure is told and survived.
    async fn save(&mut self) {
        if let Err(fault) = self.write_down().await {
            warn!("{fault}; until it can be, a restart of the agent will not resume its tunnels");
        }
    }

    /// Once it fails, it is due again.
    async fn write_down(&mut self) -> Result<(), String> {
        let written = self.store.save(&self.ledger).await;
        let due = written.is_err().then(|| Instant::now() + SAVE_AGAIN);
        let was_due = std::mem::replace(&mut self.save_due, due).is_some();
        if written.is_ok() && was_due {
            info!("the tunnels are written down again");
        }
        written
    }

    fn begin(&mut self, record: Record, chosen: Chosen, reason: &str) {
        let number = self.next;
        self.next += 1;
        let endpoint = match &self.rules.tunnel_endpoint {
            Some(endpoint) => endpoint.clone(),
            None => tunnel_endpoint_of(&record.region),
        };
        let names: Vec<&str> = chosen.known.iter().map(|(id, _)| id.as_str()).collect();
        let facts = Facts {
            tunnel: number,
            thing: self.rules.thing.to_string(),
            services: names.join(","),
            region: record.region.to_string(),
            endpoint: endpoint.to_string(),
        };
        let said = if reason.is_empty() { "opened" } else { reason };
        info!(tunnel = number, services = %facts.services, region = %record.region, "tunnel {said}");
        self.shared.hook.tell(Turn::Opened, &facts, reason);
        let standing = &self.shared.standing;
        standing.send_modify(|standing| standing.on_begun(number));
        let hash = record.hash();
        let tunnel = Tunnel {
            facts,
            record,
            endpoint,
            chosen,
        };
        let task = tunnel.carry(Arc::clone(&self.shared), self.stop.clone());
        self.hashes.insert(self.running.spawn(task).id(), hash);
    }

    /// Looks the services up, and tells those that this device does not have.
    fn choose(&self, services: &[ServiceId]) -> Chosen {
        let chosen = self.services.choose(services);
        if !chosen.unknown.is_empty() {
            let unknown: Vec<&str> = chosen.unknown.iter().map(ServiceId::as_str).collect();
            let known = self.services.names();
            warn!(
                "services that are not known here are refused: {}; known are {known}",
                unknown.join(", ")
            );
        }
        chosen
    }
}

/// Between two attempts to write the ledger on a disk that takes nothing. Each is a file that is made and removed.
const SAVE_AGAIN: Duration = Duration::from_secs(3);

/// Beside the drain timeout: for the news that a tunnel was closed, and for its end on the loop.
const PATIENCE: Duration = Duration::from_secs(3);

/// For that news alone.
const PATIENCE_IN_VAIN: Duration = Duration::from_secs(1);

/// What became of a tunnel's task.
pub(super) type Ended = Result<(task::Id, Ending), JoinError>;

/// A client token that nobody foretells.
fn client_token() -> Option<ClientToken> {
    // The library panics where the system gives no randomness.
    let mut random = [0; 16];
    getrandom::fill(&mut random).ok()?;
    let token = uuid::Builder::from_random_bytes(random).into_uuid();
    ClientToken::strict(token.hyphenated().to_string()).ok()
}
