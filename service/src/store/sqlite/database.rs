//! Opening `adit.db`: checked, brought to the current version, never taken for an empty one.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::schema::MIGRATIONS;
use super::{journal, sums};
use crate::data_dir::{DataDir, DataDirError};

/// The connection that writes.
///
/// # Errors
/// A file that is damaged, of a newer version, of another program, or not to be read or written.
pub(super) fn open(dir: &DataDir) -> Result<Connection, DataDirError> {
    let path = dir.private_file(FILE)?;
    let journal = dir.file(JOURNAL);
    // It makes its first page before it makes a journal.
    if size(&path)? == 0 && size(&journal)? > 0 {
        let what = "it is empty, and the journal beside it (adit.db-wal) has changes that were acknowledged";
        return Err(damaged(&path, what));
    }
    let is_damaged = journal::is_damaged(&journal);
    if is_damaged.map_err(|error| DataDirError::io("read", &journal, error))? {
        let what = "changes that were acknowledged are behind a part that is not what was written";
        return Err(damaged(&journal, what));
    }
    let opened = Connection::open_with_flags(&path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE));
    let mut connection = opened.map_err(|error| fault(&path, error))?;
    prepare(&path, &mut connection)?;
    Ok(connection)
}

/// In bytes; 0 where there is no such file.
fn size(path: &Path) -> Result<u64, DataDirError> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(DataDirError::io("look at", path, error)),
    }
}

/// One more connection, which only reads.
pub(super) fn open_reader(dir: &DataDir) -> Result<Connection, DataDirError> {
    let path = dir.file(FILE);
    let open = || {
        let flags = flags(OpenFlags::SQLITE_OPEN_READ_ONLY);
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    };
    open().map_err(|error| fault(&path, error))
}

fn flags(access: OpenFlags) -> OpenFlags {
    access | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn prepare(path: &Path, connection: &mut Connection) -> Result<(), DataDirError> {
    let failed = |error| fault(path, error);
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    sums::register(connection).map_err(failed)?;
    let version = version(path, connection)?;
    let check: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(failed)?;
    if check != "ok" {
        return Err(damaged(path, "its content contradicts itself"));
    }
    if version == MIGRATIONS.len()
        && let Some(what) = sums::contradiction(connection).map_err(failed)?
    {
        return Err(damaged(path, &what));
    }
    let journal: String = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .map_err(failed)?;
    if journal != "wal" {
        return Err(DataDirError::io("use", path, no_journal(&journal)));
    }
    let mut configure = || {
        // What was answered survives a loss of power.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "journal_size_limit", JOURNAL_SIZE_MAX)?;
        // What is deleted is not to be found in the file any more.
        connection.pragma_update(None, "secure_delete", true)?;
        migrate(connection, version)
    };
    configure().map_err(failed)
}

/// The file's version; 0 when there is nothing in it yet.
fn version(path: &Path, connection: &Connection) -> Result<usize, DataDirError> {
    let pragma = |name| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0));
    let failed = |error| fault(path, error);
    let version: i64 = pragma("user_version").map_err(failed)?;
    let application: i64 = pragma("application_id").map_err(failed)?;
    let pages: i64 = pragma("page_count").map_err(failed)?;
    if pages > 0 && application != APPLICATION_ID {
        return Err(damaged(path, "it is a database of another program"));
    }
    match usize::try_from(version) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        _ => Err(DataDirError::Newer {
            path: path.to_owned(),
            version: version.unsigned_abs(),
            known: MIGRATIONS.len() as u64,
        }),
    }
}

fn migrate(connection: &mut Connection, version: usize) -> rusqlite::Result<()> {
    if version == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for migration in &MIGRATIONS[version..] {
        transaction.execute_batch(&migration())?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    transaction.commit()
}

pub(super) fn fault(path: &Path, error: rusqlite::Error) -> DataDirError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            damaged(path, "it is not such a file, or parts of it are missing")
        }
        _ => DataDirError::io("use", path, std::io::Error::other(error)),
    }
}

/// Asked for a journal that the file system cannot have, SQLite stays with another and says so, which is no error to it.
fn no_journal(instead: &str) -> std::io::Error {
    std::io::Error::other(format!(
        "SQLite keeps no write-ahead journal there (but \"{instead}\"): the file system shares no memory between \
         processes, as some on a network do not; put the data directory on a local disk"
    ))
}

fn damaged(path: &Path, what: &str) -> DataDirError {
    DataDirError::damaged(path, format!("{what}; {ADVICE}"))
}

pub(super) const FILE: &str = "adit.db";

/// What SQLite writes changes to before they go into the file.
pub(super) const JOURNAL: &str = "adit.db-wal";

/// "adit" in ASCII.
const APPLICATION_ID: i64 = 0x6164_6974;

/// Nobody else writes; a reader waits only for the very end of a checkpoint.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// In bytes; a checkpoint cuts the journal back to it.
const JOURNAL_SIZE_MAX: i64 = 16 << 20;

const ADVICE: &str = "restore the file from a backup, or move it away (adit.db-wal and adit.db-shm with \
                      it) to start with nothing";

#[cfg(test)]
mod tests {
    use super::*;

    /// A database in memory has no such journal, and says so without an error.
    #[test]
    fn a_place_without_the_journal_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        let refused = prepare(Path::new("/mnt/adit.db"), &mut connection).unwrap_err();
        let text = refused.to_string();
        let told =
            "cannot use /mnt/adit.db: SQLite keeps no write-ahead journal there (but \"memory\")";
        assert!(text.starts_with(told), "{text}");
        assert!(
            text.ends_with("put the data directory on a local disk"),
            "{text}"
        );
    }
}
