//! Secrets: never printed, wiped when dropped, compared in constant time.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::limits::{MAX_ACCESS_TOKEN_SIZE, MAX_CLIENT_TOKEN_SIZE, MIN_CLIENT_TOKEN_SIZE};

/// Text that must not reach a log, an error or a core dump.
///
/// `Debug` prints nothing of it, there is no `Display`, and equality takes the same time wherever the
/// first difference is (the length may be learned).
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over; the caller keeps no copy.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Every call is a place to look at when a secret leaks.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Client access token: the bearer credential for one side of a tunnel (wire specification, section 1.3).
///
/// 1 to 4,096 printable ASCII characters that neither start nor end with a space, so that a header
/// carries it unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken(Secret);

impl AccessToken {
    /// Checks the shape only; whether the token is good, the service knows.
    pub fn new(text: String) -> Result<Self, InvalidToken> {
        let secret = Secret::new(text);
        let bytes = secret.expose().as_bytes();
        check_size("access token", bytes, 1, MAX_ACCESS_TOKEN_SIZE)?;
        let printable = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
        if !printable || bytes.starts_with(b" ") || bytes.ends_with(b" ") {
            return Err(InvalidToken::Character {
                what: "access token",
            });
        }
        Ok(Self(secret))
    }

    /// The token itself.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// Client token: makes an access token usable again by whoever presents the same pair (section 1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientToken(Secret);

impl ClientToken {
    /// The documented shape: `^[a-zA-Z0-9-]{32,128}$`.
    pub fn strict(text: String) -> Result<Self, InvalidToken> {
        Self::new(text, |byte| byte.is_ascii_alphanumeric() || byte == b'-')
    }

    /// What the reference client takes: any 32 to 128 bytes without control characters (defect Q-31).
    pub fn lenient(text: String) -> Result<Self, InvalidToken> {
        Self::new(text, |byte| !byte.is_ascii_control())
    }

    fn new(text: String, allows: impl Fn(u8) -> bool) -> Result<Self, InvalidToken> {
        let secret = Secret::new(text);
        let bytes = secret.expose().as_bytes();
        check_size(
            "client token",
            bytes,
            MIN_CLIENT_TOKEN_SIZE,
            MAX_CLIENT_TOKEN_SIZE,
        )?;
        if !bytes.iter().all(|byte| allows(*byte)) {
            return Err(InvalidToken::Character {
                what: "client token",
            });
        }
        Ok(Self(secret))
    }

    /// The token itself.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

fn check_size(
    what: &'static str,
    bytes: &[u8],
    min: usize,
    max: usize,
) -> Result<(), InvalidToken> {
    let size = bytes.len();
    if (min..=max).contains(&size) {
        return Ok(());
    }
    Err(InvalidToken::Size {
        what,
        size,
        min,
        max,
    })
}

/// Why a text is no token. It never repeats the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidToken {
    /// Too short or too long.
    #[error("{what} of {size} bytes; allowed are {min} to {max}")]
    Size {
        /// Which token was asked for.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The smallest allowed size.
        min: usize,
        /// The largest allowed size.
        max: usize,
    },
    /// A character outside the allowed set.
    #[error("{what} has a character that is not allowed")]
    Character {
        /// Which token was asked for.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_nothing_of_it() {
        let canary = "canary-0123456789-canary-0123456789";
        let text = format!(
            "{:?} {:?} {:?} {:?}",
            Secret::new(canary.into()),
            AccessToken::new(canary.into()),
            ClientToken::strict(canary.into()),
            ClientToken::strict(format!("{canary}!")),
        );
        assert!(!text.contains("canary"), "{text}");
        assert!(
            text.starts_with("Secret Ok(AccessToken(Secret)) "),
            "{text}"
        );
    }

    #[test]
    fn equality_is_by_content() {
        let secret = |text: &str| Secret::new(text.into());
        assert_eq!(secret("abc"), secret("abc"));
        assert_ne!(secret("abc"), secret("abd"));
        assert_ne!(secret("abc"), secret("abcd"));
        assert_ne!(secret(""), secret("a"));
    }

    #[test]
    fn access_token_has_bounds() {
        for good in ["a".to_owned(), "a b~!".to_owned(), "x".repeat(4096)] {
            assert_eq!(AccessToken::new(good.clone()).unwrap().expose(), good);
        }
        for bad in ["", " a", "a ", "a\rb", "a\nb", "a\tb", "a\0", "a\x7f", "é"] {
            assert!(AccessToken::new(bad.into()).is_err(), "{bad:?}");
        }
        assert_eq!(
            AccessToken::new("x".repeat(4097)),
            Err(InvalidToken::Size {
                what: "access token",
                size: 4097,
                min: 1,
                max: 4096
            })
        );
    }

    #[test]
    fn strict_client_token_follows_the_pattern() {
        for byte in 0..=127u8 {
            let text = format!("{}{}", "a".repeat(31), char::from(byte));
            let allowed = byte.is_ascii_alphanumeric() || byte == b'-';
            assert_eq!(ClientToken::strict(text.clone()).is_ok(), allowed);
            assert_eq!(ClientToken::lenient(text).is_ok(), !byte.is_ascii_control());
        }
        assert!(ClientToken::lenient("é".repeat(16)).is_ok());
        for (size, fits) in [(31, false), (32, true), (128, true), (129, false)] {
            assert_eq!(
                ClientToken::strict("a".repeat(size)).is_ok(),
                fits,
                "{size}"
            );
            assert_eq!(
                ClientToken::lenient("a".repeat(size)).is_ok(),
                fits,
                "{size}"
            );
        }
    }
}
