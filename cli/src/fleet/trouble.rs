//! Why a command could not do what it was asked for.

use std::fmt;
use std::io::{self, Write as _};

use adit_proto::escape::Escaped;

use crate::aws::CallFault;
use crate::exit::ExitCode;
use crate::fault::BadInput;

/// One sentence, what to do about it, and how the process ends. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    message: String,
    /// May be empty.
    hint: String,
    code: ExitCode,
}

impl Trouble {
    /// Something that no peer and no user is to blame for.
    pub(crate) fn failure(message: impl fmt::Display) -> Self {
        Self::new(message, "", ExitCode::Failure)
    }

    /// Signals cannot be watched for, so the command would leave things behind.
    pub(super) fn signals(fault: io::Error) -> Self {
        Self::failure(format_args!("cannot watch for signals: {fault}"))
    }

    pub(super) fn new(message: impl fmt::Display, hint: impl Into<String>, code: ExitCode) -> Self {
        Self {
            message: message.to_string(),
            hint: hint.into(),
            code,
        }
    }

    /// A file that cannot be used; `doing` like `write`.
    pub(super) fn file(doing: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let path = path.to_string_lossy();
        Self::failure(format_args!("cannot {doing} {}: {error}", Escaped(&path)))
    }

    /// The answer of the service lacks what it must have.
    pub(super) fn answer(operation: &str, member: &str) -> Self {
        let message = format!("{operation}: the answer has no {member}");
        Self::new(
            message,
            "is --endpoint the URL of the API?",
            ExitCode::Failure,
        )
    }

    /// Nothing went wrong, but there is something to know.
    pub(super) fn note(text: &str) -> Self {
        Self::new("", text, ExitCode::Ended)
    }

    /// Says what to do, where nothing is said of that.
    #[must_use]
    pub(super) fn or_hint(mut self, hint: &str) -> Self {
        if self.hint.is_empty() {
            hint.clone_into(&mut self.hint);
        }
        self
    }

    /// Takes the place of what went wrong before in a command that goes on, which is told at once.
    pub(super) fn displace(self, outcome: &mut Result<(), Self>) {
        if let Err(earlier) = std::mem::replace(outcome, Err(self)) {
            earlier.tell();
        }
    }

    /// How the process ends.
    pub fn code(&self) -> ExitCode {
        self.code
    }

    /// As it is printed: one line or two.
    pub fn report(&self) -> String {
        match self.hint.as_str() {
            hint if self.message.is_empty() => format!("note: {hint}\n"),
            "" => format!("error: {}\n", self.message),
            hint => format!("error: {}\nhint: {hint}\n", self.message),
        }
    }

    /// Prints it while the command goes on.
    pub(super) fn tell(&self) {
        let _ = io::stderr().write_all(self.report().as_bytes());
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<CallFault> for Trouble {
    fn from(fault: CallFault) -> Self {
        Self::new(&fault, fault.hint(), fault.code())
    }
}

impl From<BadInput> for Trouble {
    fn from(fault: BadInput) -> Self {
        Self::new(fault.message(), fault.hint(), fault.code())
    }
}
