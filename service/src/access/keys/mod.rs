//! Access keys: whose requests are believed. One file, read when the service starts and again on demand.

mod document;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use adit_proto::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::Caller;
use super::policy::Policy;
use super::sigv4::{Credentials, Moment};
use crate::data_dir::{DataDir, DataDirError, read_secret_file};

/// Keys in one file. A thousand, with policies of 2 KiB each, are 2.5 MiB.
pub const KEYS_MAX: usize = 1_000;

/// All access keys of a service.
#[derive(Debug)]
pub struct AccessKeys {
    /// Where they are read from; `None` for keys that end with the process.
    file: Option<PathBuf>,
    table: RwLock<Arc<KeyTable>>,
}

/// The keys as they were read at one time. Prints no secrets.
#[derive(Debug, Default)]
pub struct KeyTable(HashMap<String, AccessKey>);

/// One key: a secret, and what may be done with it.
#[derive(Debug)]
pub struct AccessKey {
    pub(crate) credentials: Credentials,
    pub(crate) caller: Caller,
    pub(crate) expires: Option<Moment>,
}

/// Why a file of keys is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The file cannot be read, or others may read it too.
    #[error(transparent)]
    File(#[from] DataDirError),
    /// There is no such file.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// Others may replace the file.
    #[error(
        "{} has mode {mode:04o}, so that others may replace the access keys in it; run: chmod go-w {}",
        path.display(), path.display()
    )]
    Directory {
        /// The directory of the file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What stands in it makes no sense. The text has the place and no secret.
    #[error("{}: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where in it, and what.
        problem: String,
    },
    /// The system gives no random numbers, so there is no first key.
    #[error("no randomness for a first access key: {0}")]
    Randomness(#[from] getrandom::Error),
}

impl AccessKeys {
    /// The keys of this file.
    ///
    /// # Errors
    /// Also when others than the owner may read it, or write to its directory.
    pub fn open(file: &Path) -> Result<Self, KeysError> {
        let table = read(file)?;
        Ok(Self {
            file: Some(file.to_owned()),
            table: RwLock::new(Arc::new(table)),
        })
    }

    /// The keys of a data directory, in `access-keys.json`. Where there is no such file, a first key is
    /// made that may do everything; it is returned, and written to `credentials` for AWS clients.
    ///
    /// # Errors
    /// Also when others than the owner may read one of the two.
    pub fn in_dir(dir: &DataDir) -> Result<(Self, Option<Credentials>), KeysError> {
        let file = dir.file(KEYS_FILE);
        match Self::open(&file) {
            Err(KeysError::Missing(_)) => {}
            other => {
                let keys = other?;
                // Clients read it, and what it holds is a key of these.
                dir.check_secret(CREDENTIALS_FILE)?;
                return Ok((keys, None));
            }
        }
        let first = new_credentials()?;
        // In this order: one that ends in between makes another key the next time.
        let credentials = document::credentials_file(&first);
        dir.write(CREDENTIALS_FILE, credentials.as_bytes(), 0o600)?;
        let keys = document::keys_file(&first);
        dir.write(KEYS_FILE, keys.as_bytes(), 0o600)?;
        Ok((Self::open(&file)?, Some(first)))
    }

    /// One key that may do everything, for as long as the process runs.
    pub fn in_memory() -> Result<(Self, Credentials), KeysError> {
        let first = new_credentials()?;
        let key = AccessKey {
            caller: Caller {
                user: FIRST_USER.into(),
                access_key_id: Some(first.access_key_id.as_str().into()),
                policy: Arc::new(Policy::allow_everything()),
            },
            credentials: first.clone(),
            expires: None,
        };
        let table = KeyTable(HashMap::from([(first.access_key_id.clone(), key)]));
        let keys = Self {
            file: None,
            table: RwLock::new(Arc::new(table)),
        };
        Ok((keys, first))
    }

    /// Reads the file again; returns how many keys are in force.
    ///
    /// # Errors
    /// The keys stay as they were.
    pub fn reload(&self) -> Result<usize, KeysError> {
        if let Some(file) = &self.file {
            let table = Arc::new(read(file)?);
            *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
        }
        Ok(self.table().0.len())
    }

    /// The keys in force now.
    pub fn table(&self) -> Arc<KeyTable> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl KeyTable {
    /// The key of this id, expired or not.
    pub fn find(&self, access_key_id: &str) -> Option<&AccessKey> {
        self.0.get(access_key_id)
    }
}

fn read(file: &Path) -> Result<KeyTable, KeysError> {
    let text = read_secret_file(file, FILE_SIZE_MAX)?;
    let text = text.ok_or_else(|| KeysError::Missing(file.to_owned()))?;
    check_directory(file)?;
    document::parse(&text).map_err(|problem| KeysError::Invalid {
        path: file.to_owned(),
        problem,
    })
}

/// Who may rename files in a directory may put other keys in. In one with the sticky bit, only the
/// owner of a file may.
fn check_directory(file: &Path) -> Result<(), KeysError> {
    use std::os::unix::fs::MetadataExt;
    let parent = file.parent().filter(|path| !path.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let metadata = std::fs::metadata(parent);
    let metadata = metadata.map_err(|source| DataDirError::io("read", parent, source))?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        return Err(KeysError::Directory {
            path: parent.to_owned(),
            mode,
        });
    }
    Ok(())
}

fn new_credentials() -> Result<Credentials, KeysError> {
    let mut random = Zeroizing::new([0; 16 + 30]);
    getrandom::fill(&mut *random)?;
    let (id, secret) = random.split_at(16);
    let letter = |byte: &u8| char::from(ID_ALPHABET[usize::from(byte % 32)]);
    let id: String = id.iter().map(letter).collect();
    Ok(Credentials {
        access_key_id: format!("ADIT{id}"),
        // 240 bits in 40 characters, as many as AWS's have.
        secret_access_key: Secret::new(URL_SAFE_NO_PAD.encode(secret)),
        session_token: None,
    })
}

const ID_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const FIRST_USER: &str = "adit";
const KEYS_FILE: &str = "access-keys.json";
/// In AWS's format, next to the keys.
pub const CREDENTIALS_FILE: &str = "credentials";
/// [`KEYS_MAX`] keys, each with a policy of 16 KiB.
const FILE_SIZE_MAX: u64 = 16 * 1024 * 1024;
