//! `adit connect`: holds ports open that lead to services of a device, tunnel after tunnel.
//!
//! ```text
//! get a tunnel ─► carry it ─┬─ its end is near ─► open the next, change over, let the old one run out
//!      ▲                    ├─ cut or refused ──► new token for it if it is still open, else another
//!      └────────────────────┘  (with a growing pause while that does not help)
//! ```
//!
//! The ports stay open from the first tunnel on. The last tunnel that listened keeps them until the next one
//! does: at a change-over it takes connections until then; where it was lost, those that come within ten seconds
//! wait for the next, and later ones are reset at once.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use adit_engine::link::{
    Backoff, BackoffPolicy, Deadlines, DialSettings, Dialer, Keeper, KeeperSettings, LinkTls,
    Notice, Outcome, Ports,
};
use adit_engine::ring::{self, Address, LoopHandle, ProxyId, ProxyOptions};
use adit_engine::tls::{ClientTls, RecordsChoice, client_config};
use adit_engine::tunnel::limits::Limits;
use adit_engine::tunnel::proxy::{Proxy, ProxySettings};
use adit_proto::{ClientToken, Mode, Subprotocol};
use rustls::ClientConfig;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::arrival::{Arrival, Waiting, again};
use super::custody::Custody;
use super::session::Session;
use super::settings::ConnectSettings;
use super::table::print;
use super::trouble::Trouble;
use crate::aws::Client;
use crate::exit::ExitCode;
use crate::run::{IO_HINT, Stop};
use crate::settings::limits::Limits as Bounds;
use crate::settings::service::ServiceAddress;

/// Holds the ports until a signal ends it, or something that no other tunnel would mend.
pub(crate) async fn connect(settings: ConnectSettings) -> Result<ExitCode, Trouble> {
    let mut stop = Stop::of_command().map_err(Trouble::signals)?;
    let custody = Custody::new(Arc::new(Client::new(settings.api.clone())?));
    let (event_loop, thread) = ring::start("adit-data".into(), settings.io).map_err(|fault| {
        Trouble::new(
            format_args!("--io {}: {fault}", settings.io),
            IO_HINT,
            ExitCode::Failure,
        )
    })?;
    let mut holder = Holder {
        tls: tls(&settings)?,
        custody: &custody,
        settings: &settings,
        event_loop: event_loop.clone(),
        ports: Ports::default(),
        next_id: 0,
        before: None,
        old: JoinSet::new(),
    };
    let outcome = holder.hold(&mut stop).await;
    if !settings.session.keep {
        stop.ends_at_once();
        custody.end().await;
    }
    holder.old.shutdown().await;
    event_loop.finish();
    event_loop.ended().await;
    let _ = thread.join();
    outcome
}

/// Carries one tunnel after the other.
struct Holder<'a> {
    custody: &'a Custody,
    settings: &'a ConnectSettings,
    tls: Arc<ClientConfig>,
    event_loop: LoopHandle,
    /// Open from the first tunnel to the end of the command.
    ports: Ports,
    next_id: u64,
    /// The last tunnel that has listened, until the one being carried does.
    before: Option<Carried>,
    /// Tunnels that have been replaced, until their last connection is done or their lifetime is over:
    /// with the shortest lifetime, one at a time.
    old: JoinSet<()>,
}

/// A tunnel, being carried.
struct Carried {
    session: Session,
    since: Instant,
    /// Ends it, and says for how long its connections may go on.
    stop: oneshot::Sender<Duration>,
    task: JoinHandle<()>,
    /// Its first port is open. No use once that was heard.
    listens: oneshot::Receiver<()>,
    /// It is over; its ports stay open until it is stopped.
    over: oneshot::Receiver<Outcome>,
    /// Expects the device; goes with the value.
    expecting: JoinSet<()>,
}

impl Carried {
    /// Lets its connections go on for a moment, and ends it.
    async fn leave(self) {
        drop(self.expecting);
        let _ = self.stop.send(Bounds::default().drain_timeout);
        let _ = self.task.await;
    }
}

