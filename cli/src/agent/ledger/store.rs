//! A ledger on disk: one file, replaced as a whole, for its owner's eyes only.

use std::path::Path;
use std::sync::Arc;

use adit_service::clock::Clock;
use adit_service::data_dir::{DataDir, DataDirError};
use tracing::error;

use super::{Ledger, Millis, format};

/// Where a ledger is kept.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Store {
    directory: Arc<DataDir>,
}

impl Store {
    /// Makes and locks the directory.
    pub(in crate::agent) fn open(path: &Path) -> Result<Self, DataDirError> {
        let directory = Arc::new(DataDir::open(path)?);
        Ok(Self { directory })
    }

    /// The clock by which a ledger is reckoned. Setting the device's clock neither ends a tunnel early nor
    /// makes it immortal (threat T-25), also where the agent is started anew.
    pub(in crate::agent) fn clock(&self) -> Clock {
        Clock::kept_in(&self.directory)
    }

    /// Reads what an agent before this one has left.
    ///
    /// A file that cannot be used is told and then done without: a device that can be reached and has
    /// forgotten its tunnels is better than one that cannot be reached.
    pub(in crate::agent) fn load(&self, now: Millis) -> Ledger {
        let read = self
            .directory
            .read_large_secret(FILE, format::FILE_SIZE_MAX);
        let decoded = match read {
            Ok(None) => Ok(Ledger::default()),
            Ok(Some(text)) => format::decode(&text).map_err(|problem| {
                format!(
                    "{} is damaged: {problem}",
                    self.directory.file(FILE).display()
                )
            }),
            Err(fault) => Err(fault.to_string()),
        };
        let mut ledger = decoded.unwrap_or_else(|problem| {
            error!("{problem}; the tunnels of before are not resumed");
            Ledger::default()
        });
        ledger.settle(now);
        ledger
    }

    /// Writes the ledger down, durably.
    ///
    /// # Errors
    /// Why not, for people: the disk of a device that somebody wants to reach may well be full.
    pub(in crate::agent) async fn save(&self, ledger: &Ledger) -> Result<(), String> {
        let bytes = format::encode(ledger);
        let directory = Arc::clone(&self.directory);
        let written = tokio::task::spawn_blocking(move || directory.write(FILE, &bytes, 0o600));
        match written.await {
            Ok(written) => written.map_err(|fault| fault.to_string()),
            Err(fault) => Err(fault.to_string()),
        }
    }
}

const FILE: &str = "tunnels.json";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::tests::{client_token, notification};
    use super::*;

    #[tokio::test]
    async fn a_ledger_outlives_its_process() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        let store = Store::open(&path).unwrap();
        let mut ledger = store.load(0);
        ledger
            .admit(notification("a"), client_token(), 20, 0)
            .unwrap();
        store.save(&ledger).await.unwrap();
        drop(store);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(FILE)), 0o600);
        assert_eq!(Store::open(&path).unwrap().load(1), ledger);
    }

    #[tokio::test]
    async fn a_damaged_file_is_done_without_and_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let store = Store::open(parent.path()).unwrap();
        let file = parent.path().join(FILE);
        for (content, mode) in [("{", 0o600), ("\u{fffd}", 0o600), ("{}", 0o644)] {
            std::fs::write(&file, content).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(store.load(0), Ledger::default());
        }
        let mut ledger = Ledger::default();
        ledger
            .admit(notification("a"), client_token(), 20, 0)
            .unwrap();
        store.save(&ledger).await.unwrap();
        assert_eq!(store.load(1), ledger);
    }

    #[tokio::test]
    async fn a_failure_to_write_names_the_file() {
        let parent = tempfile::tempdir().unwrap();
        let store = Store::open(&parent.path().join("state")).unwrap();
        std::fs::remove_dir_all(parent.path().join("state")).unwrap();
        let fault = store.save(&Ledger::default()).await.unwrap_err();
        assert!(fault.contains(FILE), "{fault}");
    }
}
