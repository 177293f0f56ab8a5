//! The audit as lines of JSON in the data directory.
//!
//! `audit.jsonl` is appended to until it has [`FILE_SIZE_MAX`] bytes; then it becomes `audit.jsonl.1`,
//! that one `audit.jsonl.2`, and so on up to [`FILES_KEPT`], the oldest of which goes: at most 320 MiB,
//! about a million records. Whoever needs more ships the lines elsewhere.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use adit_engine::failpoint::fallible;
use tokio::sync::{mpsc, oneshot};

use super::{AuditError, AuditSink, Record};
use crate::data_dir::{DataDir, DataDirError};

/// Size at which a file is put aside, in bytes.
pub const FILE_SIZE_MAX: u64 = 64 * 1024 * 1024;
/// Files that are kept besides the one in use.
pub const FILES_KEPT: usize = 4;

/// Writes with one thread; what comes in while it writes is written together next.
pub struct AuditFile {
    queue: mpsc::Sender<Entry>,
}

struct Entry {
    line: String,
    written: oneshot::Sender<Result<(), AuditError>>,
}

impl AuditFile {
    /// Opens or makes the file, mode 0600.
    pub fn in_dir(dir: &DataDir) -> Result<Self, DataDirError> {
        Self::open(dir.file(AUDIT_FILE), FILE_SIZE_MAX)
    }

    pub(super) fn open(path: PathBuf, size_max: u64) -> Result<Self, DataDirError> {
        let failed = |source| DataDirError::io("append to", &path, source);
        let (file, size) = open(&path).map_err(failed)?;
        let (queue, entries) = mpsc::channel(QUEUE_SIZE);
        let writer = Writer {
            path: path.clone(),
            size_max,
            open: Some((file, size)),
        };
        thread::Builder::new()
            .name("adit-audit".to_owned())
            .spawn(move || writer.run(entries))
            .map_err(failed)?;
        Ok(Self { queue })
    }
}

impl AuditSink for AuditFile {
    async fn append(&self, record: Arc<Record>) -> Result<(), AuditError> {
        let mut line = record.to_json();
        line.push('\n');
        let (written, result) = oneshot::channel();
        let gone = || AuditError("its thread has ended".to_owned());
        let entry = Entry { line, written };
        self.queue.send(entry).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }
}

struct Writer {
    path: PathBuf,
    size_max: u64,
    /// The file and its size; `None` after an error, which may have left half a line.
    open: Option<(File, u64)>,
}

impl Writer {
    fn run(mut self, mut entries: mpsc::Receiver<Entry>) {
        let mut batch = Vec::new();
        while entries.blocking_recv_many(&mut batch, QUEUE_SIZE) > 0 {
            let text: String = batch.iter().map(|entry| entry.line.as_str()).collect();
            // It opens the file anew after a panic, as after an error.
            let result = catch_unwind(AssertUnwindSafe(|| self.write(text.as_bytes())));
            let result =
                result.unwrap_or_else(|_| Err(io::Error::other("a mistake in adit, see above")));
            let result =
                result.map_err(|error| AuditError(format!("{}: {error}", self.path.display())));
            for entry in batch.drain(..) {
                // Whoever has stopped waiting does not care.
                let _ = entry.written.send(result.clone());
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut file, mut size) = match self.open.take() {
            Some(open) => open,
            None => open(&self.path)?,
        };
        if size > 0 && size + bytes.len() as u64 > self.size_max {
            rotate(&self.path)?;
            (file, size) = open(&self.path)?;
        }
        fallible("audit-write", &"file")?;
        file.write_all(bytes)?;
        self.open = Some((file, size + bytes.len() as u64));
        Ok(())
    }
}

/// Opens the file for appending, and ends a line that an interrupted write has left unfinished.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    let mut size = file.metadata()?.len();
    if size > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            size += 1;
        }
    }
    Ok((file, size))
}

/// A file that is not there any more, as one that was moved elsewhere, has made its place itself.
fn rotate(path: &Path) -> io::Result<()> {
    let place = |number: usize| {
        let mut name = path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    for number in (0..FILES_KEPT).rev() {
        match fs::rename(place(number), place(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

const AUDIT_FILE: &str = "audit.jsonl";

/// Records that wait to be written, about 500 bytes each; more callers wait themselves.
const QUEUE_SIZE: usize = 1_024;
