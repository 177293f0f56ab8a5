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
/// | [`Unreachable`](Self::Unreachable) | 5 | 0 (as the reference) |
/// | [`BadConfiguration`](Self::BadConfiguration) | 6 | 1 |
/// | [`CannotListen`](Self::CannotListen) | 7 | 1 |
/// | [`CannotConnect`](Self::CannotConnect) | 8 | 8 |
/// | [`Program`](Self::Program) | that of the program | |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum ExitCode {
    /// It ended well: help, version, closed by the service, or stopped by a signal after a clean close.
    Ended,
    /// An unexpected failure; a link that was lost and is not to be replaced; standard input or
    /// output that failed, or their connection cut short (`-s stdio:`); an answer that standard output
    /// does not take.
    Failure,
    /// The command line cannot be used.
    Usage,
    /// The mapping does not fit the services of the tunnel.
    MappingMismatch,
    /// The service refused the connection, and would again.
    Refused,
    /// The service could not be reached, retries are used up.
    Unreachable,
    /// Something on the disk cannot be used: a configuration file, the authorities of `--capath`, or
    /// the service's data directory with its keys and certificates.
    BadConfiguration,
    /// A local endpoint is taken or not allowed.
    CannotListen,
    /// The service was not reached, and trying again would end the same way: a web proxy wants
    /// credentials, or an answer is none that a service of this protocol gives.
    CannotConnect,
    /// A program that was run for the user ended so (`adit ssh`).
    Program(u8),
}

impl ExitCode {
    /// Every way to end that is our own.
    pub const ALL: [Self; 9] = [
        Self::Ended,
        Self::Failure,
        Self::Usage,
        Self::MappingMismatch,
        Self::Refused,
        Self::Unreachable,
        Self::BadConfiguration,
        Self::CannotListen,
        Self::CannotConnect,
    ];

    /// The number that the shell sees.
    ///
    /// As `localproxy` it is the reference's (wire specification, section 13.1): 0 or 1, except that
    /// what trying again does not help is told apart from success (section 17, Q-06).
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
            Self::CannotConnect => (8, 8),
            Self::Program(number) => (number, number),
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
            (8, 8),
        ];
        assert_eq!(table, documented);
    }
}
