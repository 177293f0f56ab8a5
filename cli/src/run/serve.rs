//! Runs the service, until a signal ends it.

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::sync::Arc;

use adit_engine::link::{Relay, ServeConfig};
use adit_engine::tls::server_config_from;
use adit_service::endpoints::Endpoints;
use adit_service::{ApiSettings, Service, Settings, StartError};
use tracing::{error, info};

use super::proxy::{IO_HINT, io_choice};
use super::runtime::{self, Stop};
use crate::exit::ExitCode;
use crate::settings::ServeSettings;

/// Runs the service, until a signal ends it.
pub fn serve(settings: ServeSettings) -> ExitCode {
    match runtime::start().map(|runtime| runtime.block_on(run(settings))) {
        Ok(code) => code,
        Err(fault) => {
            error!("cannot start: {fault}");
            ExitCode::Failure
        }
    }
}

async fn run(settings: ServeSettings) -> ExitCode {
    let api = match ApiSettings::new(settings.api_listen) {
        Ok(api) => api,
        Err(fault) => {
            error!("--api-listen: {fault}");
            return ExitCode::Usage;
        }
    };
    let mut service = Settings::new(api, settings.tunnel_listen);
    service.mqtt.listen = settings.mqtt_listen;
    service.data_dir = Some(settings.data_dir.clone());
    let loops = settings.loops.map(NonZeroUsize::from);
    let mut stop = match Stop::new() {
        Ok(stop) => stop,
        Err(fault) => {
            error!("cannot watch for signals: {fault}");
            return ExitCode::Failure;
        }
    };
    let io = io_choice(settings.io);
    let records = settings.records.into();
    let started = Service::start(service, move |listener, identity, gate| async move {
        let tls = server_config_from(identity.chain, identity.key)?;
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
    let code = tokio::select! {
        () = stop.requested() => ExitCode::Ended,
        fault = running.failed() => {
            error!("{fault:#}");
            ExitCode::Failure
        }
    };
    info!("the service ends; tunnels survive in its data directory");
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
    if let StartError::Relay(_) = fault {
        error!("hint: {IO_HINT}");
    }
    match fault {
        StartError::Listen { .. } => ExitCode::CannotListen,
        StartError::DataDir(_) | StartError::Certificates(_) => ExitCode::BadConfiguration,
        _ => ExitCode::Failure,
    }
}
