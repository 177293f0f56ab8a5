//! A tunnel to a thing: one that is open and fits, or a new one.

use std::collections::BTreeSet;
use std::time::Duration;

use adit_proto::AccessToken;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::settings::{SessionSettings, minutes};
use super::trouble::Trouble;
use super::tunnel::{close, describe, list, now, report, seconds};
use crate::aws::{CallFault, Client};
use crate::exit::ExitCode;

/// A tunnel whose source this process may be.
pub(super) struct Session {
    pub(super) id: String,
    pub(super) token: AccessToken,
    /// When the service will close it.
    pub(super) ends: Instant,
    /// It was opened here, so it is closed here.
    pub(super) is_ours: bool,
}

impl Session {
    /// Uses an open tunnel if the settings allow it, else opens one.
    pub(super) async fn get(client: &Client, settings: &SessionSettings) -> Result<Self, Trouble> {
        if settings.may_reuse
            && let Some(found) = reusable(client, settings).await?
        {
            return Ok(found);
        }
        Self::open(client, settings).await
    }

    /// Opens a tunnel.
    pub(super) async fn open(client: &Client, settings: &SessionSettings) -> Result<Self, Trouble> {
        let services: Vec<&str> = settings.services.iter().map(|id| id.as_str()).collect();
        let input = json!({
            "destinationConfig": { "thingName": settings.thing, "services": services },
            "timeoutConfig": { "maxLifetimeTimeoutMinutes": minutes(settings.lifetime) },
        });
        let output = client.tunneling("OpenTunnel", &input).await?;
        let id = output["tunnelId"].as_str();
        let id = id.ok_or_else(|| Trouble::answer("OpenTunnel", "tunnelId"))?;
        Ok(Self {
            id: id.to_owned(),
            token: source_token("OpenTunnel", &output)?,
            ends: Instant::now() + settings.lifetime,
            is_ours: true,
        })
    }

