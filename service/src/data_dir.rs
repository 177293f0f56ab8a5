//! The data directory: modes checked before anything in it is trusted, files replaced as a whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// A locked directory that belongs to one running service.
///
/// The lock is held until the value is dropped; a second service on the same directory is refused.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the directory (mode 0700) where it is missing, checks its mode, and locks it.
    ///
    /// A directory that others may write is refused: they could put their own key in.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |action| move |source| DataDirError::io(action, path, source);
        if !path.exists() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(failed("create"))?;
        }
        let metadata = fs::metadata(path).map_err(failed("read"))?;
        if !metadata.is_dir() {
            return Err(DataDirError::NotADirectory(path.to_owned()));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(DataDirError::Mode {
                path: path.to_owned(),
                mode,
                wanted: 0o700,
                what: "change",
            });
        }
        let lock = lock(&path.join(LOCK_FILE))?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Where a file of this name lives.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A public text file; `None` when it does not exist.
    pub fn read(&self, name: &str) -> Result<Option<String>, DataDirError> {
        Ok(self
            .read_checked(name, false, MAX_FILE_SIZE)?
            .map(|text| text.as_str().to_owned()))
    }

    /// A private key file; `None` when it does not exist. One that others may read is refused.
    pub fn read_secret(&self, name: &str) -> Result<Option<Zeroizing<String>>, DataDirError> {
        self.read_checked(name, true, MAX_FILE_SIZE)
    }

    /// Like [`read_secret`](Self::read_secret), for files of up to `size_max` bytes.
    pub fn read_large_secret(
        &self,
        name: &str,
        size_max: u64,
    ) -> Result<Option<Zeroizing<String>>, DataDirError> {
        self.read_checked(name, true, size_max)
    }

    /// Refuses a file of secrets that others may read, which nobody here reads; one that is not there is
    /// fine.
    pub fn check_secret(&self, name: &str) -> Result<(), DataDirError> {
        let path = self.file(name);
        match fs::metadata(&path) {
            Ok(metadata) => check_mode(path, metadata.mode()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(DataDirError::io("read", &path, error)),
        }
    }

    /// Replaces a file as a whole: whoever reads it sees the old bytes or the new ones, also after a
    /// loss of power.
    pub fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), DataDirError> {
        let path = self.file(name);
        let temporary = self.temporary(name);
        let write = || -> io::Result<()> {
            // Left over by a write that was interrupted; only we write here, the lock says so.
            remove_if_present(&temporary)?;
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&temporary)?;
            // The umask may have taken bits away that readers need.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| {
            // On a full disk, half a file would keep space from others.
            let _ = remove_if_present(&temporary);
            DataDirError::io("write", &path, source)
        })
    }

    /// Where a file of secrets lives that somebody else reads and writes in place; made, empty, where it
    /// is missing. One that others may read is refused.
    pub fn private_file(&self, name: &str) -> Result<PathBuf, DataDirError> {
        let path = self.file(name);
        let failed = |source| DataDirError::io("open", &path, source);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode();
        check_mode(path.clone(), mode)?;
        Ok(path)
    }

    /// Removes what a write of this file left behind when it was interrupted.
    pub fn remove_leftover(&self, name: &str) -> Result<(), DataDirError> {
        let path = self.temporary(name);
        remove_if_present(&path).map_err(|source| DataDirError::io("remove", &path, source))
    }

    /// Removes a file; one that is not there is fine.
    pub fn remove(&self, name: &str) -> Result<(), DataDirError> {
        let path = self.file(name);
        remove_if_present(&path).map_err(|source| DataDirError::io("remove", &path, source))
    }

    fn temporary(&self, name: &str) -> PathBuf {
        self.file(&format!(".{name}.new"))
    }

    fn read_checked(
        &self,
        name: &str,
        secret: bool,
        size_max: u64,
    ) -> Result<Option<Zeroizing<String>>, DataDirError> {
        read_checked(self.file(name), secret, size_max)
    }
}

/// A private file outside of a data directory, of up to `size_max` bytes; `None` when it does not exist.
/// One that others may read is refused.
pub(crate) fn read_secret_file(
    path: &Path,
    size_max: u64,
) -> Result<Option<Zeroizing<String>>, DataDirError> {
    read_checked(path.to_owned(), true, size_max)
}

fn read_checked(
    path: PathBuf,
    secret: bool,
    size_max: u64,
) -> Result<Option<Zeroizing<String>>, DataDirError> {
    let failed = |source| DataDirError::io("read", &path, source);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // The mode of the opened file, not of the name: it cannot be swapped in between.
    let metadata = file.metadata().map_err(failed)?;
    if secret {
        check_mode(path.clone(), metadata.mode())?;
    }
    // Never grown, so that no copy of a secret stays in memory.
    let capacity = metadata.len().min(size_max) as usize + 1;
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    match file.take(size_max + 1).read_to_string(&mut text) {
        Ok(size) if size as u64 > size_max => {
            let reason = format!("it is larger than {size_max} bytes");
            Err(DataDirError::damaged(&path, reason))
        }
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(DataDirError::damaged(&path, "it is not text".to_owned()))
        }
        Err(error) => Err(failed(error)),
    }
}

/// Secrets are their owner's alone.
fn check_mode(path: PathBuf, mode: u32) -> Result<(), DataDirError> {
    let mode = mode & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(DataDirError::Mode {
        path,
        mode,
        wanted: 0o600,
        what: "read",
    })
}

