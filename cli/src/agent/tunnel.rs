//! One tunnel: a destination on the loop that all tunnels of the agent share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use adit_engine::link::{
    BackoffPolicy, Deadlines, DialSettings, Dialer, Keeper, KeeperSettings, LinkError, LinkTls,
    Lookups, Notice, Outcome, WebProxy,
};
use adit_engine::ring::{LoopHandle, ProxyId, ProxyOptions};
use adit_engine::tunnel::endpoint::Endpoint;
use adit_engine::tunnel::limits::Limits;
use adit_engine::tunnel::mapping::Mapping;
use adit_engine::tunnel::proxy::{Proxy, ProxySettings};
use adit_proto::handshake::HandshakeError;
use adit_proto::{Mode, ServiceId, Subprotocol};
use adit_service::clock::Clock;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::hook::{Facts, Hook, Turn};
use super::ledger::{Millis, Record};
use super::services::Chosen;
use super::settings::AgentLimits;
use super::standing::Standing;
use crate::settings::service::ServiceAddress;

/// What all tunnels of an agent share.
pub(super) struct Shared {
    pub(super) event_loop: LoopHandle,
    pub(super) lookups: Lookups,
    pub(super) tls: LinkTls,
    pub(super) web_proxy: Option<WebProxy>,
    pub(super) limits: AgentLimits,
    /// A socket that nobody listens on: where services that this device does not know lead.
    pub(super) nowhere: PathBuf,
    pub(super) hook: Hook,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) clock: Clock,
}

impl Shared {
    /// The time by which tunnels are reckoned.
    pub(super) fn now(&self) -> Millis {
        self.clock.now().steady.millis()
    }
}

/// Everything about one tunnel.
pub(super) struct Tunnel {
    pub(super) facts: Facts,
    pub(super) record: Record,
    pub(super) endpoint: ServiceAddress,
    pub(super) chosen: Chosen,
}

/// How a tunnel left the agent.
#[derive(Debug)]
pub(super) enum Ending {
    /// It is over, for this reason; its token is of no use any more.
    Over(String),
    /// The agent ends before it; the next one goes on with it.
    Interrupted,
}

impl Tunnel {
    /// Carries the tunnel until it is over, or until `stop` says that the agent ends.
    pub(super) async fn carry(self, shared: Arc<Shared>, stop: watch::Receiver<bool>) -> Ending {
        let number = self.facts.tunnel;
        let ending = self.carry_to_the_end(&shared, &stop).await;
        let reason = match &ending {
            Ending::Over(reason) => {
                info!(tunnel = number, "tunnel closed: {reason}");
                reason
            }
            Ending::Interrupted => "the agent ends; it goes on when the agent is started again",
        };
        shared.hook.tell(Turn::Closed, &self.facts, reason);
        ending
    }

    /// Carries it anew after what is not the tunnel's end.
    async fn carry_to_the_end(&self, shared: &Shared, stop: &watch::Receiver<bool>) -> Ending {
        let mut mistakes = 0;
        loop {
            let outcome = match self.carry_once(shared, stop, mistakes).await {
                Ok(outcome) => outcome,
                Err(fault) => {
                    return Ending::Over(format!("the system gives no randomness: {fault}"));
                }
            };
            let outcome = match outcome {
                Outcome::Failed(_) if mistakes + 1 < MISTAKES_MAX => {
                    mistakes += 1;
                    warn!(tunnel = self.facts.tunnel, "the tunnel is carried anew");
                    continue;
                }
                Outcome::Refused(fault) if !is_of_the_tunnel(&fault) => {
                    if self.waits_after(&fault, shared, stop).await {
                        continue;
                    }
                    Outcome::Drained
                }
                outcome => outcome,
            };
            return ending(&outcome, *stop.borrow());
        }
    }

    /// Waits as long as there may be between two tries. `false`: the tunnel's time or the agent's is over before.
    ///
    /// What stands in the way is not the tunnel's affair, may stand in the way of all of them, and waits for somebody.
    async fn waits_after(
        &self,
        fault: &LinkError,
        shared: &Shared,
        stop: &watch::Receiver<bool>,
    ) -> bool {
        let (reason, hint) = (fault, fault.hint());
        let delay = BackoffPolicy::default().cap;
        self.notify(shared)(Notice::Retrying {
            reason,
            hint,
            delay,
        });
        let lifetime = lifetime(self.record.ends, shared.now());
        timeout(delay, until(stop.clone(), lifetime)).await.is_err()
    }