impl Holder<'_> {
    async fn hold(&mut self, stop: &mut Stop) -> Result<ExitCode, Trouble> {
        let got = Session::get(self.custody, &self.settings.session);
        let Some(got) = stop.unless_requested(got).await else {
            return Ok(ExitCode::Ended);
        };
        let mut carried = self.carry(got?)?;
        let mut backoff = Backoff::new(BackoffPolicy::default());
        loop {
            let renewal = renewal(&carried.session, carried.since);
            let next = tokio::select! {
                biased;
                () = stop.requested() => None,
                Ok(()) = &mut carried.listens, if self.before.is_some() => {
                    self.let_go_of_the_one_before();
                    continue;
                }
                outcome = &mut carried.over => {
                    let pause = backoff.after_loss(carried.since.elapsed(), random());
                    self.decide(outcome)?;
                    let next = self.after(&carried.session, pause, &mut backoff);
                    stop.unless_requested(next).await
                }
                () = sleep_until(renewal) => match stop.unless_requested(self.next()).await {
                    Some(Err(trouble)) => {
                        warn!("{trouble}; the tunnel in use goes on for now");
                        carried.since = Instant::now() + CHANGE_OVER;
                        continue;
                    }
                    Some(Ok(next)) => {
                        info!("changing over to the next tunnel");
                        Some(Ok(next))
                    }
                    None => None,
                },
            };
            let Some(next) = next else {
                carried.leave().await;
                return Ok(ExitCode::Ended);
            };
            let next = self.carry(next?)?;
            self.replace(std::mem::replace(&mut carried, next));
        }
    }

    /// The next tunnel is being carried: the one before it holds the ports until that one does.
    fn replace(&mut self, mut last: Carried) {
        last.expecting.abort_all();
        match self.before {
            // It came to nothing: the ports are still with the one before it.
            Some(_) => self.let_go(last),
            None => self.before = Some(last),
        }
    }

    fn let_go_of_the_one_before(&mut self) {
        if let Some(before) = self.before.take() {
            self.let_go(before);
        }
    }

    /// It listens no more; its connections may go on until its lifetime is over.
    fn let_go(&mut self, last: Carried) {
        let left = last.session.ends.saturating_duration_since(Instant::now());
        let _ = last.stop.send(left);
        let task = last.task;
        self.old.spawn(async move {
            let _ = task.await;
        });
        while self.old.try_join_next().is_some() {}
    }

    /// Starts to carry a tunnel.
    fn carry(&mut self, session: Session) -> Result<Carried, Trouble> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|fault| {
            Trouble::failure(format_args!("the system gives no randomness: {fault}"))
        })?;
        let proxy = Proxy::new(
            ProxySettings {
                mode: Mode::Source,
                mapping: self.settings.mapping.clone(),
                dialect: None,
                limits: Limits::default(),
            },
            seed,
        );
        let (tell_listening, listens) = oneshot::channel();
        let keeper = Keeper::new(
            Dialer::new(self.dial_settings(&session)?),
            self.event_loop.clone(),
            ProxyId(self.next_id),
            self.keeper_settings(),
            notify(self.settings.is_json, tell_listening),
        )
        .with_ports(self.ports.clone());
        self.next_id += 1;
        let (stop, stopped) = oneshot::channel();
        let (tell_over, over) = oneshot::channel();
        let ending = move |outcome| {
            let _ = tell_over.send(outcome);
        };
        // Also completes when the sender goes.
        let stopped = async move { stopped.await.unwrap_or_default() };
        let task = tokio::spawn(keeper.hold(proxy, ending, stopped));
        Ok(Carried {
            expecting: self.expect(&session.id),
            session,
            since: Instant::now(),
            stop,
            task,
            listens,
            over,
        })
    }

    /// The tunnel that follows one whose time runs out, with the device on it if that can be had.
    async fn next(&self) -> Result<Session, Trouble> {
        let next = Session::open(self.custody, &self.settings.session).await?;
        let arrival = Arrival {
            client: &self.custody.client(),
            tunnel: &next.id,
            settings: &self.settings.session,
        };
        let thing = &self.settings.session.thing;
        let missing = match arrival
            .within(CHANGE_OVER, |waiting| say(thing, waiting))
            .await
        {
            Ok(true) => return Ok(next),
            Ok(false) => {
                Trouble::failure(format_args!("{thing} does not connect to the next tunnel"))
            }
            Err(trouble) => trouble,
        };
        self.custody.close(&next.id).await;
        Err(missing)
    }

    /// Waits for the device at a tunnel that is being carried already, and tells it again.
    fn expect(&self, tunnel: &str) -> JoinSet<()> {
        let client = self.custody.client();
        let (tunnel, settings) = (tunnel.to_owned(), self.settings.session.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let arrival = Arrival {
                client: &client,
                tunnel: &tunnel,
                settings: &settings,
            };
            let thing = &settings.thing;
            match arrival
                .within(EXPECTED, |waiting| say(thing, waiting))
                .await
            {
                Ok(true) => {}
                Ok(false) => warn!(
                    "{thing} does not connect; is `adit agent` running there and online? \
                     `adit thing describe {thing}` shows whether its certificate is active"
                ),
                // The tunnel itself says what else happens to it.
                Err(trouble) => debug!("not waiting for {thing} any more: {trouble}"),
            }
        });
        tasks
    }

    /// What an end means: nothing that another tunnel mends is an error.
    fn decide(&self, outcome: Result<Outcome, oneshot::error::RecvError>) -> Result<(), Trouble> {
        match outcome {
            Ok(Outcome::Closed(_)) => info!("the service closed the tunnel"),
            Ok(Outcome::Drained) => {}
            Ok(Outcome::Refused(fault) | Outcome::Unreachable(fault)) => warn!("{fault}"),
            Ok(Outcome::Failed(mistake)) => warn!("{mistake}"),
            Ok(Outcome::Broken(reason)) => return Err(Trouble::failure(reason)),
            Ok(Outcome::Mismatch(mismatch)) => {
                let hint = "run it with --new to open a tunnel of its own";
                return Err(Trouble::new(mismatch, hint, ExitCode::MappingMismatch));
            }
            Ok(Outcome::CannotListen { endpoint, source }) => {
                return Err(Trouble::new(
                    format_args!("cannot listen on {endpoint}: {source}"),
                    listen_hint(&source),
                    ExitCode::CannotListen,
                ));
            }
            Err(_) => return Err(Trouble::failure("the tunnel ended without a word")),
        }
        Ok(())
    }

    /// The same tunnel with a new token if it is still open, else another.
    async fn after(
        &self,
        last: &Session,
        mut pause: Duration,
        backoff: &mut Backoff,
    ) -> Result<Session, Trouble> {
        loop {
            sleep(pause).await;
            let renewed = match last.renewed(&self.custody.client()).await {
                Ok(Some(renewed)) => Ok(renewed),
                Ok(None) => Session::open(self.custody, &self.settings.session).await,
                Err(fault) => Err(fault.into()),
            };
            match renewed {
                Ok(session) => return Ok(session),
                Err(trouble) if trouble.code() == ExitCode::Unreachable => warn!("{trouble}"),
                Err(trouble) => return Err(trouble),
            }
            // Its retries never end.
            pause = backoff.after_failure(random()).unwrap_or_default();
        }
    }

    fn dial_settings(&self, session: &Session) -> Result<DialSettings, Trouble> {
        let client_token = ClientToken::strict(Uuid::new_v4().hyphenated().to_string());
        let client_token = client_token.map_err(Trouble::failure)?;
        let ServiceAddress { host, port } = &self.settings.session.tunnel;
        let web_proxy = self.settings.api.web_proxies.to(host, *port);
        Ok(DialSettings {
            host: host.clone(),
            port: *port,
            mode: Mode::Source,
            access_token: session.token.clone(),
            client_token: Some(client_token),
            subprotocol: Subprotocol::V3.name().to_owned(),
            user_agent: concat!("adit/", env!("CARGO_PKG_VERSION")).to_owned(),
            bind: None,
            web_proxy: web_proxy.cloned(),
            tls: Some(LinkTls::new(
                Arc::clone(&self.tls),
                RecordsChoice::default(),
            )),
            deadlines: Deadlines::default(),
        })
    }

    fn keeper_settings(&self) -> KeeperSettings {
        KeeperSettings {
            backoff: BackoffPolicy::default(),
            reconnect: true,
            bind_host: self.settings.local_host.clone(),
            listen_retries: Some(0),
            listen_delay: Duration::ZERO,
            drain_timeout: Bounds::default().drain_timeout,
            options: ProxyOptions::default(),
        }
    }
}

