//! What a message asks for.

use std::fmt;

/// The type of a message. Open: a number we do not know survives as [`Kind::Unknown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Any other number; 0 is what an absent type reads as, and invalid.
    Unknown(i32),
    /// Application bytes of one connection.
    Data,
    /// Opens a stream and its first connection.
    StreamStart,
    /// The stream is over, with every connection in it.
    StreamReset,
    /// Every stream of every service is over.
    SessionReset,
    /// The services of the tunnel.
    ServiceIds,
    /// Opens one more connection in a stream.
    ConnectionStart,
    /// One connection is over.
    ConnectionReset,
    /// How far the peer may send; see [`Credit`](super::Credit). The protocol guides do not know it.
    Credit,
}

impl Kind {
    /// The kind of a wire number.
    pub const fn from_raw(raw: i32) -> Self {
        match raw {
            1 => Self::Data,
            2 => Self::StreamStart,
            3 => Self::StreamReset,
            4 => Self::SessionReset,
            5 => Self::ServiceIds,
            6 => Self::ConnectionStart,
            7 => Self::ConnectionReset,
            CREDIT => Self::Credit,
            unknown => Self::Unknown(unknown),
        }
    }

    /// The wire number of a kind.
    pub const fn raw(self) -> i32 {
        match self {
            Self::Unknown(raw) => raw,
            Self::Data => 1,
            Self::StreamStart => 2,
            Self::StreamReset => 3,
            Self::SessionReset => 4,
            Self::ServiceIds => 5,
            Self::ConnectionStart => 6,
            Self::ConnectionReset => 7,
            Self::Credit => CREDIT,
        }
    }

    /// The name in the protocol guides, or in their style; unknown numbers share one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown(_) => "UNKNOWN",
            Self::Data => "DATA",
            Self::StreamStart => "STREAM_START",
            Self::StreamReset => "STREAM_RESET",
            Self::SessionReset => "SESSION_RESET",
            Self::ServiceIds => "SERVICE_IDS",
            Self::ConnectionStart => "CONNECTION_START",
            Self::ConnectionReset => "CONNECTION_RESET",
            Self::Credit => "CREDIT",
        }
    }
}

/// Far from the numbers that AWS gives out one after the other, and still one byte.
const CREDIT: i32 = 100;

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(raw) => write!(f, "UNKNOWN({raw})"),
            known => f.pad(known.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Type;

    #[test]
    fn numbers_and_names_are_those_of_the_proto_file() {
        for raw in -2..=9 {
            let kind = Kind::from_raw(raw);
            assert_eq!(kind.raw(), raw);
            match Type::try_from(raw) {
                Ok(known) => assert_eq!(kind.name(), known.as_str_name()),
                Err(_) => assert_eq!(kind, Kind::Unknown(raw)),
            }
        }
        assert_eq!(Kind::from_raw(Kind::Credit.raw()), Kind::Credit);
        assert!(Type::try_from(Kind::Credit.raw()).is_err());
        assert_eq!(Kind::Unknown(99).to_string(), "UNKNOWN(99)");
        assert_eq!(Kind::Data.to_string(), "DATA");
        assert_eq!(Kind::Credit.to_string(), "CREDIT");
    }
}