    async fn carry_once(
        &self,
        shared: &Shared,
        stop: &watch::Receiver<bool>,
        mistakes: u32,
    ) -> Result<Outcome, getrandom::Error> {
        let proxy = self.proxy(shared)?;
        let keeper = Keeper::new(
            Dialer::new(self.dial_settings(shared)),
            shared.event_loop.clone(),
            proxy_id(self.facts.tunnel, mistakes),
            keeper_settings(shared.limits.drain_timeout),
            self.notify(shared),
        )
        .with_lookups(shared.lookups.clone());
        let lifetime = lifetime(self.record.ends, shared.now());
        Ok(keeper.run(proxy, until(stop.clone(), lifetime)).await)
    }

    fn proxy(&self, shared: &Shared) -> Result<Proxy, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        let settings = ProxySettings {
            mode: Mode::Destination,
            mapping: Mapping::default().with_table(table(&self.chosen, &shared.nowhere)),
            dialect: None,
            limits: Limits {
                connections_max: shared.limits.connections as usize,
                ping_interval: shared.limits.ping_interval,
                ..Limits::default()
            },
        };
        Ok(Proxy::new(settings, seed))
    }

    fn dial_settings(&self, shared: &Shared) -> DialSettings {
        DialSettings {
            host: self.endpoint.host.clone(),
            port: self.endpoint.port,
            mode: Mode::Destination,
            access_token: self.record.access_token.clone(),
            client_token: Some(self.record.client_token.clone()),
            subprotocol: Subprotocol::V3.name().to_owned(),
            user_agent: concat!("adit/", env!("CARGO_PKG_VERSION")).to_owned(),
            bind: None,
            web_proxy: shared.web_proxy.clone(),
            tls: Some(shared.tls.clone()),
            deadlines: Deadlines::default(),
        }
    }

    fn notify(&self, shared: &Shared) -> impl FnMut(Notice<'_>) + Send + use<> {
        let facts = self.facts.clone();
        let (hook, standing) = (shared.hook.clone(), shared.standing.clone());
        move |notice| match notice {
            Notice::Connected { channel_id } => {
                info!(tunnel = facts.tunnel, services = %facts.services, "tunnel connected");
                debug!(tunnel = facts.tunnel, channel_id, "session opened");
                hook.tell(Turn::Connected, &facts, "");
                standing.send_modify(|standing| standing.on_connected(facts.tunnel));
            }
            Notice::Retrying {
                reason,
                hint,
                delay,
            } => {
                let delay = delay.as_secs_f32();
                warn!(
                    tunnel = facts.tunnel,
                    "{reason}; connecting again in {delay:.1} s"
                );
                if let Some(hint) = hint {
                    info!("hint: {hint}");
                }
            }
            // A destination has no listeners.
            Notice::Listening { .. } => {}
        }
    }
}

/// Every service of the tunnel has a place, or the core would refuse them all. One that this device does
/// not know leads nowhere: its connections are reset at once, and those of the others work.
fn table(chosen: &Chosen, nowhere: &std::path::Path) -> BTreeMap<String, Endpoint> {
    let name = |service: &ServiceId| service.as_str().to_owned();
    let known = chosen
        .known
        .iter()
        .map(|(id, place)| (name(id), place.clone()));
    let nowhere = || Endpoint::Unix(nowhere.to_owned());
    let unknown = chosen.unknown.iter().map(|id| (name(id), nowhere()));
    known.chain(unknown).collect()
}

fn keeper_settings(drain_timeout: Duration) -> KeeperSettings {
    KeeperSettings {
        // For ever: the lifetime of the tunnel is the end of it.
        backoff: BackoffPolicy::default(),
        reconnect: true,
        bind_host: String::new(),
        listen_retries: Some(0),
        listen_delay: Duration::ZERO,
        drain_timeout,
        options: ProxyOptions::default(),
    }
}

/// So often a tunnel is carried though a mistake of ours ended it each time; then what it is sent is the
/// likely cause, and comes again.
const MISTAKES_MAX: u32 = 3;

/// Each try after a mistake has an id of its own: the answer of a look-up that an earlier one began must not be taken
/// for that of a connection which has the same key in this one. After a pause between tries no look-up goes on.
fn proxy_id(tunnel: u64, mistakes: u32) -> ProxyId {
    ProxyId(tunnel | u64::from(mistakes) << (u64::BITS - MISTAKES_MAX))
}

fn lifetime(ends: Millis, now: Millis) -> Duration {
    Duration::from_millis(ends.saturating_sub(now))
}

/// Completes when the agent ends, or the tunnel's time is over.
async fn until(mut stop: watch::Receiver<bool>, lifetime: Duration) {
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = tokio::time::sleep(lifetime) => {}
    }
}

