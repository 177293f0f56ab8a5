//! A tunnel to a thing: one that is open and fits, or a new one.

use std::collections::BTreeSet;
use std::time::Duration;

use adit_proto::AccessToken;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::calls::{describe, list, now, seconds};
use super::custody::Custody;
use super::settings::{SessionSettings, minutes};
use super::trouble::Trouble;
use crate::aws::{CallFault, Client};

/// A tunnel whose source this process may be.
pub(super) struct Session {
    pub(super) id: String,
    pub(super) token: AccessToken,
    /// When the service will close it.
    pub(super) ends: Instant,
}

impl Session {
    /// Uses an open tunnel if the settings allow it, else opens one.
    pub(super) async fn get(
        custody: &Custody,
        settings: &SessionSettings,
    ) -> Result<Self, Trouble> {
        if settings.may_reuse
            && let Some(found) = reusable(&custody.client(), settings).await?
        {
            return Ok(found);
        }
        Self::open(custody, settings).await
    }

    /// Opens a tunnel.
    pub(super) async fn open(
        custody: &Custody,
        settings: &SessionSettings,
    ) -> Result<Self, Trouble> {
        let mut input = json!({
            "destinationConfig": settings.destination(),
            "timeoutConfig": { "maxLifetimeTimeoutMinutes": minutes(settings.lifetime) },
        });
        if !settings.keep {
            input["description"] = json!(NOT_TO_STAY);
        }
        let output = custody.open(input, settings.lifetime).await?;
        let id = output["tunnelId"].as_str();
        let id = id.ok_or_else(|| Trouble::answer("OpenTunnel", "tunnelId"))?;
        Ok(Self {
            id: id.to_owned(),
            token: source_token("OpenTunnel", &output)?,
            ends: Instant::now() + settings.lifetime,
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
                })),
            Err(fault) if fault.is_not_found() => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}

/// The newest open tunnel to the thing that has the same services, enough time left, nobody at this end, where
/// taking somebody's place would cut them off, and no command that will close it.
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
    // Whoever opened it to close it may not be connected: waits for the device, or for a link that was lost.
    let is_free = tunnel["sourceConnectionState"]["status"] != "CONNECTED"
        && tunnel["description"] != NOT_TO_STAY;
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

/// Description of a tunnel that goes with the command that opened it. It is no tag, since policies of AWS may allow
/// OpenTunnel with certain tags only (`aws:TagKeys`).
const NOT_TO_STAY: &str = "closed by the adit command that opened it, at its end";

/// Open tunnels to one device that are looked at; more than a few are somebody's mistake.
const LOOKS_MAX: usize = 20;

/// As AWS's own tool has it: with less, a session may be cut in the middle.
const TIME_LEFT_MIN: Duration = Duration::from_secs(15 * 60);

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
            "description": "mine",
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
            ("description", json!(NOT_TO_STAY)),
        ] {
            let mut tunnel = tunnel();
            tunnel[member] = value;
            assert_eq!(left(&tunnel, 1_600), None, "{member}");
        }
    }
}
