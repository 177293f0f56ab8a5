//! Numeric ids. Zero means "absent" on the wire, so neither type can hold it.

use std::fmt;
use std::num::{NonZeroI32, NonZeroU32};

/// Label of one stream of a service, 1 to 2147483647 (wire specification, section 5.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(NonZeroI32);

impl StreamId {
    /// What a source uses first on a new WebSocket.
    pub const FIRST: Self = match Self::new(1) {
        Some(first) => first,
        None => unreachable!(),
    };

    /// `None` for zero and for negative numbers, which no valid message carries.
    pub const fn new(value: i32) -> Option<Self> {
        match NonZeroI32::new(value) {
            Some(nonzero) if value > 0 => Some(Self(nonzero)),
            _ => None,
        }
    }

    /// The number of the wire; always positive.
    pub const fn get(self) -> i32 {
        self.0.get()
    }

    /// The id of the next stream: one more, and 1 after 2147483647.
    #[must_use]
    pub fn next(self) -> Self {
        Self::new(self.get().wrapping_add(1)).unwrap_or(Self::FIRST)
    }
}

/// Label of one connection of a service, from 1 (wire specification, section 5.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(NonZeroU32);

impl ConnectionId {
    /// What a source uses first; also what a peer means that leaves the id out.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// `None` for zero, which means "absent".
    pub const fn new(value: u32) -> Option<Self> {
        match NonZeroU32::new(value) {
            Some(nonzero) => Some(Self(nonzero)),
            None => None,
        }
    }

    /// The number of the wire; never zero.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The next id: one more, and 1 after 4294967295.
    #[must_use]
    pub fn next(self) -> Self {
        Self::new(self.get().wrapping_add(1)).unwrap_or(Self::FIRST)
    }
}

macro_rules! numeric_id {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

numeric_id!(StreamId);
numeric_id!(ConnectionId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_id_is_positive() {
        assert_eq!(StreamId::FIRST.get(), 1);
        assert_eq!(StreamId::new(1), Some(StreamId::FIRST));
        assert_eq!(StreamId::new(i32::MAX).map(StreamId::get), Some(i32::MAX));
        for value in [0, -1, i32::MIN] {
            assert_eq!(StreamId::new(value), None, "{value}");
        }
    }

    #[test]
    fn connection_id_is_not_zero() {
        assert_eq!(ConnectionId::FIRST.get(), 1);
        assert_eq!(ConnectionId::new(0), None);
        assert_eq!(
            ConnectionId::new(u32::MAX).map(ConnectionId::get),
            Some(u32::MAX)
        );
    }

    #[test]
    fn next_wraps_to_one() {
        let stream = |value| StreamId::new(value).unwrap();
        assert_eq!(stream(1).next(), stream(2));
        assert_eq!(stream(i32::MAX - 1).next(), stream(i32::MAX));
        assert_eq!(stream(i32::MAX).next(), StreamId::FIRST);
        let connection = |value| ConnectionId::new(value).unwrap();
        assert_eq!(connection(1).next(), connection(2));
        assert_eq!(connection(u32::MAX).next(), ConnectionId::FIRST);
    }

    #[test]
    fn both_read_aloud() {
        assert_eq!(StreamId::FIRST.to_string(), "1");
        assert_eq!(format!("{:?}", ConnectionId::FIRST), "ConnectionId(1)");
    }
}
