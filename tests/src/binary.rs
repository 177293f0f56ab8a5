//! The program under test, under both names it answers to.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::contained;

/// Where the program is, as `adit` and as `localproxy`.
#[derive(Clone, Debug)]
pub struct Binary {
    adit: PathBuf,
    localproxy: PathBuf,
    home: PathBuf,
}

impl Binary {
    /// Links the program into `directory` under both names.
    ///
    /// Taken is the first that exists of: the file named by the variable `ADIT_UNDER_TEST`
    /// (to test a release build or an installed package), what cargo built for these
    /// tests, and `adit-under-test` beside the running test.
    ///
    /// # Errors
    /// There is no such program, or it cannot be linked.
    pub fn install(directory: &Path) -> Result<Self> {
        let program = locate()?;
        let binaries = directory.join("bin");
        std::fs::create_dir_all(&binaries)?;
        let home = directory.join("home");
        std::fs::create_dir_all(&home)?;
        let binary = Self {
            adit: binaries.join("adit"),
            localproxy: binaries.join("localproxy"),
            home,
        };
        for name in [&binary.adit, &binary.localproxy] {
            symlink(&program, name).with_context(|| format!("link {}", name.display()))?;
        }
        Ok(binary)
    }

    /// A command that runs the program as `adit`.
    #[must_use]
    pub fn adit(&self) -> Command {
        self.clean(&self.adit)
    }

    /// A command that runs the program under the reference's name.
    #[must_use]
    pub fn localproxy(&self) -> Command {
        self.clean(&self.localproxy)
    }

    /// A command that runs another program, beside ours.
    #[must_use]
    pub fn other(&self, program: &Path) -> Command {
        self.clean(program)
    }

    /// The path of the program as `adit`.
    #[must_use]
    pub fn adit_path(&self) -> &Path {
        &self.adit
    }

    /// The home directory that the program is given; it goes with the scenario.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// A command with no environment but what every program needs: no token, no web proxy,
    /// no certificate store of the machine may reach a program under test by accident. One that
    /// was built with a sanitizer is told where to report.
    fn clean(&self, program: &Path) -> Command {
        let mut command = contained(program);
        command.env_clear().env("RUST_BACKTRACE", "1");
        command.env("HOME", &self.home);
        for name in ["PATH", "LANG", "ASAN_OPTIONS"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }
}

fn locate() -> Result<PathBuf> {
    for variable in ["ADIT_UNDER_TEST", "CARGO_BIN_EXE_adit-under-test"] {
        if let Some(path) = std::env::var_os(variable) {
            return std::fs::canonicalize(&path)
                .with_context(|| format!("{variable} is {}", path.display()));
        }
    }
    let test = std::env::current_exe().context("where am I?")?;
    let built = test
        .ancestors()
        .nth(2)
        .context("a test lives in target/<profile>/deps")?
        .join("adit-under-test");
    ensure!(built.exists(), "{} was not built", built.display());
    Ok(built)
}
