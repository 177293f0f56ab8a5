//! The two ends of a tunnel.

use std::fmt;
use std::str::FromStr;

/// Which end of a tunnel a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Listens for local applications and opens streams.
    Source,
    /// Dials local applications when asked to.
    Destination,
}

impl Mode {
    /// The word of the wire: `source` or `destination` (wire specification, section 1.1).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }

    /// The end this one talks to.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    /// Lower case only, as on the wire.
    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        match text {
            "source" => Ok(Self::Source),
            "destination" => Ok(Self::Destination),
            _ => Err(UnknownMode),
        }
    }
}

/// The text is neither `source` nor `destination`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a mode is `source` or `destination`")]
pub struct UnknownMode;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for mode in [Mode::Source, Mode::Destination] {
            assert_eq!(mode.as_str().parse(), Ok(mode));
            assert_eq!(mode.to_string(), mode.as_str());
            assert_ne!(mode.other(), mode);
            assert_eq!(mode.other().other(), mode);
        }
    }

    #[test]
    fn refuses_other_words() {
        for text in ["", "Source", "source ", "SOURCE", "both", "destination\0"] {
            assert_eq!(text.parse::<Mode>(), Err(UnknownMode), "{text:?}");
        }
    }
}
