//! Runs one side of a tunnel, until it ends.

use std::io;
use std::time::Duration;

use adit_engine::link::{
    BackoffPolicy, Deadlines, DialSettings, Dialer, Keeper, KeeperSettings, LinkError, LinkTls,
    Notice as Event, Outcome, WebProxy,
};
use adit_engine::ring::{self, Address, ProxyId, ProxyOptions};
use adit_engine::tls::ClientTls;
use adit_engine::tunnel::limits::Limits;
use adit_engine::tunnel::proxy::{self as core, Proxy};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::runtime::{self, Stop};
use super::stdio::{Stdio, StdioError};
use crate::exit::ExitCode;
use crate::output::{self, Notice};
use crate::personality::Personality;
use crate::settings::ProxySettings;

/// Runs one side of a tunnel, until it ends.
pub fn proxy(settings: ProxySettings) -> ExitCode {
    match runtime::run(run(settings)) {
        Ok(Ok(code)) => code,
        Ok(Err(code)) => code,
        Err(fault) => {
            error!("cannot start: {fault}");
            ExitCode::Failure
        }
    }
}

async fn run(settings: ProxySettings) -> Result<ExitCode, ExitCode> {
    // Before the first line: whoever reads that may send a signal.
    let mut stop = Stop::new().map_err(|fault| {
        error!("cannot watch for signals: {fault}");
        ExitCode::Failure
    })?;
    let dialer = Dialer::new(dial_settings(&settings)?);
    let (event_loop, thread) = ring::start("adit-data".into(), settings.io).map_err(|fault| {
        error!("--io {}: {fault}", settings.io);
        error!("hint: {IO_HINT}");
        ExitCode::Failure
    })?;
    info!(backend = event_loop.backend(), "data plane started");
    let service = settings.service.clone();
    let personality = settings.personality;
    let notify = move |event: Event<'_>| tell(&event, personality, &service);
    let keeper = Keeper::new(
        dialer,
        event_loop.clone(),
        ProxyId(0),
        keeper_settings(&settings),
        notify,
    );
    let proxy = new_proxy(&settings)?;
    let code = if settings.mapping.is_stdio() {
        carry_stdio(keeper, proxy, &mut stop, personality).await?
    } else {
        conclude(&keeper.run(proxy, stop.requested()).await, personality)
    };
    event_loop.finish();
    event_loop.ended().await;
    let _ = thread.join();
    Ok(code)
}

