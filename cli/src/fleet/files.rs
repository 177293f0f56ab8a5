//! Files that commands leave behind, whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::trouble::Trouble;

/// Writes a file that only its owner may read, in the place of another.
pub(super) fn write_secret(path: &Path, text: &str) -> Result<(), Trouble> {
    write(path, text, 0o600)
}

/// Writes a file that everybody may read, in the place of another.
pub(super) fn write_public(path: &Path, text: &str) -> Result<(), Trouble> {
    write(path, text, 0o644)
}

/// Makes a directory of the user's own, unless there is one.
pub(super) fn make_dir(path: &Path) -> Result<(), Trouble> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|error| Trouble::file("make the directory", path, &error))
}

/// The text of a file, if it is there.
pub(super) fn read(path: &Path) -> Result<Option<String>, Trouble> {
    match crate::world::read_text(path, crate::world::FILE_SIZE_MAX) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Trouble::file("read", path, &error)),
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Trouble> {
    let temporary = beside(path);
    let written = try_write(&temporary, path, text, mode);
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        Trouble::file("write", path, &error)
    })
}

fn try_write(temporary: &Path, path: &Path, text: &str, mode: u32) -> io::Result<()> {
    // One that a killed run left is in the way: a new file has the mode from the start.
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn secrets_are_the_owners_even_over_an_open_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        make_dir(path.parent().unwrap()).unwrap();
        write_public(&path, "1").unwrap();
        fs::write(beside(&path), "left by a crash").unwrap();
        write_secret(&path, "2").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("2"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let trouble = write_secret(&directory.path().join("none/file"), "x").unwrap_err();
        assert!(trouble.to_string().contains("none/file"), "{trouble}");
        assert_eq!(read(&directory.path().join("none")).unwrap(), None);
    }
}
