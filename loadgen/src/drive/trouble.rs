//! Why a connection, or one thing asked of it, failed.

use std::io;

use adit_verify::{Fault, Kind};
use thiserror::Error;

use crate::report::ErrorKind;

/// What went wrong.
#[derive(Debug, Error)]
pub enum Trouble {
    /// There was no connection.
    #[error("dial: {0}")]
    Dial(io::Error),
    /// There was one, and it failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It was given up: no answer had come in time.
    #[error("no answer in time")]
    GivenUp,
    /// What came is not what was sent.
    #[error("{0}")]
    Fault(#[from] Fault),
    /// The far end says so of what it received.
    #[error("the server received a wrong byte, in what it had taken up to offset {offset}")]
    Complaint {
        /// Bytes that had come there.
        offset: u64,
    },
    /// Right bytes, but no answer to what was asked.
    #[error("a message {kind:?} of {size} bytes, where one of {expected} bytes was asked for")]
    Unexpected {
        /// What came.
        kind: Kind,
        /// Its size.
        size: usize,
        /// What was asked for.
        expected: usize,
    },
}

impl Trouble {
    /// What it counts as.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Dial(error) => match ErrorKind::from(error) {
                // Nothing had been sent that could be lost.
                ErrorKind::TimedOut => ErrorKind::Unreachable,
                other => other,
            },
            Self::Io(error) => match ErrorKind::from(error) {
                // How Linux says that nothing was acknowledged in time, where the network has given a reason.
                ErrorKind::Unreachable => ErrorKind::TimedOut,
                // The connection is given up with what was on its way.
                other if !other.loses_bytes() => ErrorKind::Other,
                other => other,
            },
            Self::GivenUp => ErrorKind::TimedOut,
            Self::Fault(fault) if fault.is_cut() => ErrorKind::Closed,
            Self::Fault(_) | Self::Complaint { .. } | Self::Unexpected { .. } => {
                ErrorKind::Mismatch
            }
        }
    }

    /// Tells a connection that was given up from one that failed.
    pub(super) fn of(error: io::Error) -> Self {
        const ECANCELED: i32 = 125;
        match error.raw_os_error() {
            Some(ECANCELED) => Self::GivenUp,
            _ => Self::Io(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dial_that_took_too_long_has_lost_no_bytes() {
        const ETIMEDOUT: i32 = 110;
        let late = || io::Error::from_raw_os_error(ETIMEDOUT);
        let dialled = Trouble::Dial(late()).kind();
        assert_eq!(dialled, ErrorKind::Unreachable);
        assert!(!dialled.loses_bytes());
        // There was a connection, and what was sent on it may be lost.
        assert_eq!(Trouble::Io(late()).kind(), ErrorKind::TimedOut);
        let refused = Trouble::Dial(io::ErrorKind::ConnectionRefused.into());
        assert_eq!(refused.kind(), ErrorKind::Refused);
    }

    /// Linux ends a connection with what the network has said of it last, `EHOSTUNREACH`, where it would say `ETIMEDOUT`
    /// otherwise.
    #[test]
    fn a_connection_that_failed_has_lost_bytes_whatever_the_system_says() {
        for errno in 1..134 {
            let failed = Trouble::Io(io::Error::from_raw_os_error(errno)).kind();
            assert!(failed.loses_bytes(), "errno {errno}: {failed}");
        }
        const EHOSTUNREACH: i32 = 113;
        let failed = Trouble::Io(io::Error::from_raw_os_error(EHOSTUNREACH));
        assert_eq!(failed.kind(), ErrorKind::TimedOut);
    }
}
