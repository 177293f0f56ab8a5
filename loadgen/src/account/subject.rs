//! Who is accounted for.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use super::Usage;
use super::cgroup::Cgroup;
use super::process::Process;

/// Who is to be accounted for, as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectSpec {
    /// `--pid PID[=NAME]`.
    Process {
        /// Its number.
        pid: u32,
        /// What reports call it.
        name: String,
    },
    /// `--cgroup DIR`.
    Cgroup(PathBuf),
}

impl SubjectSpec {
    /// A process by a name.
    #[must_use]
    pub fn process(pid: u32, name: &str) -> Self {
        Self::Process {
            pid,
            name: name.to_owned(),
        }
    }

    /// Looks for it.
    ///
    /// # Errors
    /// It is not there, or is not what it was said to be.
    pub fn find(&self) -> Result<Subject, AccountError> {
        let fault = |source| AccountError {
            what: self.to_string(),
            source,
        };
        let (name, source) = match self {
            Self::Process { pid, name } => {
                let process = Process::find(*pid).map_err(fault)?;
                (name.clone(), Source::Process(process))
            }
            Self::Cgroup(directory) => {
                let group = Cgroup::find(directory).map_err(fault)?;
                (directory.display().to_string(), Source::Cgroup(group))
            }
        };
        Ok(Subject { name, source })
    }
}

impl fmt::Display for SubjectSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name } => write!(f, "process {pid} ({name})"),
            Self::Cgroup(directory) => write!(f, "control group {}", directory.display()),
        }
    }
}

/// Reads `PID` or `PID=NAME`.
impl FromStr for SubjectSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pid, name) = match text.split_once('=') {
            Some((_, "")) => return Err(format!("{text}: a name is missing after the =")),
            Some((pid, name)) => (pid, name.to_owned()),
            None => (text, format!("pid {text}")),
        };
        match pid.parse() {
            Ok(0) | Err(_) => Err(format!(
                "{pid:?} is no process number; write PID or PID=NAME"
            )),
            Ok(pid) => Ok(Self::Process { pid, name }),
        }
    }
}

/// Who is accounted for, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    name: String,
    source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Process(Process),
    Cgroup(Cgroup),
}

impl Subject {
    /// What reports call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process number; `None` for a control group.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &self.source {
            Source::Process(process) => Some(process.pid()),
            Source::Cgroup(_) => None,
        }
    }

    /// Path and build id of its program; `None` for a control group, or where that may not be read.
    #[must_use]
    pub fn executable(&self) -> Option<&str> {
        match &self.source {
            Source::Process(process) => process.executable(),
            Source::Cgroup(_) => None,
        }
    }

    /// What it uses now.
    ///
    /// # Errors
    /// It is gone.
    pub fn usage(&self) -> Result<Usage, AccountError> {
        let usage = match &self.source {
            Source::Process(process) => process.usage(),
            Source::Cgroup(group) => group.usage(),
        };
        usage.map_err(|source| AccountError {
            what: self.name.clone(),
            source,
        })
    }
}

/// Why there is no account.
#[derive(Debug)]
pub struct AccountError {
    /// Of whom.
    what: String,
    source: io::Error,
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source.kind() {
            io::ErrorKind::NotFound if self.source.get_ref().is_none() => {
                write!(f, "{} is not there", self.what)
            }
            _ => write!(f, "{}: {}", self.what, self.source),
        }
    }
}

impl std::error::Error for AccountError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_has_a_name_or_gets_one() {
        let parse = SubjectSpec::from_str;
        assert_eq!(parse("42"), Ok(SubjectSpec::process(42, "pid 42")));
        assert_eq!(parse("42=relay"), Ok(SubjectSpec::process(42, "relay")));
        for bad in ["", "0", "x", "-1", "=relay", "42=", "42 "] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn who_is_not_there_is_named() {
        // Above the largest number that the kernel gives.
        let fault = SubjectSpec::process(4_194_305, "relay").find().unwrap_err();
        assert_eq!(fault.to_string(), "process 4194305 (relay) is not there");
        let fault = SubjectSpec::Cgroup("/nowhere".into()).find().unwrap_err();
        let text = fault.to_string();
        assert!(text.starts_with("control group /nowhere: "), "{text}");
    }
}