    /// Gets a new token for this end of the same tunnel, which leaves the device alone. `None`: the
    /// tunnel is over.
    pub(super) async fn renewed(&self, client: &Client) -> Result<Option<Self>, CallFault> {
        let input = json!({ "tunnelId": self.id, "clientMode": "SOURCE" });
        match client.tunneling("RotateTunnelAccessToken", &input).await {
            Ok(output) => Ok(source_token("RotateTunnelAccessToken", &output)
                .ok()
                .map(|token| Self {
                    id: self.id.clone(),
                    token,
                    ends: self.ends,
                    is_ours: self.is_ours,
                })),
            Err(fault) if fault.is_not_found() => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Waits until the device is connected. `tell` hears once in a while how long it has been.
    /// `false`: it did not come in time.
    pub(super) async fn device_comes(
        &self,
        client: &Client,
        timeout: Duration,
        mut tell: impl FnMut(Duration),
    ) -> Result<bool, Trouble> {
        let begun = Instant::now();
        let mut pause = LOOK_INTERVAL_MIN;
        loop {
            let output = describe(client, &self.id).await?;
            let tunnel = &output["tunnel"];
            if tunnel["destinationConnectionState"]["status"] == "CONNECTED" {
                return Ok(true);
            }
            if tunnel["status"] == "CLOSED" {
                return Err(Trouble::new(
                    "the tunnel was closed before the device had connected",
                    "somebody else has closed it; run the command again",
                    ExitCode::Refused,
                ));
            }
            let waited = begun.elapsed();
            let Some(left) = timeout.checked_sub(waited).filter(|left| !left.is_zero()) else {
                return Ok(false);
            };
            tell(waited);
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(LOOK_INTERVAL_MAX);
        }
    }

    /// Closes the tunnel if it was opened here. That it fails is worth a line, no more.
    pub(super) async fn end(&self, client: &Client, keep: bool) {
        if !self.is_ours || keep {
            return;
        }
        match close(client, &self.id, false).await {
            Err(fault) if !fault.is_not_found() => report(&fault.into()),
            _ => {}
        }
    }
}

/// The newest open tunnel to the thing that has the same services, enough time left, and nobody at this
/// end: taking somebody's place would cut them off.
async fn reusable(client: &Client, settings: &SessionSettings) -> Result<Option<Session>, Trouble> {
    let summaries = list(client, Some(&settings.thing)).await?;
    let open = summaries.iter().filter(|tunnel| tunnel["status"] == "OPEN");
    for id in open
        .filter_map(|tunnel| tunnel["tunnelId"].as_str())
        .take(LOOKS_MAX)
    {
        let output = match describe(client, id).await {
            Ok(output) => output,
            Err(fault) if fault.is_not_found() => continue,
            Err(fault) => return Err(fault.into()),
        };
        let Some(left) = time_left(&output["tunnel"], settings, now()) else {
            continue;
        };
        let is_connected = output["tunnel"]["destinationConnectionState"]["status"] == "CONNECTED";
        // A device that is there stays; one that is not gets told once more.
        let mode = if is_connected { "SOURCE" } else { "ALL" };
        let input = json!({ "tunnelId": id, "clientMode": mode });
        match client.tunneling("RotateTunnelAccessToken", &input).await {
            Ok(output) => {
                return Ok(Some(Session {
                    id: id.to_owned(),
                    token: source_token("RotateTunnelAccessToken", &output)?,
                    ends: Instant::now() + left,
                    is_ours: false,
                }));
            }
            // Closed in between.
            Err(fault) if fault.is_not_found() => {}
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(None)
}

/// How long a tunnel may still be used, if it may.
fn time_left(tunnel: &Value, settings: &SessionSettings, now: i64) -> Option<Duration> {
    let services = tunnel["destinationConfig"]["services"].as_array()?;
    let offered: BTreeSet<&str> = services.iter().filter_map(Value::as_str).collect();
    // The same, not more: a source maps every service of its tunnel.
    let wanted: BTreeSet<&str> = settings.services.iter().map(|id| id.as_str()).collect();
    let is_free = tunnel["sourceConnectionState"]["status"] != "CONNECTED";
    if tunnel["status"] != "OPEN" || offered != wanted || !is_free {
        return None;
    }
    let lifetime = tunnel["timeoutConfig"]["maxLifetimeTimeoutMinutes"].as_i64()? * 60;
    let left = seconds(&tunnel["createdAt"])?
        .checked_add(lifetime)?
        .checked_sub(now)?;
    let left = Duration::from_secs(u64::try_from(left).ok()?);
    (left >= TIME_LEFT_MIN.min(settings.lifetime / 2)).then_some(left)
}

fn source_token(operation: &str, output: &Value) -> Result<AccessToken, Trouble> {
    let member = "sourceAccessToken";
    let token = output[member]
        .as_str()
        .map(|text| AccessToken::new(text.to_owned()));
    match token {
        Some(Ok(token)) => Ok(token),
        _ => Err(Trouble::answer(operation, member)),
    }
}

/// Open tunnels to one device that are looked at; more than a few are somebody's mistake.
const LOOKS_MAX: usize = 20;

/// As AWS's own tool has it: with less, a session may be cut in the middle.
const TIME_LEFT_MIN: Duration = Duration::from_secs(15 * 60);

const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(100);
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::service::ServiceAddress;

    fn settings(services: &[&str]) -> SessionSettings {
        SessionSettings {
            thing: "lamp".to_owned(),
            services: services.iter().map(|name| name.parse().unwrap()).collect(),
            lifetime: Duration::from_secs(12 * 3_600),
            may_reuse: true,
            keep: false,
            tunnel: ServiceAddress {
                host: "h".to_owned(),
                port: 443,
            },
        }
    }

    fn tunnel() -> Value {
        json!({
            "status": "OPEN",
            "createdAt": 1_000.25,
            "sourceConnectionState": { "status": "DISCONNECTED" },
            "destinationConfig": { "thingName": "lamp", "services": ["WEB", "SSH"] },
            "timeoutConfig": { "maxLifetimeTimeoutMinutes": 60 },
        })
    }

    #[test]
    fn a_tunnel_is_used_again_only_if_it_fits_and_harms_nobody() {
        let wanted = settings(&["SSH", "WEB"]);
        let left = |tunnel: &Value, now| time_left(tunnel, &wanted, now);
        assert_eq!(left(&tunnel(), 1_600), Some(Duration::from_secs(3_000)));
        assert_eq!(
            left(&tunnel(), 1_000 + 45 * 60),
            Some(Duration::from_secs(15 * 60))
        );
        assert_eq!(left(&tunnel(), 1_001 + 45 * 60), None);
        assert_eq!(left(&tunnel(), 10_000), None);
        assert_eq!(time_left(&tunnel(), &settings(&["SSH"]), 1_600), None);
        for (member, value) in [
            ("status", json!("CLOSED")),
            ("sourceConnectionState", json!({ "status": "CONNECTED" })),
            ("destinationConfig", json!(null)),
            ("createdAt", json!("yesterday")),
        ] {
            let mut tunnel = tunnel();
            tunnel[member] = value;
            assert_eq!(left(&tunnel, 1_600), None, "{member}");
        }
    }
}
