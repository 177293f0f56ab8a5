//! What can go wrong with one operation, as few kinds as a reader can act on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why an operation did not end well. The names are those in `summary.json` and in the CSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The target refused the connection.
    Refused,
    /// No way to the target, or its dial took too long.
    Unreachable,
    /// The connection was reset.
    Reset,
    /// The connection ended before the answer was whole.
    Closed,
    /// No answer within the operation's time.
    TimedOut,
    /// A byte that came is not the byte that was sent, or one is missing: the run has failed.
    Mismatch,
    /// An intended start that was never made, because too many were waiting already.
    Skipped,
    /// The tunnel itself ended or broke the protocol.
    Tunnel,
    /// This machine ran out: descriptors, ports, memory.
    Local,
    /// Anything else the system reported.
    Other,
}

impl ErrorKind {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Self; 10] = [
        Self::Refused,
        Self::Unreachable,
        Self::Reset,
        Self::Closed,
        Self::TimedOut,
        Self::Mismatch,
        Self::Skipped,
        Self::Tunnel,
        Self::Local,
        Self::Other,
    ];

    /// Whether bytes that had been sent did not arrive, or arrived wrong, as far as anybody can tell. Where there was no
    /// connection, or nothing was begun, there was nothing to lose.
    #[must_use]
    pub fn loses_bytes(self) -> bool {
        match self {
            Self::Reset
            | Self::Closed
            | Self::TimedOut
            | Self::Mismatch
            | Self::Tunnel
            | Self::Other => true,
            Self::Refused | Self::Unreachable | Self::Skipped | Self::Local => false,
        }
    }

    /// The name in reports and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::TimedOut => "timed-out",
            Self::Mismatch => "mismatch",
            Self::Skipped => "skipped",
            Self::Tunnel => "tunnel",
            Self::Local => "local",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<&std::io::Error> for ErrorKind {
    fn from(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        match error.kind() {
            Io::ConnectionRefused => Self::Refused,
            Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe => Self::Reset,
            Io::UnexpectedEof | Io::WriteZero | Io::NotConnected => Self::Closed,
            Io::TimedOut | Io::WouldBlock => Self::TimedOut,
            Io::HostUnreachable | Io::NetworkUnreachable | Io::NetworkDown => Self::Unreachable,
            Io::AddrNotAvailable | Io::AddrInUse | Io::OutOfMemory | Io::QuotaExceeded => {
                Self::Local
            }
            // std has no kind for these three: too many descriptors here, on the machine, no buffers.
            _ => match error.raw_os_error() {
                Some(EMFILE | ENFILE | ENOBUFS) => Self::Local,
                _ => Self::Other,
            },
        }
    }
}

const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOBUFS: i32 = 105;

/// How often each kind happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorCounts([u64; ErrorKind::ALL.len()]);

impl ErrorCounts {
    /// Counts one more.
    pub fn add(&mut self, kind: ErrorKind, count: u64) {
        self.0[kind as usize] += count;
    }

    /// Adds another tally to this one.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// All kinds together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// How often `kind` happened.
    #[must_use]
    pub fn of(&self, kind: ErrorKind) -> u64 {
        self.0[kind as usize]
    }

    /// The kinds that happened at all.
    pub fn iter(&self) -> impl Iterator<Item = (ErrorKind, u64)> + '_ {
        ErrorKind::ALL
            .into_iter()
            .map(|kind| (kind, self.of(kind)))
            .filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_named_the_same_in_json_and_in_text() {
        for kind in ErrorKind::ALL {
            let json = serde_json::to_string(&kind).expect("a name");
            assert_eq!(json, format!("\"{kind}\""));
        }
    }

    #[test]
    fn running_out_of_descriptors_is_our_own_limit() {
        let error = std::io::Error::from_raw_os_error(EMFILE);
        assert_eq!(ErrorKind::from(&error), ErrorKind::Local);
    }

    #[test]
    fn counts_keep_kinds_apart() {
        let mut counts = ErrorCounts::default();
        counts.add(ErrorKind::Reset, 2);
        let mut more = ErrorCounts::default();
        more.add(ErrorKind::Reset, 1);
        more.add(ErrorKind::Other, 1);
        counts.merge(&more);
        assert_eq!(
            counts.iter().collect::<Vec<_>>(),
            [(ErrorKind::Reset, 3), (ErrorKind::Other, 1)]
        );
        assert_eq!(counts.total(), 4);
    }
}