/// What the end of the connection says about the tunnel.
fn ending(outcome: &Outcome, is_stopping: bool) -> Ending {
    Ending::Over(match outcome {
        Outcome::Closed(_) => "the service closed it".to_owned(),
        Outcome::Drained if is_stopping => return Ending::Interrupted,
        Outcome::Drained => "its lifetime is over".to_owned(),
        Outcome::Refused(fault) | Outcome::Unreachable(fault) if is_of_the_tunnel(fault) => {
            fault.to_string()
        }
        Outcome::Refused(_) | Outcome::Unreachable(_) => return Ending::Interrupted,
        Outcome::Mismatch(mismatch) => mismatch.to_string(),
        Outcome::Failed(mistake) => mistake.clone(),
        // The loop is gone, so this agent is no good any more; the next one may be.
        Outcome::Broken(_) => return Ending::Interrupted,
        Outcome::CannotListen { endpoint, source } => {
            format!("cannot listen on {endpoint}: {source}")
        }
    })
}

/// Whether a fault tells of the tunnel: the service has refused its token, or never could be asked with it. A web
/// proxy that wants a password, a name that cannot be certified and an answer that makes no sense tell of the way
/// there, and the tunnel is there all the same.
fn is_of_the_tunnel(fault: &LinkError) -> bool {
    match fault {
        LinkError::Refused { .. } => true,
        LinkError::Answer { source, .. } => matches!(
            source,
            HandshakeError::HeaderValue { .. } | HandshakeError::RequestTooLong { .. }
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use adit_engine::link::ProxyError;
    use adit_proto::handshake::Refusal;

    use super::*;
    use crate::agent::services::ServiceMap;

    #[test]
    fn every_service_has_a_place_and_unknown_ones_lead_nowhere() {
        let services: Vec<ServiceId> = ["SSH", "X"].map(|name| name.parse().unwrap()).into();
        let table = table(
            &ServiceMap::default().choose(&services),
            Path::new("/s/none"),
        );
        let places: Vec<String> = table
            .iter()
            .map(|(name, at)| format!("{name}={at}"))
            .collect();
        assert_eq!(places, ["SSH=22", "X=/s/none"]);
        let mapping = Mapping::default().with_table(table);
        assert_eq!(
            mapping.resolve(Mode::Destination, &services).unwrap().len(),
            2
        );
    }

    const TOO_LONG: HandshakeError = HandshakeError::RequestTooLong { size: 9, max: 8 };

    fn answer(source: HandshakeError) -> LinkError {
        let host = "h".to_owned();
        LinkError::Answer { host, source }
    }

    fn refusal(status: u16) -> LinkError {
        let refusal = Refusal {
            status,
            reason: "Forbidden".to_owned(),
            body: String::new(),
            status_reason: None,
            channel_id: None,
        };
        let host = "h".to_owned();
        LinkError::Refused { host, refusal }
    }

    fn bars(status: u16) -> LinkError {
        LinkError::Proxy {
            proxy: "p:3128".to_owned(),
            source: ProxyError::Status { status },
        }
    }

    #[test]
    fn a_tunnel_is_kept_only_where_it_may_go_on() {
        for (outcome, is_stopping, is_over) in [
            (Outcome::Closed(Some(1000)), false, true),
            // It was closed before it could be interrupted.
            (Outcome::Closed(None), true, true),
            (Outcome::Drained, true, false),
            (Outcome::Drained, false, true),
            (Outcome::Broken("gone".into()), false, false),
            (Outcome::Refused(refusal(403)), false, true),
            (Outcome::Refused(refusal(403)), true, true),
            (Outcome::Refused(answer(TOO_LONG)), false, true),
            // In the way, for whatever tunnel.
            (
                Outcome::Refused(answer(HandshakeError::UnexpectedExtension)),
                false,
                false,
            ),
            (Outcome::Refused(bars(407)), false, false),
            (Outcome::Unreachable(bars(502)), false, false),
        ] {
            let ending = ending(&outcome, is_stopping);
            assert_eq!(matches!(ending, Ending::Over(_)), is_over, "{ending:?}");
        }
    }

    #[test]
    fn each_try_of_a_tunnel_is_another_proxy() {
        let mut ids: Vec<ProxyId> = (0..MISTAKES_MAX).map(|n| proxy_id(7, n)).collect();
        assert_eq!(ids[0], ProxyId(7), "its status is asked for by its number");
        ids.dedup();
        assert_eq!(ids.len(), MISTAKES_MAX as usize);
    }

    #[test]
    fn a_tunnel_whose_time_is_over_has_none_left() {
        assert_eq!(lifetime(7, 8), Duration::ZERO);
        assert_eq!(lifetime(60_008, 8), Duration::from_secs(60));
    }
}
