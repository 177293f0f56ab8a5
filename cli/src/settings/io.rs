//! Which kernel interface carries the data.

use std::fmt;
use std::str::FromStr;

/// The choice of `--io`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Io {
    /// io_uring where it works, else epoll.
    #[default]
    Auto,
    /// io_uring, or an error that says what is missing.
    Uring,
    /// epoll.
    Epoll,
}

impl Io {
    const ALL: [Self; 3] = [Self::Auto, Self::Uring, Self::Epoll];

    /// The word of the option.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        }
    }
}

impl fmt::Display for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Io {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|io| io.as_str() == text)
            .ok_or(UnknownWord)
    }
}

/// The word is none of the allowed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of the allowed words")]
pub struct UnknownWord;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for io in Io::ALL {
            assert_eq!(io.to_string().parse(), Ok(io));
        }
        for text in ["", "AUTO", "io_uring", "uring "] {
            assert_eq!(text.parse::<Io>(), Err(UnknownWord));
        }
    }
}
