//! Publishing through a broker of somebody else's, in place of the one of this service.
//!
//! ```text
//! control ─► publish ─► Queue ─► Session ─► their broker ─► devices
//!         └► revoke  ─────┘         ▲
//!                            run: one connection after the other
//! ```
//!
//! Who may hear a notification is that broker's to decide, by the *authenticated* identity of a device
//! (threat T-09): the service only ever publishes. What waits for the broker is in memory and ends with
//! the process; whoever opened the tunnel has the tokens, and can rotate.

mod address;
mod current;
mod hint;
mod queue;
mod session;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use adit_proto::TunnelId;
use adit_proto::escape::Escaped;
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::warn;
use zeroize::Zeroizing;

use self::queue::{Dropped, Queue};
use self::session::{Session, told};
use super::{Notification, Notifier, Pending};
use crate::clock::Clock;
use crate::tunnels::ThingName;

pub use address::{BrokerAddress, BrokerAddressError};
pub(crate) use current::{MayTell, Stored};
pub use queue::QueueLimits;

/// Where the broker is, and who we are there.
#[derive(Clone)]
pub struct ExternalSettings {
    /// Where to connect.
    pub address: BrokerAddress,
    /// For `mqtts`: whom to trust, and our certificate if there is one. Not used for `mqtt`.
    pub tls: Arc<ClientConfig>,
    /// Name and password, where the broker wants them.
    pub login: Option<Login>,
}

impl fmt::Debug for ExternalSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExternalSettings({})", self.address)
    }
}

/// Name and password. `Debug` shows neither.
#[derive(Clone)]
pub struct Login {
    user: String,
    password: Zeroizing<String>,
}

impl Login {
    /// Reads `user:password`, the content of a file; one line end behind it is not part of it.
    ///
    /// # Errors
    ///
    /// What is wrong, without the text.
    pub fn parse(text: &str) -> Result<Self, InvalidLogin> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let (user, password) = line.split_once(':').ok_or(InvalidLogin)?;
        // MQTT 3.1.1 §3.1.3: at most 65,535 bytes each, and no control characters in a name.
        let fits = |part: &str| !part.is_empty() && part.len() <= LOGIN_SIZE_MAX;
        if !fits(user) || !fits(password) || line.chars().any(char::is_control) {
            return Err(InvalidLogin);
        }
        Ok(Self {
            user: user.to_owned(),
            password: Zeroizing::new(password.to_owned()),
        })
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

/// A file of credentials has another form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not one line `user:password` of up to {LOGIN_SIZE_MAX} bytes each")]
pub struct InvalidLogin;

/// The notifier that publishes through a broker of somebody else's.
pub struct ExternalBroker {
    queue: Arc<Queue>,
    clock: Clock,
    retention: Duration,
    settings: ExternalSettings,
    current: Arc<dyn MayTell>,
}

impl ExternalBroker {
    /// Without a connection; [`run`](Self::run) makes it. A notification waits for at most `retention`, and what
    /// may not be told any more by then is thrown away.
    pub(crate) fn new(
        settings: ExternalSettings,
        limits: QueueLimits,
        retention: Duration,
        clock: Clock,
        current: Arc<dyn MayTell>,
    ) -> Self {
        Self {
            queue: Arc::new(Queue::new(limits)),
            clock,
            retention,
            settings,
            current,
        }
    }

    /// Stays connected, and sends what is published, until `stop` says so. What can still be sent then
    /// is sent, for a second.
    pub async fn run(self: Arc<Self>, stop: watch::Receiver<bool>) {
        let (leave, leaving) = watch::channel(false);
        let session = Session::new(&self.settings, &self.queue, &self.clock, &*self.current);
        let end = async {
            told(stop).await;
            let _ = timeout(LEAVE_LIMIT, self.queue.emptied()).await;
            leave.send_replace(true);
            sleep(LEAVE_LIMIT).await;
        };
        tokio::select! {
            () = session.keep(leaving) => {}
            () = end => {}
        }
        let lost = self.queue.len();
        if lost > 0 {
            let broker = &self.settings.address;
            warn!(%broker, lost, "notifications were not taken by the MQTT broker and are lost");
        }
    }
}

impl Notifier for ExternalBroker {
    fn publish<'a>(&'a self, thing: &'a ThingName, notification: Notification) -> Pending<'a> {
        Box::pin(async move {
            let expires = self.clock.now().steady.after(self.retention);
            let dropped = self.queue.put(thing, &notification, expires);
            if let Some(Dropped { tunnel, thing }) = dropped {
                let thing = Escaped(thing.as_str()).to_string();
                warn!(
                    %tunnel,
                    thing,
                    "the oldest notification is dropped: too many wait for the MQTT broker"
                );
            }
        })
    }

    fn revoke<'a>(&'a self, tunnel: &'a TunnelId) -> Pending<'a> {
        Box::pin(async move { self.queue.revoke(tunnel) })
    }
}

/// For what is left to send when the service ends, and then for the last packet.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// A name, or a password, in bytes.
const LOGIN_SIZE_MAX: usize = 1_024;
