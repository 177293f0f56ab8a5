//! `tunnels.json`: all that has to outlive the process, as one checked file.
//!
//! ```text
//! {"version":1,"sha256":"…43 characters…","table":
//! {…}
//! }
//! ```
//!
//! One JSON document whose first line is read by itself: every version of the format keeps its form as
//! far as the version. The hash is that of the table's line, so that a flipped bit is never taken for
//! a tunnel.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::clock::Now;
use crate::data_dir::{DataDir, DataDirError};
use crate::token::sha256;
use crate::tunnels::{Limits, TableImage, Tunnels, image, restore};

/// The table of the directory's last snapshot; an empty one when there never was one.
///
/// # Errors
/// A file that is damaged, of a newer format, or not readable. It is never taken for an empty one.
pub(super) fn load(dir: &DataDir, limits: Limits, now: Now) -> Result<Tunnels, DataDirError> {
    dir.remove_leftover(FILE)?;
    let text = dir.read_large_secret(FILE, SIZE_MAX);
    let text = text.map_err(|error| match error {
        DataDirError::Damaged { path, reason } => damaged(&path, &reason),
        other => other,
    })?;
    let Some(text) = text else {
        return Ok(Tunnels::new(limits));
    };
    let restored = decode(&text)
        .and_then(|image| restore(&image, limits, now).map_err(|what| Fault::Damaged(what.into())));
    restored.map_err(|fault| match fault {
        Fault::Damaged(what) => damaged(&dir.file(FILE), &what),
        Fault::Newer(version) => DataDirError::Newer {
            path: dir.file(FILE),
            version,
            known: VERSION,
        },
    })
}

/// Replaces the snapshot; it is durable when this returns.
pub(super) fn save(dir: &DataDir, bytes: &[u8]) -> Result<(), DataDirError> {
    if bytes.len() as u64 > SIZE_MAX {
        let reason = format!(
            "it would be larger than {SIZE_MAX} bytes, with {} bytes of tunnels; close some",
            bytes.len()
        );
        return Err(DataDirError::io(
            "write",
            &dir.file(FILE),
            std::io::Error::new(std::io::ErrorKind::FileTooLarge, reason),
        ));
    }
    dir.write(FILE, bytes, 0o600)
}

/// The whole file for this table.
pub(super) fn encode(tunnels: &Tunnels, now: Now, sessions_until: u64) -> Vec<u8> {
    // The table is written behind the place of the header, which needs the table's hash.
    let mut bytes = header("").into_bytes();
    bytes.resize(bytes.len() + HASH_SIZE, b' ');
    let start = bytes.len();
    serde_json::to_writer(&mut bytes, &image(tunnels, now, sessions_until))
        .expect("a table of texts and numbers becomes JSON, and a Vec takes it");
    let header = header(&hash(&bytes[start..]));
    bytes[..start].copy_from_slice(header.as_bytes());
    bytes.extend_from_slice(END.as_bytes());
    bytes
}

fn damaged(path: &Path, what: &str) -> DataDirError {
    DataDirError::damaged(path, format!("{what}; {ADVICE}"))
}

enum Fault {
    /// With what is wrong, which says nothing of the content.
    Damaged(String),
    Newer(u64),
}

fn decode(text: &str) -> Result<TableImage<'_>, Fault> {
    let damaged = |what: &str| Fault::Damaged(what.to_owned());
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let version: Version = serde_json::from_str(&format!("{first}null}}"))
        .map_err(|_| damaged("its first line is not that of such a file"))?;
    if version.version > VERSION {
        return Err(Fault::Newer(version.version));
    }
    let table = rest.strip_suffix(END);
    let table = table.ok_or_else(|| damaged("its end is missing"))?;
    if format!("{first}\n") != header(&hash(table.as_bytes())) {
        return Err(damaged("its content does not have the hash that it had"));
    }
    serde_json::from_str(table).map_err(|error| {
        // Not the error's own text: it may quote.
        let column = error.column();
        Fault::Damaged(format!("its second line makes no sense at column {column}"))
    })
}

/// The part of the first line that every format has; other members are its own.
#[derive(Deserialize)]
struct Version {
    version: u64,
}

fn header(hash: &str) -> String {
    format!("{{\"version\":{VERSION},\"sha256\":\"{hash}\",\"table\":\n")
}

fn hash(table: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(sha256(&[table]))
}

pub(super) const FILE: &str = "tunnels.json";
const VERSION: u64 = 1;
const END: &str = "\n}\n";
/// 32 bytes of base64url.
const HASH_SIZE: usize = 43;

/// A tunnel without tags takes some 600 bytes, so this is seven times the default limits; a table with
/// more in it takes no further change. Read and written as a whole.
const SIZE_MAX: u64 = 1 << 30;

const ADVICE: &str = "restore the file from a backup, or move it away to start without tunnels (those \
                      that were open have to be opened again)";
