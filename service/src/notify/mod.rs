//! Telling a device that a tunnel waits for it (control-plane specification, section 9).
//!
//! ```text
//! control ─► Notifier ─┬─► the broker of this service ─► Mailbox ─► device
//!                      └─► an external broker ───────────────────► device
//! ```
//!
//! A message holds a token, so it lives no longer than the token: it is gone in the transaction that rotates
//! the token away or ends the tunnel, and after an hour. Kept messages are sealed ([`Sealer`]).

#[cfg(test)]
pub(crate) mod conformance;
mod external;
mod mailbox;
mod memory;
mod notices;
mod notification;
mod seal;

use std::future::Future;
use std::pin::Pin;

use adit_proto::TunnelId;

use crate::tunnels::ThingName;

pub(crate) use external::Stored;
pub use external::{
    BrokerAddress, BrokerAddressError, ExternalBroker, ExternalSettings, InvalidLogin, Login,
    QueueLimits,
};
pub use mailbox::{
    Mailbox, MailboxError, MailboxLimits, Message, Opened, Qos, Queued, SessionStart,
};
pub use memory::MemoryMailbox;
pub(crate) use notices::Notices;
pub use notification::{Notification, notify_topic};
pub(crate) use seal::NOTIFY_KEY;
pub use seal::{KeyCheck, SealError, Sealer};

/// What carries notifications to devices.
///
/// Nothing here fails: the caller of the API has the tokens and can rotate, so a notification that is
/// lost is written to the log and costs nothing else. Both operations return within a few seconds.
///
/// Contract: the calls about one tunnel come one after the other, in the order in which the store
/// decided; a publication replaces an earlier one of the same tunnel.
pub trait Notifier: Send + Sync + 'static {
    /// Sends, or keeps for a device that is away and has a session.
    fn publish<'a>(&'a self, thing: &'a ThingName, notification: Notification) -> Pending<'a>;

    /// From here on nothing of this tunnel is delivered: its token was rotated away, or it has ended. For
    /// what is kept outside of the store, which has thrown away its own. Nobody says so of what other nodes do.
    fn revoke<'a>(&'a self, tunnel: &'a TunnelId) -> Pending<'a>;
}

/// Something that a [`Notifier`] does.
pub type Pending<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
