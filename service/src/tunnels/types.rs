//! What goes into the tunnel table and what comes out of it.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use adit_proto::{Mode, ServiceId, TunnelId};

use crate::clock::Timestamp;
use crate::token::{ClientTokenHash, RoutingKey, TokenHash};

/// Name of a device: 1 to 128 of `[a-zA-Z0-9:_-]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThingName(Arc<str>);

impl ThingName {
    /// `None` when the text is no thing name.
    pub fn new(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":_-".contains(&byte);
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(allowed);
        fits.then(|| Self(text.into()))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Tags of a tunnel, sorted by key.
pub type Tags = BTreeMap<String, String>;

/// How long a tunnel may live: 1 to 720 minutes, counted from its creation; nothing extends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(u16);

impl Lifetime {
    /// The longest, and the default: 12 hours.
    pub const MAX: Self = Self(720);

    /// `None` outside 1 to 720.
    pub fn from_minutes(minutes: i64) -> Option<Self> {
        let minutes = u16::try_from(minutes).ok()?;
        (1..=Self::MAX.0)
            .contains(&minutes)
            .then_some(Self(minutes))
    }

    /// In minutes.
    pub fn minutes(self) -> u16 {
        self.0
    }

    pub(crate) fn duration(self) -> Duration {
        Duration::from_secs(u64::from(self.0) * 60)
    }
}

/// The device side of a tunnel, as its opener describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationConfig {
    /// The device, when the tunnel is for one.
    pub thing: Option<ThingName>,
    /// The services reached through the tunnel; not empty, no name twice.
    pub services: Arc<[ServiceId]>,
}

/// All that is needed to open a tunnel. The tokens themselves stay with the caller.
#[derive(Clone)]
pub struct NewTunnel {
    /// Chosen by the caller, never used before.
    pub id: TunnelId,
    /// What the tokens begin with.
    pub routing_key: RoutingKey,
    /// Hash of the source's token.
    pub source: TokenHash,
    /// Hash of the destination's token.
    pub destination: TokenHash,
    /// Free text.
    pub description: Option<Arc<str>>,
    /// Tags to begin with.
    pub tags: Tags,
    /// Device and services, if any.
    pub config: Option<DestinationConfig>,
    /// How long it may live.
    pub lifetime: Lifetime,
    /// The access key of whoever opens it, when the API asks for one.
    pub owner: Option<Arc<str>>,
}

/// New tokens for one side or both.
#[derive(Clone)]
pub struct Rotation {
    /// Hash of the source's new token, when that side is rotated.
    pub source: Option<TokenHash>,
    /// Hash of the destination's new token, when that side is rotated.
    pub destination: Option<TokenHash>,
    /// A device and services that came with the request.
    pub config: Option<DestinationConfig>,
    /// What the tunnel has to be for.
    pub seen: Seen,
}

/// What a tunnel was for when somebody looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nobody did.
    Anything,
    /// This device and these services, or none.
    Config(Option<DestinationConfig>),
}

/// A handshake that asks for admission, reduced to hashes.
#[derive(Clone)]
pub struct Presented {
    /// What the access token begins with.
    pub routing_key: RoutingKey,
    /// Hash of the access token.
    pub token: TokenHash,
    /// Hash of the client token, when one was sent.
    pub client_token: Option<ClientTokenHash>,
    /// The side asked for.
    pub mode: Mode,
}

/// A handshake that was let in. Its token is spent.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The tunnel the token belongs to.
    pub tunnel: TunnelId,
    /// Its services; empty when it was opened without.
    pub services: Arc<[ServiceId]>,
    /// Number of this connection of the tunnel; a later one has a higher number.
    pub session: u64,
    /// When the tunnel's lifetime is over, in steady time.
    pub ends: Timestamp,
}

/// Whether data may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Until it is closed or its lifetime is over.
    Open,
    /// For good.
    Closed,
}

/// One side of a tunnel, as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SideView {
    /// Whether its WebSocket is up.
    pub connected: bool,
    /// When that last changed; `None` when the side never connected.
    pub updated: Option<Timestamp>,
}

/// A whole tunnel, as others see it. Holds no secret.
#[derive(Clone, Debug)]
pub struct TunnelView {
    /// The part that lists show.
    pub summary: TunnelSummary,
    /// The operator's side.
    pub source: SideView,
    /// The device's side.
    pub destination: SideView,
    /// Device and services, if any.
    pub config: Option<DestinationConfig>,
    /// How long it may live from its creation.
    pub lifetime: Lifetime,
    /// Its tags.
    pub tags: Tags,
}

/// One line of a list.
#[derive(Clone, Debug)]
pub struct TunnelSummary {
    /// Its id.
    pub id: TunnelId,
    /// Open or closed.
    pub status: Status,
    /// Free text.
    pub description: Option<Arc<str>>,
    /// When it was opened.
    pub created: Timestamp,
    /// When its state last changed.
    pub updated: Timestamp,
}

/// What a list should hold.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// Only tunnels to this device.
    pub thing: Option<ThingName>,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// At most so many.
    pub count: NonZeroUsize,
}

/// A place in the list of all tunnels, newest first. Tunnels opened or removed meanwhile do not shift it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub(crate) u64);

impl Cursor {
    /// As a number, to be carried by a client.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// Any number is a place.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// The newest first.
    pub tunnels: Vec<TunnelSummary>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Cursor>,
}

