//! The demo as whoever runs a fleet: it registers the device and opens its tunnel by the signed API, with
//! the code of `adit thing create` and the client of `adit tunnel`.

use std::net::SocketAddr;
use std::path::PathBuf;

use adit_proto::AccessToken;
use anyhow::{Context as _, Result, anyhow};
use serde_json::json;

use super::stack::{ECHO, PAGE, THING};
use crate::args::fleet::ApiArgs;
use crate::aws::{Api, ApiSettings, CallFault, Client};
use crate::fault::BadInput;
use crate::fleet::{self, CreateSettings, Trouble};
use crate::world::World;

/// Calls the API with the key that the service has made at its first start.
pub(super) struct Operator(Client);

/// Where the service is.
pub(super) struct Places {
    /// With the key and the authority.
    pub(super) data_dir: PathBuf,
    pub(super) api: SocketAddr,
    pub(super) relay: SocketAddr,
    pub(super) mqtt: SocketAddr,
}

/// A new tunnel.
pub(super) struct Tunnel {
    pub(super) id: String,
    pub(super) source_token: AccessToken,
}

impl Operator {
    /// Finds the key and the authority in the data directory of the service.
    pub(super) fn new(places: &Places) -> Result<Self> {
        let args = ApiArgs {
            // Addresses, for a machine on which localhost is no name.
            endpoint: Some(format!("https://{}", places.api)),
            tunnel_endpoint: Some(places.relay.to_string()),
            data_dir: Some(places.data_dir.clone()),
            ..ApiArgs::default()
        };
        let settings = ApiSettings::resolve(&args, Api::Iot, &nowhere()).map_err(bad_input)?;
        Client::new(settings).map(Self).map_err(bad_input)
    }

    /// The region of its signatures.
    pub(super) fn region(&self) -> &str {
        &self.0.settings().region
    }

    /// Makes the thing with its certificate; `bundle` is the directory for the device.
    pub(super) async fn register(
        &self,
        places: &Places,
        bundle: PathBuf,
        [page, echo]: [u16; 2],
    ) -> Result<()> {
        let place = |name: &str, port: u16| (name.to_owned(), format!("127.0.0.1:{port}"));
        let settings = CreateSettings {
            thing: THING.to_owned(),
            out: bundle,
            csr: None,
            attributes: Vec::new(),
            policy: None,
            services: vec![place(PAGE, page), place(ECHO, echo)],
            mqtt_endpoint: Some(places.mqtt.to_string()),
        };
        let created = fleet::create(&self.0, &settings).await;
        created.map(drop).map_err(trouble)
    }

    /// Opens a tunnel to the device with both services.
    pub(super) async fn open(&self) -> Result<Tunnel> {
        let input = json!({
            "description": "adit demo",
            "destinationConfig": { "thingName": THING, "services": [PAGE, ECHO] },
        });
        let output = self.0.tunneling("OpenTunnel", &input).await.map_err(call)?;
        let text = |member: &str| {
            let text = output[member].as_str();
            text.with_context(|| format!("the answer has no {member}"))
        };
        let token = AccessToken::new(text("sourceAccessToken")?.to_owned());
        Ok(Tunnel {
            id: text("tunnelId")?.to_owned(),
            source_token: token.context("sourceAccessToken is no token")?,
        })
    }

    /// Whether the service has both sides of the tunnel connected.
    pub(super) async fn is_connected(&self, tunnel: &str) -> Result<bool> {
        let input = json!({ "tunnelId": tunnel });
        let output = self.0.tunneling("DescribeTunnel", &input).await;
        let tunnel = &output.map_err(call)?["tunnel"];
        let is_connected = |side: &str| tunnel[side]["status"] == "CONNECTED";
        Ok(is_connected("sourceConnectionState") && is_connected("destinationConnectionState"))
    }

    /// Makes the device's token one of the past; the service tells the device the new one.
    pub(super) async fn rotate(&self, tunnel: &str) -> Result<()> {
        let input = json!({ "tunnelId": tunnel, "clientMode": "DESTINATION" });
        let output = self.0.tunneling("RotateTunnelAccessToken", &input).await;
        output.map(drop).map_err(call)
    }
}

/// No variable of the environment is to lead the demo elsewhere.
pub(super) fn nowhere() -> World {
    World {
        variables: std::collections::BTreeMap::new(),
        directory: PathBuf::new(),
        stdin: Box::new(std::io::empty()),
        is_of_process: false,
    }
}

pub(super) fn bad_input(fault: BadInput) -> anyhow::Error {
    trouble(fault.into())
}

fn call(fault: CallFault) -> anyhow::Error {
    trouble(fault.into())
}

fn trouble(trouble: Trouble) -> anyhow::Error {
    anyhow!("{trouble}")
}
