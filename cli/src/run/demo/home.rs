//! The directory of the demo: all that service and device would keep on their disks.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A directory of its own, which goes with everything in it when this is dropped.
pub(super) struct Home(PathBuf);

impl Home {
    /// Makes one that nobody else can look into, where temporary files belong.
    pub(super) fn new() -> Result<Self> {
        let mut random = [0; 4];
        getrandom::fill(&mut random).context("the system gives no randomness")?;
        let name = format!("adit-demo-{:08x}", u32::from_ne_bytes(random));
        let path = std::path::absolute(std::env::temp_dir().join(name))?;
        // Never one that is there: it could be somebody else's.
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("make the directory {}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The data directory of the service.
    pub(super) fn service(&self) -> PathBuf {
        self.0.join("service")
    }

    /// The bundle of the device, and its state.
    pub(super) fn device(&self) -> PathBuf {
        self.0.join("device")
    }

    /// Removes it, and says so where it cannot be.
    pub(super) fn leave(self) -> Result<()> {
        let path = self.0.clone();
        drop(self);
        let is_gone = !path.exists();
        anyhow::ensure!(is_gone, "{} is left behind: remove it", path.display());
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes the directory with all that is in it; what cannot be removed stays.
pub(super) fn remove(path: &Path) {
    for _ in 0..ATTEMPTS {
        match fs::remove_dir_all(path) {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            // A part that was not ended in order has just written one more file.
            Err(_) => std::thread::yield_now(),
        }
    }
}

const ATTEMPTS: u32 = 10;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_its_owners_alone_and_goes_with_everything_in_it() {
        let home = Home::new().unwrap();
        let path = home.path().to_owned();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::create_dir(home.service()).unwrap();
        fs::write(home.service().join("key"), "secret").unwrap();
        home.leave().unwrap();
        assert!(!path.exists());
    }
}