/// What became of a connection that was handed to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connected {
    /// It is the side's connection now.
    Current,
    /// A newer connection of the same side was at this node before it, whose relay knows both.
    Superseded,
    /// A newer connection of the same side is at another node: this one must be cut.
    Moved,
    /// The side's token was rotated after the connection was admitted: it must be cut.
    Revoked,
    /// The tunnel was closed after the connection was admitted: it must be cut.
    TunnelEnded,
}

/// How a tunnel was found by who closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Open: this has ended it.
    Open,
    /// Its lifetime was over, which nothing had come by to notice: that was its end.
    Over,
    /// Closed: it was ended before.
    Closed,
}

/// What the passing of time did.
#[derive(Clone, Debug, Default)]
pub struct Expired {
    /// Tunnels that this has closed because their lifetime is over: each is told once.
    pub ended: Vec<TunnelId>,
    /// Closed tunnels that have just been forgotten, counted.
    pub forgotten: usize,
    /// When to ask again, in steady time; `None` when nothing is waiting.
    pub next: Option<Timestamp>,
}

/// Why an operation on a tunnel was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// There is no tunnel of this id (any more).
    #[error("tunnel {0} does not exist")]
    NotFound(TunnelId),
    /// The tunnel is closed, and the operation needs an open one.
    #[error("tunnel {0} is closed")]
    Closed(TunnelId),
    /// The id of a new tunnel is in use; another one will do.
    #[error("tunnel id {0} is already in use")]
    Taken(TunnelId),
    /// A limit of this installation.
    #[error("limit exceeded: at most {max} {what}")]
    LimitExceeded {
        /// What there would be too many of.
        what: &'static str,
        /// How many are allowed.
        max: usize,
    },
    /// Two keys of tags differ by nothing but their case.
    #[error("the tag keys {0} and {1} differ only by case; keep to one of them")]
    TagKeys(String, String),
    /// A rotation named other services than the tunnel was opened with.
    #[error("the services of a tunnel are fixed when it is opened")]
    ServicesFixed,
    /// The tunnel is not what it was for when the caller's leave to rotate was looked into; look again.
    #[error("the tunnel was given to another device meanwhile; try again")]
    Moved,
    /// The store cannot answer now.
    #[error("the store is unavailable")]
    Unavailable,
    /// The answer of the store was lost: the change may have been made. Asking again finds out.
    #[error("the store's answer was lost, and the change may have been made; look, or try again")]
    Uncertain,
    /// What the store holds of the tunnel cannot be; trying again changes nothing.
    #[error("the stored record of the tunnel is damaged")]
    Damaged,
}

/// Why a handshake was refused. `Display` is the text for the client
/// (control-plane specification, section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The token was never given out, or was rotated away.
    UnknownToken,
    /// The token is for the other side.
    WrongMode,
    /// The token was used without a client token, and that was its one use.
    Used,
    /// The token is bound to a client token that was not presented.
    OtherClientToken,
    /// The client token is bound to another access token of an open tunnel.
    ClientTokenTaken,
    /// The tunnel was closed, or its lifetime is over.
    TunnelClosed,
    /// The store cannot answer now; the client should try again.
    Unavailable,
}

impl From<TunnelError> for Refusal {
    /// What a tunnel that cannot be had means to a handshake for it.
    fn from(error: TunnelError) -> Self {
        match error {
            TunnelError::NotFound(_) => Self::UnknownToken,
            TunnelError::Closed(_) => Self::TunnelClosed,
            TunnelError::Taken(_)
            | TunnelError::LimitExceeded { .. }
            | TunnelError::ServicesFixed
            | TunnelError::TagKeys(..)
            | TunnelError::Moved
            | TunnelError::Unavailable
            | TunnelError::Uncertain
            | TunnelError::Damaged => Self::Unavailable,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownToken => "Invalid access token",
            Self::WrongMode => {
                "Invalid access token: The access token does not belong to the requested local proxy mode."
            }
            Self::Used => {
                "Invalid access token: The access token was previously used and can not be used again."
            }
            Self::OtherClientToken => {
                "Invalid client token: The provided client token does not match the client token that \
                 was previously set."
            }
            Self::ClientTokenTaken => {
                "Invalid client token: The provided client token is already in use with another access \
                 token."
            }
            Self::TunnelClosed => "Tunnel is closed",
            Self::Unavailable => "Service unavailable, try again later",
        })
    }
}

/// Bounds of the table. Every one refuses or drops something, none is for show.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open tunnels; one more is refused. About 1 KiB each, more with long descriptions and tags.
    pub open_tunnels_max: usize,
    /// Open tunnels that were opened with one access key: nobody can use up what all share.
    pub open_tunnels_per_key_max: usize,
    /// Open tunnels to one thing, by whomever.
    pub open_tunnels_per_thing_max: usize,
    /// Closed tunnels still kept; beyond, the one closed first goes early: a flood of short tunnels
    /// costs history, never the ability to open one.
    pub closed_tunnels_max: usize,
    /// Services of one tunnel. 128 names of 128 bytes fill a quarter of the one message that lists them.
    pub services_per_tunnel_max: usize,
    /// Tags on one tunnel.
    pub tags_per_tunnel_max: usize,
    /// How long a closed tunnel stays readable.
    pub retention: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            open_tunnels_max: 100_000,
            open_tunnels_per_key_max: 50_000,
            open_tunnels_per_thing_max: 1_000,
            closed_tunnels_max: 100_000,
            services_per_tunnel_max: 128,
            tags_per_tunnel_max: 50,
            retention: Duration::from_secs(3 * 60 * 60),
        }
    }
}
