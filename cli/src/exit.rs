//! How the process ends.

use crate::personality::Personality;

/// Why the process ends, as far as a script wants to know.
///
/// | | `adit` | `localproxy` |
/// | --- | --- | --- |
/// | [`Ended`](Self::Ended) | 0 | 0 |
/// | [`Failure`](Self::Failure) | 1 | 1 |
/// | [`Usage`](Self::Usage) | 2 | 1 |
/// | [`MappingMismatch`](Self::MappingMismatch) | 3 | 1 |
/// | [`Refused`](Self::Refused) | 4 | 4 (the reference: 0, defect Q-06) |
/// | [`Unreachable`](Self::Unreachable) | 5 | 0 |
/// | [`BadConfiguration`](Self::BadConfiguration) | 6 | 1 |
/// | [`CannotListen`](Self::CannotListen) | 7 | 1 |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum ExitCode {
    /// It ended well: help, version, closed by the service, or stopped by a signal after a clean close.
    Ended,
    /// An unexpected failure.
    Failure,
    /// The command line cannot be used.
    Usage,
    /// The mapping does not fit the services of the tunnel.
    MappingMismatch,
    /// The service refused the connection, and would again.
    Refused,
    /// The service could not be reached, retries are used up.
    Unreachable,
    /// A configuration file cannot be used.
    BadConfiguration,
    /// A local endpoint is taken or not allowed.
    CannotListen,
}

impl ExitCode {
    /// Every way to end.
    pub const ALL: [Self; 8] = [
        Self::Ended,
        Self::Failure,
        Self::Usage,
        Self::MappingMismatch,
        Self::Refused,
        Self::Unreachable,
        Self::BadConfiguration,
        Self::CannotListen,
    ];

    /// The number that the shell sees.
    ///
    /// As `localproxy` it is the reference's (wire specification, section 13.1): 0 or 1, except that
    /// a refused handshake is told apart from success (section 17, Q-06).
    pub fn number(self, personality: Personality) -> u8 {
        let (adit, localproxy) = match self {
            Self::Ended => (0, 0),
            Self::Failure => (1, 1),
            Self::Usage => (2, 1),
            Self::MappingMismatch => (3, 1),
            Self::Refused => (4, 4),
            Self::Unreachable => (5, 0),
            Self::BadConfiguration => (6, 1),
            Self::CannotListen => (7, 1),
        };
        match personality {
            Personality::Adit => adit,
            Personality::Localproxy => localproxy,
        }
    }

    /// The value that `main` returns.
    pub fn to_process(self, personality: Personality) -> std::process::ExitCode {
        self.number(personality).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_documented_ones() {
        let table: Vec<(u8, u8)> = ExitCode::ALL
            .iter()
            .map(|code| {
                (
                    code.number(Personality::Adit),
                    code.number(Personality::Localproxy),
                )
            })
            .collect();
        let documented = [
            (0, 0),
            (1, 1),
            (2, 1),
            (3, 1),
            (4, 4),
            (5, 0),
            (6, 1),
            (7, 1),
        ];
        assert_eq!(table, documented);
    }
}
