//! Textual ids. Checked once when made, cheap to clone, safe to log.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::limits::{MAX_SERVICE_ID_SIZE, MAX_TUNNEL_ID_SIZE};

/// Name of one service of a tunnel: 1 to 128 of `[a-zA-Z0-9:_-]` (wire specification, section 5.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(Arc<str>);

impl ServiceId {
    /// The name itself; never empty.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn allows(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-')
    }
}

/// Name of one tunnel: 1 to 128 of `[a-zA-Z0-9_\-+=:]` (control-plane API).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelId(Arc<str>);

impl TunnelId {
    /// The name itself; never empty.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn allows(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'=' | b':')
    }
}

macro_rules! textual_id {
    ($name:ident, $what:literal, $size_max:expr) => {
        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check($what, text, $size_max, Self::allows)?;
                Ok(Self(Arc::from(text)))
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidId;

            fn try_from(text: &str) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        /// Maps keyed by the id can be asked with the bytes of a message, without making an id.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

textual_id!(ServiceId, "service id", MAX_SERVICE_ID_SIZE);
textual_id!(TunnelId, "tunnel id", MAX_TUNNEL_ID_SIZE);

fn check(
    what: &'static str,
    text: &str,
    max: usize,
    allows: impl Fn(u8) -> bool,
) -> Result<(), InvalidId> {
    let size = text.len();
    if size == 0 {
        return Err(InvalidId::Empty { what });
    }
    if size > max {
        return Err(InvalidId::TooLong { what, size, max });
    }
    match text.bytes().position(|byte| !allows(byte)) {
        Some(offset) => Err(InvalidId::Character { what, offset }),
        None => Ok(()),
    }
}

/// Why a text is no id. It does not repeat the text, which may come from a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidId {
    /// Nothing there.
    #[error("{what} is empty")]
    Empty {
        /// Which id was asked for.
        what: &'static str,
    },
    /// More bytes than allowed.
    #[error("{what} of {size} bytes exceeds the limit of {max}")]
    TooLong {
        /// Which id was asked for.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A character outside the allowed set.
    #[error("{what} has a character that is not allowed, at byte {offset}")]
    Character {
        /// Which id was asked for.
        what: &'static str,
        /// Where the first such character starts.
        offset: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_id_takes_the_whole_alphabet_and_nothing_else() {
        for byte in 0..=127u8 {
            let text = char::from(byte).to_string();
            let allowed = byte.is_ascii_alphanumeric() || b":_-".contains(&byte);
            assert_eq!(text.parse::<ServiceId>().is_ok(), allowed, "{text:?}");
            let allowed = byte.is_ascii_alphanumeric() || b"_-+=:".contains(&byte);
            assert_eq!(text.parse::<TunnelId>().is_ok(), allowed, "{text:?}");
        }
        assert!("é".parse::<ServiceId>().is_err());
        assert!("é".parse::<TunnelId>().is_err());
    }

    #[test]
    fn length_is_1_to_128() {
        for size in [1, 127, 128] {
            let text = "a".repeat(size);
            assert_eq!(text.parse::<ServiceId>().unwrap().as_str(), text);
            assert_eq!(text.parse::<TunnelId>().unwrap().as_str(), text);
        }
        assert_eq!(
            "".parse::<ServiceId>(),
            Err(InvalidId::Empty { what: "service id" })
        );
        assert_eq!(
            "a".repeat(129).parse::<ServiceId>(),
            Err(InvalidId::TooLong {
                what: "service id",
                size: 129,
                max: 128
            })
        );
        assert!("a".repeat(129).parse::<TunnelId>().is_err());
    }

    #[test]
    fn error_says_where_and_does_not_repeat_the_text() {
        let error = "ab\x1b[2Jc".parse::<ServiceId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "service id has a character that is not allowed, at byte 2"
        );
        assert!(!format!("{error:?}").contains('\x1b'));
    }

    #[test]
    fn a_map_is_asked_with_plain_text() {
        let mut map = std::collections::BTreeMap::new();
        map.insert(ServiceId::try_from("SSH").unwrap(), 1);
        assert_eq!(map.get("SSH"), Some(&1));
        assert_eq!(map.get("ssh"), None);
    }
}
