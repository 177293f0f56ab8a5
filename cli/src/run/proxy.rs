//! Runs one side of a tunnel, until it ends.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use adit_engine::link::{
    BackoffPolicy, Deadlines, DialSettings, Dialer, Keeper, KeeperSettings, LinkError, LinkTls,
    Notice as Event, Outcome, WebProxy,
};
use adit_engine::ring::{self, Address, DialRetries, IoChoice, ProxyId, ProxyOptions};
use adit_engine::tls::{ClientTls, client_config};
use adit_engine::tunnel::limits::Limits;
use adit_engine::tunnel::proxy::{self as core, Proxy};
use adit_proto::Mode;
use tracing::{error, info, warn};

use super::runtime::{self, Stop};
use super::stdio::Stdio;
use crate::exit::ExitCode;
use crate::output::{self, Notice};
use crate::personality::Personality;
use crate::settings::io::Io;
use crate::settings::json::JsonSettings;
use crate::settings::{ProxySettings, Retries};

/// Runs one side of a tunnel, until it ends.
pub fn proxy(settings: ProxySettings) -> ExitCode {
    match runtime::start().map(|runtime| runtime.block_on(run(settings))) {
        Ok(Ok(code)) => code,
        Ok(Err(code)) => code,
        Err(fault) => {
            error!("cannot start: {fault}");
            ExitCode::Failure
        }
    }
}

async fn run(settings: ProxySettings) -> Result<ExitCode, ExitCode> {
    let dialer = Dialer::new(dial_settings(&settings)?);
    let (event_loop, thread) =
        ring::start("adit-data".into(), io_choice(settings.io)).map_err(|fault| {
            error!("--io {}: {fault}", settings.io);
            error!("hint: {IO_HINT}");
            ExitCode::Failure
        })?;
    info!(backend = event_loop.backend(), "data plane started");
    let options = ProxyOptions {
        default_host: default_host(&settings).await?,
        announces_connections: settings.personality == Personality::Localproxy,
        dial_retries: dial_retries(&settings.retries),
    };
    let service = settings.service.clone();
    let personality = settings.personality;
    let notify = move |event: Event<'_>| tell(&event, personality, &service);
    let mut keeper = Keeper::new(
        dialer,
        event_loop.clone(),
        ProxyId(0),
        keeper_settings(&settings, options),
        notify,
    );
    let mut stop = Stop::new().map_err(|fault| {
        error!("cannot watch for signals: {fault}");
        ExitCode::Failure
    })?;
    let mut stdio = None;
    if settings.mapping.is_stdio() {
        let (bridge, socket) = Stdio::start().map_err(|fault| {
            error!("cannot use standard input and output: {fault}");
            ExitCode::Failure
        })?;
        keeper = keeper.with_stdio(socket);
        stdio = Some(bridge);
    }
    let proxy = new_proxy(&settings)?;
    let outcome = match stdio {
        None => keeper.run(proxy, stop.requested()).await,
        // The one connection is all there is: its end is the end.
        Some(bridge) => {
            let ended = async {
                tokio::select! {
                    () = stop.requested() => {}
                    () = bridge.ended() => {}
                }
            };
            keeper.run(proxy, ended).await
        }
    };
    event_loop.stop();
    let _ = thread.join();
    Ok(conclude(&outcome, personality))
}

/// The core of a proxy, with masks that nobody can foretell.
pub(super) fn new_proxy(settings: &ProxySettings) -> Result<Proxy, ExitCode> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|fault| {
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
    let tls = ClientTls {
        ca_path: settings.tls.ca_path.clone(),
        no_verify: !settings.tls.verify,
    };
    let config = client_config(&tls).map_err(|fault| {
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
        user_agent: concat!("adit/", env!("CARGO_PKG_VERSION")).to_owned(),
        bind: None,
        web_proxy: web_proxy.transpose()?,
        tls: Some(LinkTls {
            config,
            records: settings.records.into(),
        }),
        deadlines: Deadlines::default(),
    })
}

fn keeper_settings(settings: &ProxySettings, options: ProxyOptions) -> KeeperSettings {
    let retries = &settings.retries;
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

/// Retries of a local dial: none, unless the settings file asks for others than the reference's
/// own default, which makes a service that is down answer after 12.5 s (specification 9.2).
fn dial_retries(retries: &Retries) -> Option<DialRetries> {
    let (count, delay) = (retries.local_max, retries.local_delay);
    let defaults = JsonSettings::default();
    let is_default = count == defaults.local_retries_max && delay == defaults.local_retry_delay;
    (!is_default).then_some(DialRetries { count, delay })
}

/// Where a destination dials an endpoint that is only a port. Looked up once, at start.
async fn default_host(settings: &ProxySettings) -> Result<IpAddr, ExitCode> {
    if settings.mode == Mode::Source {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let addresses = adit_engine::link::resolve(&settings.local_host, 0).await;
    match addresses.as_deref() {
        Ok([first, ..]) => Ok(first.ip()),
        Ok([]) => Ok(Ipv4Addr::LOCALHOST.into()),
        Err(fault) => {
            error!("--local-bind-address: {fault}");
            Err(ExitCode::Usage)
        }
    }
}

/// What to do where the chosen kernel interface is not to be had.
pub(crate) const IO_HINT: &str = "--io auto takes epoll where io_uring is not to be had";

/// The engine's name of a choice.
pub(crate) fn io_choice(io: Io) -> IoChoice {
    match io {
        Io::Auto => IoChoice::Auto,
        Io::Uring => IoChoice::Uring,
        Io::Epoll => IoChoice::Epoll,
    }
}

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
            let code = if matches!(fault, LinkError::Refused { .. }) {
                ExitCode::Refused
            } else {
                ExitCode::Unreachable
            };
            say(fault, fault.hint(), code)
        }
        Outcome::Unreachable(fault) => say(fault, fault.hint(), ExitCode::Unreachable),
        Outcome::Broken(reason) => say(reason, None, ExitCode::Failure),
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
