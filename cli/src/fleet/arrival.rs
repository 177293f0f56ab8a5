//! Waiting for the device to come to its tunnel, and telling it again.
//!
//! A device hears of a tunnel by one message. What was published before its first subscription, nobody keeps
//! for it; a token that is rotated is published anew (control-plane specification, sections 7 and 9).

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::calls::describe;
use super::settings::SessionSettings;
use super::table::span;
use super::trouble::Trouble;
use crate::aws::{CallFault, Client};
use crate::exit::ExitCode;

/// What is worth saying while a device is waited for.
pub(super) enum Waiting {
    /// It has not come for this long.
    Still(Duration),
    /// It is being told again: how long it has been, and which time this is.
    Again(Duration, usize),
    /// It could not be told, and will not be again.
    Mute(CallFault),
}

/// A device that is expected at a tunnel.
pub(super) struct Arrival<'a> {
    pub(super) client: &'a Client,
    /// The tunnel's id.
    pub(super) tunnel: &'a str,
    pub(super) settings: &'a SessionSettings,
}

impl Arrival<'_> {
    /// Waits until the device is connected; tells it again after each of [`REMINDERS`]. `false`: it did not
    /// come in time.
    pub(super) async fn within(
        &self,
        timeout: Duration,
        mut tell: impl FnMut(Waiting),
    ) -> Result<bool, Trouble> {
        let begun = Instant::now();
        let mut reminders = REMINDERS.into_iter().zip(1..);
        let mut next = reminders.next();
        let mut pause = LOOK_INTERVAL_MIN;
        loop {
            if self.has_come().await? {
                return Ok(true);
            }
            let waited = begun.elapsed();
            let Some(left) = timeout.checked_sub(waited).filter(|left| !left.is_zero()) else {
                return Ok(false);
            };
            tell(Waiting::Still(waited));
            if let Some((_, number)) = next.filter(|(after, _)| waited >= *after) {
                tell(Waiting::Again(waited, number));
                next = match self.remind().await {
                    Ok(()) => reminders.next(),
                    Err(fault) => {
                        tell(Waiting::Mute(fault));
                        None
                    }
                };
            }
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(LOOK_INTERVAL_MAX);
        }
    }

    async fn has_come(&self) -> Result<bool, Trouble> {
        let output = describe(self.client, self.tunnel).await?;
        let tunnel = &output["tunnel"];
        if tunnel["status"] == "CLOSED" {
            return Err(Trouble::new(
                "the tunnel was closed before the device had connected",
                "somebody else has closed it; run the command again",
                ExitCode::Refused,
            ));
        }
        Ok(tunnel["destinationConnectionState"]["status"] == "CONNECTED")
    }

    /// Rotates the device's token, whose message takes the place of the first one. The device is named
    /// although the tunnel has it: of AWS it is not known whether it publishes without.
    async fn remind(&self) -> Result<(), CallFault> {
        let input = json!({
            "tunnelId": self.tunnel,
            "clientMode": "DESTINATION",
            "destinationConfig": self.settings.destination(),
        });
        let answer = self
            .client
            .tunneling("RotateTunnelAccessToken", &input)
            .await;
        // The token in it is for the device.
        answer.map(drop)
    }
}

/// As a line for people.
pub(super) fn again(thing: &str, waited: Duration, number: usize) -> String {
    let waited = span(i64::try_from(waited.as_secs()).unwrap_or(i64::MAX));
    let count = REMINDERS.len();
    format!("{thing} has not connected within {waited}; telling it again ({number} of {count})")
}

/// Since the waiting began; the time between them doubles. A device that is online comes within a second or
/// two, so the first comes when something is wrong.
const REMINDERS: [Duration; 4] = [
    Duration::from_secs(4),
    Duration::from_secs(12),
    Duration::from_secs(28),
    Duration::from_secs(60),
];

const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(100);
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(1);