/// Runs a source whose one connection is standard input and output: its end is the end, and what
/// became of it is the answer.
async fn carry_stdio(
    keeper: Keeper<impl FnMut(Event<'_>)>,
    proxy: Proxy,
    stop: &mut Stop,
    personality: Personality,
) -> Result<ExitCode, ExitCode> {
    let (mut stdio, socket) = Stdio::start().map_err(|fault| {
        error!("cannot use standard input and output: {fault}");
        ExitCode::Failure
    })?;
    let mut is_asked_to_end = false;
    let ended = async {
        is_asked_to_end = stop.unless_requested(stdio.ended()).await.is_none();
    };
    let keeper = keeper.with_stdio(socket);
    let (outcome, counters) = keeper.run_counting(proxy, ended).await;
    let code = conclude(&outcome, personality);
    // The tunnel may have ended before its last bytes were written.
    if code != ExitCode::Ended || is_asked_to_end {
        let _ = timeout(WRITE_LIMIT, stdio.ended()).await;
        return Ok(code);
    }
    tokio::select! {
        () = stop.requested() => {}
        () = stdio.ended() => {}
    }
    match stdio.verdict(&counters) {
        Ok(()) => Ok(code),
        Err(fault @ StdioError::NoReader) => {
            info!("{fault}");
            Ok(ExitCode::Failure)
        }
        Err(fault) => Ok(say(&fault, fault.hint(), ExitCode::Failure)),
    }
}

/// For what has come through the tunnel to be written out, once it is over for another reason than its own good end.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// The core of a proxy, with masks that nobody can foretell.
fn new_proxy(settings: &ProxySettings) -> Result<Proxy, ExitCode> {
    let seed = runtime::seed().map_err(|fault| {
        error!("the system gives no randomness: {fault}");
        ExitCode::Failure
    })?;
    let limits = &settings.limits;
    let settings = core::ProxySettings {
        mode: settings.mode,
        mapping: settings.mapping.clone(),
        dialect: settings.dialect,
        limits: Limits {
            connections_max: limits.connections_max as usize,
            service_connections_max: limits
                .service_connections_max
                .map_or(usize::MAX, |max| max as usize),
            connection_buffer: limits.connection_buffer_size,
            tunnel_buffer: limits.tunnel_buffer_size,
            payload_max: settings.payload_size_max,
            stall_timeout: limits.stall_timeout,
            ping_interval: limits.ping_interval,
            half_close_grace: limits.half_close_grace,
        },
    };
    Ok(Proxy::new(settings, seed))
}

fn dial_settings(settings: &ProxySettings) -> Result<DialSettings, ExitCode> {
    let web_proxy = settings.web_proxy.as_ref().map(|found| {
        WebProxy::parse(found.url.expose()).map_err(|fault| {
            error!("{}: {fault}", found.variable);
            info!("hint: write it as [http|https]://[user:password@]host[:port], or leave it empty for none");
            ExitCode::Usage
        })
    });
    let trust = ClientTls {
        ca_path: settings.tls.ca_path.clone(),
        no_verify: !settings.tls.verify,
        pins: settings.tls.pins.clone(),
    };
    let tls = LinkTls::from_settings(&trust, settings.records.into()).map_err(|fault| {
        error!("--capath: {fault}");
        ExitCode::BadConfiguration
    })?;
    Ok(DialSettings {
        host: settings.service.host.clone(),
        port: settings.service.port,
        mode: settings.mode,
        access_token: settings.access_token.clone(),
        client_token: Some(settings.client_token.clone()),
        subprotocol: settings.subprotocol.name().to_owned(),
        user_agent: runtime::USER_AGENT.to_owned(),
        bind: None,
        web_proxy: web_proxy.transpose()?,
        tls: Some(tls),
        deadlines: Deadlines::default(),
    })
}

fn keeper_settings(settings: &ProxySettings) -> KeeperSettings {
    let retries = &settings.retries;
    let options = ProxyOptions {
        default_host: settings.local_host.clone(),
        announces_connections: settings.personality == Personality::Localproxy,
        dial_retries: retries.dials,
    };
    KeeperSettings {
        backoff: BackoffPolicy {
            base: retries.service_delay,
            retries: retries.service_max,
            ..BackoffPolicy::default()
        },
        reconnect: retries.reconnect,
        bind_host: settings.local_host.clone(),
        listen_retries: retries.local_max,
        listen_delay: retries.local_delay,
        drain_timeout: settings.limits.drain_timeout,
        options,
    }
}

/// What to do where a mistake of ours ended a tunnel.
const MISTAKE_HINT: &str = "start it again, and please report this line with the one above";

/// What to do where the chosen kernel interface is not to be had.
pub(crate) const IO_HINT: &str = "--io auto takes epoll where io_uring is not to be had";

fn tell(
    event: &Event<'_>,
    personality: Personality,
    service: &crate::settings::service::ServiceAddress,
) {
    match event {
        Event::Connected { channel_id } => {
            Notice::Connected { service }.tell(personality);
            if !channel_id.is_empty() {
                Notice::Session { channel_id }.tell(personality);
            }
        }
        Event::Listening {
            service,
            address,
            is_assigned,
        } => {
            let place = match address {
                Address::Ip(address) => address.port().to_string(),
                Address::Unix(path) => path.display().to_string(),
            };
            let service_id = service.map(|id| id.as_str());
            if let (true, Some(service_id)) = (is_assigned, service_id) {
                Notice::Assigned {
                    service_id,
                    place: &place,
                }
                .tell(personality);
            }
            Notice::Listening {
                place: &place,
                service_id,
            }
            .tell(personality);
        }
        Event::Retrying {
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

/// Says why it ended, and how the process is to end.
fn conclude(outcome: &Outcome, personality: Personality) -> ExitCode {
    match outcome {
        Outcome::Closed(code) => {
            info!(code, "the service closed the tunnel");
            ExitCode::Ended
        }
        Outcome::Drained => ExitCode::Ended,
        Outcome::Refused(fault) => {
            if let LinkError::Refused { .. } = fault {
                return say(fault, fault.hint(), ExitCode::Refused);
            }
            let text = format_args!("{fault}; not trying again, which would end the same way");
            say(&text, fault.hint(), ExitCode::CannotConnect)
        }
        Outcome::Unreachable(fault) => say(fault, fault.hint(), ExitCode::Unreachable),
        Outcome::Broken(reason) => say(reason, None, ExitCode::Failure),
        Outcome::Failed(mistake) => say(mistake, Some(MISTAKE_HINT), ExitCode::Failure),
        Outcome::Mismatch(mismatch) => {
            output::tell_mismatch(mismatch, personality);
            ExitCode::MappingMismatch
        }
        Outcome::CannotListen { endpoint, source } => {
            let hint = match source.kind() {
                io::ErrorKind::AddrInUse => {
                    "another program has it: choose another port, or end that program"
                }
                io::ErrorKind::PermissionDenied => {
                    "ports under 1024 need a privilege: choose a higher one"
                }
                io::ErrorKind::AddrNotAvailable => "give an address of this machine with -b",
                _ => "choose another port or address",
            };
            say(
                &format_args!("cannot listen on {endpoint}: {source}"),
                Some(hint),
                ExitCode::CannotListen,
            )
        }
    }
}

fn say(fault: &dyn std::fmt::Display, hint: Option<&str>, code: ExitCode) -> ExitCode {
    error!("{fault}");
    if let Some(hint) = hint {
        error!("hint: {hint}");
    }
    code
}
