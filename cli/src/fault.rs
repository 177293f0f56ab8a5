//! One bad input, with what both personalities say about it.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::args::Origin;
use crate::args::options::Opt;
use crate::exit::ExitCode;

/// What the user gave cannot be used. Never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadInput {
    /// Names the option (or file and line), what was given and what is allowed; one line.
    message: String,
    /// What to do about it; one line.
    hint: String,
    /// The sentence of the reference, which scripts compare; `None` where it has none.
    reference: Option<String>,
    class: Class,
    /// The reference logs a warning with these two words for inputs it calls suspicious.
    rejected: Option<(&'static str, Cow<'static, str>)>,
    code: ExitCode,
}

/// How the reference reports it (wire specification, section 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Reason and a pointer to `--help`, plain on standard error.
    Usage,
    /// One log line at level fatal.
    Fatal,
}

impl BadInput {
    /// A command line that cannot be read.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
            reference: None,
            class: Class::Usage,
            rejected: None,
            code: ExitCode::Usage,
        }
    }

    /// A value that cannot be used.
    pub fn fatal(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            class: Class::Fatal,
            ..Self::usage(message, hint)
        }
    }

    /// A value that cannot be used, named by where it was given.
    pub fn value(
        option: Opt,
        origin: &Origin,
        problem: impl AsRef<str>,
        hint: impl Into<String>,
    ) -> Self {
        let message = format!("{}: {}", origin.name(option), problem.as_ref());
        let fault = Self::fatal(message, hint);
        match origin {
            Origin::File { .. } => fault.in_file(),
            Origin::CommandLine | Origin::Environment(_) => fault,
        }
    }

    /// The sentence of the reference for this.
    #[must_use]
    pub fn reference(mut self, text: impl Into<String>) -> Self {
        self.reference = Some(text.into());
        self
    }

    /// Reported as a usage error by the reference.
    #[must_use]
    pub fn as_usage(mut self) -> Self {
        self.class = Class::Usage;
        self
    }

    /// The reference's warning about a rejected input: which one, and why.
    #[must_use]
    pub fn rejected(mut self, input: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        self.rejected = Some((input, reason.into()));
        self
    }

    /// The mistake is in a configuration file.
    #[must_use]
    pub fn in_file(mut self) -> Self {
        self.code = ExitCode::BadConfiguration;
        self
    }

    /// For fuzzing: nothing in it would be obeyed by a terminal or break a line.
    ///
    /// # Panics
    /// When something would.
    pub(crate) fn assert_showable(&self) {
        for text in [&self.message, &self.hint, self.reference_text()] {
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }

    /// How the process ends because of it.
    pub fn code(&self) -> ExitCode {
        self.code
    }

    /// How the reference reports it.
    pub fn class(&self) -> Class {
        self.class
    }

    /// What is wrong, in our words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn hint(&self) -> &str {
        &self.hint
    }

    /// What is wrong, in the words of the reference, or in ours where it has none.
    pub fn reference_text(&self) -> &str {
        self.reference.as_deref().unwrap_or(&self.message)
    }

    /// The reference's warning, if it has one for this.
    pub fn rejection(&self) -> Option<String> {
        let (input, reason) = self.rejected.as_ref()?;
        Some(format!("SECURITY: Rejected input for '{input}': {reason}"))
    }

    /// All of it as `adit` prints it, two lines.
    pub fn report(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        if !self.hint.is_empty() {
            let _ = writeln!(text, "hint: {}", self.hint);
        }
        text
    }

    /// Our explanation in one line, for behind the sentence of the reference.
    pub fn explanation(&self) -> String {
        match (&self.reference, self.hint.as_str()) {
            (None, hint) => format!("hint: {hint}"),
            (Some(_), "") => format!("hint: {}", self.message),
            (Some(_), hint) => format!("hint: {}; {hint}", self.message),
        }
    }
}
