//! How the process ends.

use std::process;

use thiserror::Error;

/// How the program came to its end without an error of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All went well, and every threshold held: 0.
    Passed,
    /// A byte was lost or wrong, or nothing but errors came of it: 1.
    Failed,
    /// A threshold of `--fail-if` was crossed, or a comparison found something worse: 3.
    ThresholdCrossed,
    /// A comparison had too few runs to tell: 4.
    Undecided,
}

/// Why the program could not do what it was asked for.
#[derive(Debug, Error)]
pub enum Error {
    /// The command line cannot be used: 2.
    #[error("{message}\nhint: {hint}")]
    Usage {
        /// What is wrong, with the culprit.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// Nothing answers at the target: 5.
    #[error("{target} cannot be reached: {reason}\nhint: {hint}")]
    Unreachable {
        /// The address, as given.
        target: String,
        /// The system's words.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// Anything else: 1.
    #[error("{0:#}")]
    Failure(#[from] anyhow::Error),
}

impl Error {
    /// A command line that cannot be used.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage {
            message: message.into(),
            hint: hint.into(),
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 2,
            Self::Unreachable { .. } => 5,
            Self::Failure(_) => 1,
        }
    }
}

impl Verdict {
    fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::ThresholdCrossed => 3,
            Self::Undecided => 4,
        }
    }
}

/// Says on standard error why the program failed, if it did, and makes it the exit code.
pub fn say(outcome: Result<Verdict, Error>) -> process::ExitCode {
    match outcome {
        Ok(verdict) => verdict.code().into(),
        Err(error) => {
            eprintln!("error: {error}");
            error.code().into()
        }
    }
}