/// Why the data directory cannot be used. Every message names the file and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// The kernel refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The path names something else.
    #[error("{} is not a directory: name one, or a place where one can be made", .0.display())]
    NotADirectory(PathBuf),
    /// Others than the owner have rights that they must not have.
    #[error(
        "{} has mode {mode:04o}, so that others may {what} it; run: chmod {wanted:o} {}",
        path.display(), shell_word(path)
    )]
    Mode {
        /// The file or directory.
        path: PathBuf,
        /// Its mode now.
        mode: u32,
        /// The mode it should have.
        wanted: u32,
        /// What others may do with it now.
        what: &'static str,
    },
    /// The content is not what was once written there.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// The file is of a format that came after this program.
    #[error(
        "{} was written by a newer version of this program (format {version}; this one knows up to \
         {known}): start that version again, or move the file away to start without what is in it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u64,
        /// The newest format that can be read.
        known: u64,
    },
    /// Another process holds the lock.
    #[error("{} is in use by another running service; give each its own data directory", .0.display())]
    InUse(PathBuf),
}

impl DataDirError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, reason: String) -> Self {
        let path = path.to_owned();
        Self::Damaged { path, reason }
    }
}

fn lock(path: &Path) -> Result<File, DataDirError> {
    let failed = |source| DataDirError::io("lock", path, source);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(DataDirError::InUse(
            path.parent().unwrap_or(path).to_owned(),
        )),
        Err(fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn remove_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The path as one word of a POSIX shell, so that a printed command can be pasted.
pub fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(plain) && !text.starts_with('-') {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

const LOCK_FILE: &str = ".lock";

/// Certificates and keys are a few KiB; more is not ours.
const MAX_FILE_SIZE: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_new_directory_and_its_files_have_the_modes_asked_for() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let dir = DataDir::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        dir.write("secret", b"s", 0o600).unwrap();
        dir.write("public", b"p", 0o644).unwrap();
        assert_eq!(mode(&dir.file("secret")), 0o600);
        assert_eq!(mode(&dir.file("public")), 0o644);
        let mut names: Vec<_> = fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [".lock", "public", "secret"],
            "no temporary file stays"
        );
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("it's mine");
        fs::create_dir(&path).unwrap();
        for (bits, good) in [
            (0o700, true),
            (0o750, true),
            (0o755, true),
            (0o770, false),
            (0o702, false),
            (0o777, false),
        ] {
            chmod(&path, bits);
            let result = DataDir::open(&path);
            assert_eq!(result.is_ok(), good, "{bits:o}");
            if let Err(error) = result {
                let text = error.to_string();
                assert!(text.contains("run: chmod 700 '/"), "{text}");
                assert!(text.ends_with(r"it'\''s mine'"), "{text}");
            }
        }
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(&parent.path().join("d")).unwrap();
        dir.write("k", b"text", 0o600).unwrap();
        for bits in [0o600, 0o400, 0o700] {
            chmod(&dir.file("k"), bits);
            assert!(dir.read_secret("k").unwrap().is_some(), "{bits:o}");
        }
        for bits in [
            0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o440,
        ] {
            chmod(&dir.file("k"), bits);
            let text = dir.read_secret("k").unwrap_err().to_string();
            assert!(text.contains("run: chmod 600 /"), "{bits:o}: {text}");
            assert!(dir.read("k").is_ok(), "the mode matters for secrets only");
        }
    }

    #[test]
    fn unreadable_content_names_the_file() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(parent.path()).unwrap();
        assert!(dir.read("missing").unwrap().is_none());
        for (bytes, what) in [
            (vec![0xff, 0xfe], "is not text"),
            (vec![b'a'; 64 * 1024 + 1], "larger than 65536 bytes"),
        ] {
            dir.write("f", &bytes, 0o600).unwrap();
            let text = dir.read("f").unwrap_err().to_string();
            assert!(
                text.contains("/f is damaged") && text.contains(what),
                "{text}"
            );
        }
        dir.write("f", &[b'a'; 64 * 1024], 0o600).unwrap();
        assert!(dir.read("f").is_ok());
    }

    #[test]
    fn two_services_cannot_share_a_directory() {
        let parent = tempfile::tempdir().unwrap();
        let first = DataDir::open(parent.path()).unwrap();
        let text = DataDir::open(parent.path()).unwrap_err().to_string();
        assert!(text.contains("in use by another running service"), "{text}");
        drop(first);
        DataDir::open(parent.path()).unwrap();
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        fs::write(&path, "x").unwrap();
        let fault = DataDir::open(&path).unwrap_err();
        assert!(matches!(fault, DataDirError::NotADirectory(_)));
        let text = fault.to_string();
        assert!(
            text.ends_with("name one, or a place where one can be made"),
            "{text}"
        );
    }

    #[test]
    fn an_interrupted_write_is_repaired() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(parent.path()).unwrap();
        fs::write(dir.file(".k.new"), "half").unwrap();
        dir.write("k", b"whole", 0o600).unwrap();
        assert_eq!(dir.read("k").unwrap().as_deref(), Some("whole"));
        assert_eq!(mode(&dir.file("k")), 0o600);
        assert!(!dir.file(".k.new").exists());
    }
}
