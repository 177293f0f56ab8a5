//! Tokens and keys that no program may say (threat T-03).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

/// Shortest text that is looked for, in bytes. An empty one, or a word of some test of bad tokens, could be in
/// any line.
const SIZE_MIN: usize = 16;

/// What was kept so far; clones keep it together.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Mutex<BTreeSet<String>>>);

impl Secrets {
    /// From now on nobody may say this.
    pub fn keep(&self, secret: &str) {
        if secret.len() >= SIZE_MIN {
            self.locked().insert(secret.to_owned());
        }
    }

    /// The first that is in a text.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<String> {
        let secrets = self.locked();
        let mut all = secrets.iter();
        all.find(|secret| text.contains(secret.as_str())).cloned()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.locked().len()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0
            .lock()
            .expect("nothing panics while it holds the secrets")
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}