/// When the next tunnel is opened: a tenth of the lifetime before the end, ten minutes at most. Never
/// before `since`, which a failure puts into the future.
fn renewal(session: &Session, since: Instant) -> Instant {
    let left = session.ends.saturating_duration_since(since);
    let margin = (left / 10).clamp(MARGIN_MIN.min(left / 2), MARGIN_MAX);
    session.ends.checked_sub(margin).unwrap_or(since).max(since)
}

fn say(thing: &str, waiting: Waiting) {
    match waiting {
        Waiting::Still(_) => {}
        Waiting::Again(waited, number) => warn!("{}", again(thing, waited, number)),
        Waiting::Mute(fault) => warn!("{thing} cannot be told again: {fault}"),
    }
}

fn notify(is_json: bool, listens: oneshot::Sender<()>) -> impl FnMut(Notice<'_>) + Send {
    let mut listens = Some(listens);
    move |notice| match notice {
        Notice::Connected { .. } => info!("tunnel connected"),
        Notice::Listening {
            service, address, ..
        } => {
            let service = service.map_or("", |id| id.as_str());
            let place = match address {
                Address::Ip(address) => address.to_string(),
                Address::Unix(path) => path.display().to_string(),
            };
            let printed = print(&if is_json {
                format!("{}\n", json!({ "listening": place, "service": service }))
            } else {
                format!("{service}  {place}\n")
            });
            // The port is open, and was asked for by its number mostly.
            if let Err(trouble) = printed {
                warn!("{trouble}");
            }
            if let Some(listens) = listens.take() {
                let _ = listens.send(());
            }
        }
        Notice::Retrying {
            reason,
            hint,
            delay,
        } => {
            warn!("{reason}; connecting again in {:.1} s", delay.as_secs_f32());
            if let Some(hint) = hint {
                info!("hint: {hint}");
            }
        }
    }
}

