//! Runs the service, until a signal ends it.

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use adit_engine::link::{Relay, RelayControl, ServeConfig};
use adit_engine::tls::server_config_with;
use adit_service::access::keys::{CREDENTIALS_FILE, KeysError};
use adit_service::data_dir::{DataDirError, shell_word};
use adit_service::endpoints::Endpoints;
use adit_service::settings::NotLoopback;
use adit_service::{ApiSettings, Running, Service, Settings, StartError};
use tracing::{error, info, warn};

use super::proxy::IO_HINT;
use super::runtime::{self, Hangups, Stop};
use crate::exit::ExitCode;
use crate::settings::ServeSettings;

/// Runs the service, until a signal ends it.
pub fn serve(settings: ServeSettings) -> ExitCode {
    match runtime::run(run(settings)) {
        Ok(code) => code,
        Err(fault) => {
            error!("cannot start: {fault}");
            ExitCode::Failure
        }
    }
}

async fn run(settings: ServeSettings) -> ExitCode {
    // Before the first line: whoever reads that may send a signal.
    let (mut stop, mut hangups) = match Stop::new().and_then(|stop| Ok((stop, Hangups::new()?))) {
        Ok(signals) => signals,
        Err(fault) => {
            error!("cannot watch for signals: {fault}");
            return ExitCode::Failure;
        }
    };
    let api = match api(&settings) {
        Ok(api) => api,
        Err(fault) => {
            error!("--api-listen: {fault}");
            error!("hint: leave --insecure-no-auth out");
            return ExitCode::Usage;
        }
    };
    let mut service = Settings::new(api, settings.tunnel_listen).with_quotas(&settings.quotas);
    service.naming = settings.naming.clone();
    service.data_dir = Some(settings.data_dir.clone());
    service.limits.retention = settings.tunnel_retention;
    service.mqtt = service.mqtt.with_retention(settings.notify_retention);
    service.mqtt.listen = settings.mqtt_listen;
    service.mqtt.external = settings.mqtt_broker.clone();
    service.names = settings.names.clone();
    service.store = Some(settings.store.clone());
    service.unregistered_things = settings.unregistered_things;
    let loops = settings.loops.map(NonZeroUsize::from);
    let io = settings.io;
    let records = settings.records.into();
    let started = Service::start(service, move |listener, identity, gate| async move {
        let tls = server_config_with(identity.resolver)?;
        let config = ServeConfig {
            tls: Some(tls),
            records,
            ..ServeConfig::default()
        };
        Ok(Relay::start(listener, config, gate, io, loops)?)
    });
    let mut running = match started.await {
        Ok(running) => running,
        Err(fault) => return refuse(&fault),
    };
    print_endpoints(&running.endpoints, &settings);
    if settings.insecure_no_auth {
        warn!("requests to the API are not signed: every user of this machine may open tunnels");
    } else if settings.access_keys.is_none() {
        print_environment(&running.endpoints, &settings);
    }
    let code = loop {
        tokio::select! {
            () = stop.requested() => break ExitCode::Ended,
            () = hangups.next() => reload(&running),
            fault = running.failed() => {
                error!("{fault:#}");
                break ExitCode::Failure;
            }
        }
    };
    info!("the service ends; its tunnels stay in the store");
    match running.stop().await {
        Ok(relay) => {
            if let Some(relay) = Arc::into_inner(relay) {
                relay.stop().await;
            }
            code
        }
        Err(fault) => {
            error!("{fault}");
            ExitCode::Failure
        }
    }
}

fn api(settings: &ServeSettings) -> Result<ApiSettings, NotLoopback> {
    if settings.insecure_no_auth {
        ApiSettings::unsigned(settings.api_listen)
    } else {
        let keys = settings.access_keys.clone();
        Ok(ApiSettings::signed(settings.api_listen, keys))
    }
}

/// A mistake in the file is no reason to lock everybody out.
fn reload<R: RelayControl>(running: &Running<R>) {
    match running.reload() {
        Ok(Some(keys)) => info!(keys, "access keys read again"),
        Ok(None) => info!("there are no access keys to read again"),
        Err(fault) => {
            error!("the access keys stay as they were: {fault}");
            error!(
                "hint: mend the file and send SIGHUP again; until then, the keys that were read last count"
            );
        }
    }
}

/// Says on standard output how the AWS CLI and SDKs find this service, for a shell to take over. Not when
/// somebody has taken the credentials away, to where they are used.
fn print_environment(endpoints: &Endpoints, settings: &ServeSettings) {
    let dir = std::path::absolute(&settings.data_dir);
    let dir = dir.unwrap_or_else(|_| settings.data_dir.clone());
    let credentials = dir.join(CREDENTIALS_FILE);
    if !credentials.exists() {
        return;
    }
    let [keys, place] = exports(endpoints, &dir, settings.naming.region());
    let text = format!("\n# for the AWS CLI and SDKs:\n{keys}\n{place}\n");
    // A closed standard output is the reader's choice.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Two lines for a shell, after which the AWS CLI, the SDKs and the commands of ours find the service
/// with this data directory, an absolute path.
pub(super) fn exports(endpoints: &Endpoints, dir: &Path, region: &str) -> [String; 2] {
    let credentials = shell_word(&dir.join(CREDENTIALS_FILE));
    let (api, ca) = (&endpoints.api, shell_word(&dir.join("ca.pem")));
    [
        format!(
            "export AWS_SHARED_CREDENTIALS_FILE={credentials} AWS_PROFILE=adit AWS_REGION={region}"
        ),
        format!("export AWS_ENDPOINT_URL={api} AWS_CA_BUNDLE={ca} AWS_DEFAULT_REGION={region}"),
    ]
}

/// Says on standard output what is in use: the ports may have been picked by the system.
fn print_endpoints(endpoints: &Endpoints, settings: &ServeSettings) {
    let (api, tunnel) = (&endpoints.api, &endpoints.tunnel);
    let ca = settings.data_dir.join("ca.pem");
    let mqtt = (endpoints.mqtt.as_ref()).map_or(String::new(), |mqtt| format!("mqtt    {mqtt}\n"));
    let text = format!(
        "api     {api}\ntunnel  {tunnel}\n{mqtt}ca      {}\n",
        ca.display()
    );
    // A closed standard output is the reader's choice.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn refuse(fault: &StartError) -> ExitCode {
    error!("{fault}");
    match fault {
        StartError::Relay(_) => error!("hint: {IO_HINT}"),
        StartError::Listen { .. } => error!(
            "hint: end what has the address, or give another one with --api-listen, --tunnel-listen or \
             --mqtt-listen"
        ),
        StartError::AccessKeys(KeysError::Missing(_)) => error!(
            "hint: give a file that exists, or leave --access-keys out and a first key is made in the data \
             directory"
        ),
        StartError::DataDir(DataDirError::Io { .. }) => {
            error!("hint: give a directory that this user can write, with --data-dir");
        }
        _ => {}
    }
    match fault {
        StartError::Listen { .. } => ExitCode::CannotListen,
        StartError::DataDir(_)
        | StartError::Store(_)
        | StartError::Certificates(_)
        | StartError::Seal(_)
        | StartError::AccessKeys(_) => ExitCode::BadConfiguration,
        _ => ExitCode::Failure,
    }
}
