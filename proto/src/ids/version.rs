//! Versions: what a handshake offers, and what messages show.

use std::fmt;

/// How a peer labels its messages. It follows from the messages, not from the handshake (wire
/// specification, sections 1.5 and 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// No service id, no connection id: one stream with one connection.
    V1,
    /// A service id: several services with one connection each.
    V2,
    /// A connection id: many connections per service.
    V3,
}

impl Dialect {
    /// The dialect that one message shows. A V3 message without a service id is one of a tunnel
    /// without services.
    pub const fn of(service_id_present: bool, connection_id: u32) -> Self {
        match (service_id_present, connection_id) {
            (false, 0) => Self::V1,
            (true, 0) => Self::V2,
            (_, 1..) => Self::V3,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V1 => "V1",
            Self::V2 => "V2",
            Self::V3 => "V3",
        })
    }
}

/// A WebSocket subprotocol of the service (wire specification, section 1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subprotocol {
    /// `aws.iot.securetunneling-1.0`
    V1,
    /// `aws.iot.securetunneling-2.0`
    V2,
    /// `aws.iot.securetunneling-3.0`
    V3,
}

impl Subprotocol {
    /// Every known one, oldest first.
    pub const ALL: [Self; 3] = [Self::V1, Self::V2, Self::V3];

    /// The name in the `Sec-WebSocket-Protocol` header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "aws.iot.securetunneling-1.0",
            Self::V2 => "aws.iot.securetunneling-2.0",
            Self::V3 => "aws.iot.securetunneling-3.0",
        }
    }

    /// The subprotocol of that name, compared exactly (RFC 6455 §4.1: names are case-sensitive).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// What a service answers: the first of a client's list, which is in its order of preference
    /// (RFC 6455 §1.9). `None` when the list is empty.
    pub fn select(offered: &[Self]) -> Option<Self> {
        offered.first().copied()
    }
}

impl fmt::Display for Subprotocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialect_follows_the_table() {
        assert_eq!(Dialect::of(false, 0), Dialect::V1);
        assert_eq!(Dialect::of(true, 0), Dialect::V2);
        assert_eq!(Dialect::of(true, 1), Dialect::V3);
        assert_eq!(Dialect::of(false, u32::MAX), Dialect::V3);
        assert_eq!(Dialect::V1.to_string(), "V1");
        assert_eq!(Dialect::V2.to_string(), "V2");
        assert_eq!(Dialect::V3.to_string(), "V3");
    }

    #[test]
    fn subprotocol_names_are_exact() {
        for known in Subprotocol::ALL {
            assert_eq!(Subprotocol::parse(known.name()), Some(known));
            assert_eq!(Subprotocol::parse(&known.name().to_uppercase()), None);
        }
        assert_eq!(Subprotocol::V3.to_string(), "aws.iot.securetunneling-3.0");
        assert_eq!(Subprotocol::parse("aws.iot.securetunneling-4.0"), None);
        assert_eq!(Subprotocol::parse(""), None);
    }

    #[test]
    fn the_clients_preference_wins() {
        use Subprotocol::*;
        assert_eq!(Subprotocol::select(&[V2, V3]), Some(V2));
        assert_eq!(Subprotocol::select(&[V3, V1]), Some(V3));
        assert_eq!(Subprotocol::select(&[]), None);
    }
}
