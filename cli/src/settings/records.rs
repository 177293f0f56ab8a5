//! Who seals and opens TLS records.

use std::fmt;
use std::str::FromStr;

use adit_engine::tls::RecordsChoice;

use super::UnknownWord;

/// The choice of `--tls-records`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Records {
    /// The TLS library: two copies a record, one allocation.
    Library,
    /// Our own record layer on the library's keys: no copy, no allocation; TLS 1.3 only.
    #[default]
    InPlace,
}

impl Records {
    const ALL: [Self; 2] = [Self::Library, Self::InPlace];

    /// The word of the option.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Library => "library",
            Self::InPlace => "in-place",
        }
    }
}

impl From<Records> for RecordsChoice {
    fn from(records: Records) -> Self {
        match records {
            Records::Library => Self::Library,
            Records::InPlace => Self::InPlace,
        }
    }
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Records {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let found = Self::ALL
            .into_iter()
            .find(|records| records.as_str() == text);
        found.ok_or(UnknownWord)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for records in Records::ALL {
            assert_eq!(records.to_string().parse(), Ok(records));
        }
        assert_eq!("inplace".parse::<Records>(), Err(UnknownWord));
    }
}
