//! The rules about tunnels: everything that may happen to one, as functions of its [`Record`] alone.
//!
//! They read no clock, draw no random number and do no IO: time comes in as [`Now`](crate::clock::Now),
//! tokens come in as hashes. A store loads a record, applies one rule, and writes the record back, all
//! in one transaction, so that whoever serialises the transactions has serialised the decisions. A rule
//! that refuses has changed nothing.
//!
//! What concerns more than one record is each store's own, and written down at
//! [`Store`](crate::store::Store): ids, routing keys and client tokens that are unique, and how many
//! tunnels there may be.
//!
//! A tunnel whose lifetime is over counts as closed from that moment, even before anything has come by
//! to move it.

mod admission;
mod lifecycle;
mod record;
mod rotation;
mod tags;
mod types;

pub(crate) use record::{Link, NodeId, Record, Side, State, TokenUse};

pub use types::{
    Admitted, Connected, Cursor, DestinationConfig, Expired, Found, Lifetime, Limits, ListRequest,
    NewTunnel, Page, Presented, Refusal, Rotation, Seen, SideView, Status, Tags, ThingName,
    TunnelError, TunnelSummary, TunnelView,
};

pub(crate) fn at_most(count: usize, max: usize, what: &'static str) -> Result<(), TunnelError> {
    if count > max {
        return Err(TunnelError::LimitExceeded { what, max });
    }
    Ok(())
}

/// What a store says that refuses one more open tunnel.
pub(crate) const OPEN_TUNNELS: &str = "open tunnels";
/// Likewise, of those of one caller or to one thing.
pub(crate) const OPEN_TUNNELS_PER_KEY: &str = "open tunnels of one access key";
pub(crate) const OPEN_TUNNELS_PER_THING: &str = "open tunnels to one thing";
const SERVICES: &str = "services per tunnel";
const TAGS: &str = "tags per tunnel";