fn tls(settings: &ConnectSettings) -> Result<Arc<ClientConfig>, Trouble> {
    let ca_path: Option<PathBuf> = settings.api.ca.clone();
    let tls = ClientTls {
        ca_path,
        no_verify: false,
        ..ClientTls::default()
    };
    client_config(&tls).map_err(|fault| {
        Trouble::new(
            format_args!("--ca-bundle: {fault}"),
            "",
            ExitCode::BadConfiguration,
        )
    })
}

fn listen_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            "another program has it: choose another port, or end that program"
        }
        io::ErrorKind::PermissionDenied => "ports under 1024 need a privilege: choose a higher one",
        io::ErrorKind::AddrNotAvailable => "give an address of this machine with -b",
        _ => "choose another port or address",
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the pause is the longest, which is safe.
    if getrandom::fill(&mut bytes).is_err() {
        return u64::MAX;
    }
    u64::from_ne_bytes(bytes)
}

/// For the device to come to the next tunnel, before the one in use is left.
const CHANGE_OVER: Duration = Duration::from_secs(30);

/// For the device to come to a tunnel in use, all reminders included.
const EXPECTED: Duration = Duration::from_secs(120);

const MARGIN_MIN: Duration = Duration::from_secs(10);
const MARGIN_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use adit_proto::AccessToken;

    use super::*;

    #[test]
    fn the_next_tunnel_is_opened_before_the_last_one_ends() {
        let begun = Instant::now();
        let minutes = |count: u64| Duration::from_secs(count * 60);
        for (lifetime, margin) in [
            (minutes(720), minutes(10)),
            (minutes(60), minutes(6)),
            (minutes(1), Duration::from_secs(10)),
            (Duration::from_secs(8), Duration::from_secs(4)),
        ] {
            let session = Session {
                id: String::new(),
                token: AccessToken::new("t".to_owned()).unwrap(),
                ends: begun + lifetime,
            };
            assert_eq!(session.ends - renewal(&session, begun), margin);
            assert_eq!(renewal(&session, session.ends), session.ends);
        }
    }
}
