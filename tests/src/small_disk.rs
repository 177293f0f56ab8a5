//! A file system in memory that is soon full.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::programs;
use crate::scenario::Scenario;

/// A mounted one. It goes with the namespace that the test is in; see [`crate::namespace`].
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one in the scenario's directory; `None` where the machine has no `mount`. `size` is as the option of that
    /// name has it.
    ///
    /// # Errors
    /// There is no leave, or `mount` is required.
    pub async fn mount(scenario: &Scenario, size: &str) -> Result<Option<Self>> {
        let Some([mount]) = programs::find(scenario, ["mount"])? else {
            return Ok(None);
        };
        let path = scenario.path("disk");
        std::fs::create_dir(&path)?;
        let mut command = programs::command(&mount);
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]);
        command.arg(&path);
        programs::run(Duration::from_secs(5), command).await?;
        Ok(Some(Self { path }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file until there is no space for more.
    ///
    /// # Errors
    /// There is no space for its name.
    pub fn fill(&self) -> Result<()> {
        let mut file = std::fs::File::create(self.ballast())?;
        for size in [65_536, 4_096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        Ok(())
    }

    /// Removes that file.
    ///
    /// # Errors
    /// It is not there.
    pub fn clear(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}
