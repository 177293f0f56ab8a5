//! What is kept for devices: their sessions, and the messages that wait for them.

use std::future::Future;
use std::time::Duration;

use adit_proto::TunnelId;

use crate::clock::Timestamp;
use crate::token::TokenHash;
use crate::tunnels::ThingName;

/// A store of sessions and messages. At most one session a device; every time is steady time.
///
/// Contract: an operation that has returned is durable, as far as the store is; operations about one
/// device take effect one after the other; one that fails has not taken effect. A session or message
/// whose time is over is never given out, whether [`expire`](Self::expire) has run or not.
///
/// A message goes with its token: when the destination's token is rotated or the tunnel ends, in the very
/// transaction that does it, and no message is given out or taken in whose token is not the tunnel's at
/// that moment, whichever node has queued it.
///
/// The session of a thing and its messages go with the thing, in the transaction that deletes it: whoever heard of it
/// late could take them from the thing that came after it.
///
/// A session belongs to one connection at a time. Operations that name a connection do nothing, and say
/// so, once a later connection of the device has opened the session: a displaced connection cannot
/// disturb its successor.
pub trait Mailbox: Send + Sync + 'static {
    /// A connection begins: resumes the device's session, or starts an empty one when there is none, when
    /// it was not to outlive its connection, or when `clean` is set.
    ///
    /// # Errors
    /// `Full` when that would be one session too many.
    fn open(
        &self,
        now: Timestamp,
        thing: &ThingName,
        start: SessionStart,
    ) -> impl Future<Output = Result<Opened, MailboxError>> + Send;

    /// The connection is still there: the session lives at least until `until`. Whether it is still the
    /// session's.
    fn renew(
        &self,
        thing: &ThingName,
        connection: u64,
        until: Timestamp,
    ) -> impl Future<Output = Result<bool, MailboxError>> + Send;

    /// The connection ended: the session lives for `keep` from now on; with zero it ends at once, and
    /// what was queued with it.
    fn close(
        &self,
        now: Timestamp,
        thing: &ThingName,
        connection: u64,
        keep: Duration,
    ) -> impl Future<Output = Result<(), MailboxError>> + Send;

    /// Sets or removes the one subscription that a session can have; removing it empties the queue.
    /// Whether the session is still the connection's.
    fn subscribe(
        &self,
        thing: &ThingName,
        connection: u64,
        subscription: Option<Qos>,
    ) -> impl Future<Output = Result<bool, MailboxError>> + Send;

    /// Queues a message for a device with a subscribed session, and returns whether it did. With QoS 0, it
    /// has to be connected as well. An older message about the same tunnel goes, whoever it was for; beyond
    /// [`MailboxLimits::queued_max`], the oldest goes. A message whose token is not the tunnel's any more
    /// changes nothing.
    fn push(
        &self,
        now: Timestamp,
        thing: &ThingName,
        message: Message,
    ) -> impl Future<Output = Result<bool, MailboxError>> + Send;

    /// The oldest message that waits. With QoS 0 it is thereby gone; with QoS 1 it is marked as sent, and
    /// stays first until it is settled.
    fn next(
        &self,
        now: Timestamp,
        thing: &ThingName,
        connection: u64,
    ) -> impl Future<Output = Result<Option<Queued>, MailboxError>> + Send;

    /// The device has acknowledged this message; one that is gone already is fine.
    fn settle(
        &self,
        thing: &ThingName,
        connection: u64,
        id: u64,
    ) -> impl Future<Output = Result<(), MailboxError>> + Send;

    /// Removes what has run out; counted.
    fn expire(&self, now: Timestamp) -> impl Future<Output = Result<usize, MailboxError>> + Send;
}

/// How a connection wants its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStart {
    /// Whether to begin without what an earlier connection left.
    pub clean: bool,
    /// Whether the session may be resumed once this connection has ended.
    pub resumable: bool,
    /// Until when the session lives unless it is renewed or closed.
    pub until: Timestamp,
}

/// The session that a connection has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Number of the connection; never given twice to one device.
    pub connection: u64,
    /// Whether there was a session to resume.
    pub present: bool,
    /// What the session is subscribed with.
    pub subscription: Option<Qos>,
}

/// How surely messages are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// At most once.
    AtMostOnce,
    /// At least once.
    AtLeastOnce,
}

/// A message to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The tunnel whose token it holds.
    pub tunnel: TunnelId,
    /// The token that it holds.
    pub token: TokenHash,
    /// When nobody needs it any more.
    pub expires: Timestamp,
    /// Made by [`Sealer::seal`](super::Sealer::seal).
    pub sealed: Box<[u8]>,
}

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Number of the message; grows, and never changes.
    pub id: u64,
    /// Whether it was given out before.
    pub again: bool,
    /// What the session was subscribed with when it was given out.
    pub qos: Qos,
    /// The message.
    pub message: Message,
}

/// Bounds of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxLimits {
    /// Sessions, of connected devices and of others. About 200 bytes each without messages.
    pub sessions_max: usize,
    /// Messages for one device; a message of one service takes some 300 bytes.
    pub queued_max: usize,
}

impl Default for MailboxLimits {
    fn default() -> Self {
        Self {
            sessions_max: 100_000,
            queued_max: 20,
        }
    }
}

/// Why nothing was kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MailboxError {
    /// A bound of this installation.
    #[error("limit exceeded: at most {max} device sessions")]
    Full {
        /// How many are allowed.
        max: usize,
    },
    /// The store cannot answer now.
    #[error("the store is unavailable")]
    Unavailable,
}
