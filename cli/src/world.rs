//! What a settings check may look at besides the command line, in one place so that tests can replace it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use adit_process::Remnants;
use zeroize::Zeroize as _;

/// Environment, working directory and standard input of the process.
pub struct World {
    /// Environment variables whose names are valid UTF-8.
    pub variables: BTreeMap<String, OsString>,
    /// Relative paths start here.
    pub directory: PathBuf,
    /// Asked for a token with `--access-token-file -` only.
    pub stdin: Box<dyn Read>,
    /// Whether this is what the process was started with, so that secrets of it are overwritten where the
    /// kernel shows them.
    pub is_of_process: bool,
}

impl World {
    /// The real one.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect();
        Self {
            variables,
            // An empty path leaves relative paths as they are, which then fail one by one if the
            // working directory is gone.
            directory: std::env::current_dir().unwrap_or_default(),
            stdin: Box::new(io::stdin()),
            is_of_process: true,
        }
    }

    /// The path as seen from the working directory.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.join(path)
    }

    /// Whether a stream gets colours: a terminal does, unless `NO_COLOR` or `TERM=dumb` say otherwise.
    pub fn wants_color(&self, is_terminal: bool) -> bool {
        let forbidden = self
            .variable("NO_COLOR")
            .is_some_and(|value| !value.is_empty());
        let dumb = self.variable("TERM").is_some_and(|value| value == "dumb");
        is_terminal && !forbidden && !dumb
    }

    /// The variable's value, if it is there.
    pub fn variable(&self, name: &str) -> Option<&OsString> {
        self.variables.get(name)
    }

    /// Overwrites a secret in the command line that other users can see.
    ///
    /// # Errors
    /// The system does not let it.
    pub fn hide_argument(&self, secret: &str) -> io::Result<()> {
        self.hide(|remnants| remnants.hide_argument(secret))
    }

    /// Forgets a variable, and removes it from the environment that the same user can see and that children
    /// inherit.
    ///
    /// # Errors
    /// The system does not let it.
    pub fn remove_variable(&mut self, name: &str) -> io::Result<()> {
        let Some(value) = self.variables.remove(name) else {
            return Ok(());
        };
        value.into_vec().zeroize();
        self.hide(|remnants| remnants.remove_variable(name))
    }

    fn hide(&self, act: impl FnOnce(&Remnants) -> io::Result<()>) -> io::Result<()> {
        if self.is_of_process {
            act(&Remnants::of_process()?)
        } else {
            Ok(())
        }
    }
}

/// Reads a whole text file of at most `size_max` bytes. The error names the reason, not the file.
pub fn read_text(path: &Path, size_max: u64) -> io::Result<String> {
    let file = std::fs::File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "is a directory",
        ));
    }
    let mut text = String::new();
    let read = BufReader::new(file)
        .take(size_max + 1)
        .read_to_string(&mut text)?;
    if read as u64 > size_max {
        let reason = format!("is larger than {size_max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(text)
}

/// Largest settings or configuration file, in bytes. Real ones have less than a hundredth of it.
pub const FILE_SIZE_MAX: u64 = 1024 * 1024;

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A world of its own: an empty directory, no variables, nothing on standard input.
    pub(crate) fn world(directory: &Path) -> World {
        World {
            variables: BTreeMap::new(),
            directory: directory.to_owned(),
            stdin: Box::new(io::empty()),
            is_of_process: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn color_is_for_terminals_that_want_it() {
        let mut world = testing::world(Path::new(""));
        assert!(world.wants_color(true) && !world.wants_color(false));
        world.variables.insert("NO_COLOR".into(), "".into());
        assert!(world.wants_color(true));
        world.variables.insert("NO_COLOR".into(), "1".into());
        assert!(!world.wants_color(true));
        world.variables.clear();
        world.variables.insert("TERM".into(), "dumb".into());
        assert!(!world.wants_color(true));
    }

    #[test]
    fn files_are_read_up_to_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_text(&path, 5).unwrap(), "12345");
        assert_eq!(
            read_text(&path, 4).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        assert!(read_text(directory.path(), 5).is_err());
        assert!(read_text(&directory.path().join("none"), 5).is_err());
    }
}
