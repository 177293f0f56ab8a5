//! What every store can do.

use std::future::Future;

use adit_proto::{Mode, TunnelId};

use super::Changes;
use crate::clock::Now;
use crate::token::TokenHash;
use crate::tunnels::{
    Admitted, Connected, Expired, Found, ListRequest, NewTunnel, Page, Presented, Refusal,
    Rotation, Tags, TunnelError, TunnelView,
};

/// Everything that one store keeps.
pub trait Store: TunnelStore {
    /// What other nodes on this store do from now on that concerns this one. Nothing comes where there
    /// are no others.
    fn changes(&self) -> Changes;

    /// Finishes the changes under way and lets go of files and connections. Later operations are
    /// refused as unavailable.
    fn shut_down(&self) -> impl Future<Output = ()> + Send;
}

/// Tunnels. The rules are those of [`tunnels`](crate::tunnels); this is what concerns all of them.
///
/// Contract: an operation that has returned is durable, as far as the store is; operations on one
/// tunnel take effect one after the other. So of any number of simultaneous
/// [`spend_token`](Self::spend_token) with one token, on any number of nodes, exactly one sees it unused.
///
/// * The id and the routing key of a new tunnel are in no record: else `Taken`.
/// * There are no more open tunnels than [`Limits`](crate::tunnels::Limits) allows: else `LimitExceeded`.
///   Of closed ones beyond the limit, the one to be forgotten next goes at once.
/// * A client token is bound to one side of one open tunnel: else `ClientTokenTaken`.
/// * Whatever makes a destination's token good for nothing (a rotation, the end of the tunnel) throws away
///   the message that waits with it, in the same transaction; see [`Mailbox`](crate::notify::Mailbox).
/// * Tunnels are listed in the order of their creation, whatever the time of day did.
///
/// One that fails with `Unavailable` has not taken effect, so that it can be tried again. One that fails
/// with `Uncertain` may have: the connection to a server broke before it said so. Then asking again tells,
/// with [`has_token`](Self::has_token) or with the same operation, where saying it twice does no harm. A
/// handshake has no word for that: its token may be spent by a failed
/// [`spend_token`](Self::spend_token).
pub trait TunnelStore: Send + Sync + 'static {
    /// Adds an open tunnel.
    fn open_tunnel(
        &self,
        now: Now,
        new: NewTunnel,
    ) -> impl Future<Output = Result<(), TunnelError>> + Send;

    /// One tunnel, open or closed.
    fn describe(
        &self,
        now: Now,
        id: &TunnelId,
    ) -> impl Future<Output = Result<TunnelView, TunnelError>> + Send;

    /// One page of tunnels, open and closed, the newest first. Costs what the page holds, not what the
    /// store holds.
    fn list(
        &self,
        now: Now,
        request: ListRequest,
    ) -> impl Future<Output = Result<Page, TunnelError>> + Send;

    /// Replaces the tokens of one side or both. What was admitted with an old one is revoked.
    fn rotate(
        &self,
        now: Now,
        id: &TunnelId,
        rotation: Rotation,
    ) -> impl Future<Output = Result<(), TunnelError>> + Send;

    /// Whether this is the token of a side now, of a tunnel that is open or closed; `false` when there is no
    /// such tunnel. Waits for changes of the tunnel that are under way, but not for its opening.
    fn has_token(
        &self,
        id: &TunnelId,
        mode: Mode,
        token: TokenHash,
    ) -> impl Future<Output = Result<bool, TunnelError>> + Send;

    /// Closes a tunnel, and forgets it when `delete` is set; says how it was found. Closing twice is fine.
    fn close(
        &self,
        now: Now,
        id: &TunnelId,
        delete: bool,
    ) -> impl Future<Output = Result<Found, TunnelError>> + Send;

    /// Adds tags, all or none; the value of a key that is there already is replaced.
    fn tag(
        &self,
        id: &TunnelId,
        tags: Tags,
    ) -> impl Future<Output = Result<(), TunnelError>> + Send;

    /// Removes tags; keys that are not there are ignored.
    fn untag(
        &self,
        id: &TunnelId,
        keys: Vec<String>,
    ) -> impl Future<Output = Result<(), TunnelError>> + Send;

    /// The tags of a tunnel.
    fn tags(&self, id: &TunnelId) -> impl Future<Output = Result<Tags, TunnelError>> + Send;

    /// Decides on a handshake. When it is let in, its token is spent (or bound to the client token),
    /// durably, by the time this returns.
    ///
    /// Only who holds a token that is good for one of the sides learns more than `UnknownToken`.
    fn spend_token(
        &self,
        now: Now,
        presented: Presented,
    ) -> impl Future<Output = Result<Admitted, Refusal>> + Send;

    /// A connection was handed to the relay of this node. The newest session of a side wins, whatever
    /// order the calls come in. Saying it again is fine, and asks whether the connection may stay.
    fn set_connected(
        &self,
        now: Now,
        id: &TunnelId,
        mode: Mode,
        session: u64,
    ) -> impl Future<Output = Result<Connected, TunnelError>> + Send;

    /// A connection is gone. Nothing happens when it is not the side's current one.
    fn set_disconnected(
        &self,
        now: Now,
        id: &TunnelId,
        mode: Mode,
        session: u64,
    ) -> impl Future<Output = Result<(), TunnelError>> + Send;

    /// Closes tunnels whose lifetime is over and forgets closed ones that were kept long enough; a
    /// bounded number of each in one call, so that nobody waits long for it.
    fn expire(&self, now: Now) -> impl Future<Output = Result<Expired, TunnelError>> + Send;
}
