//! The files of a run: written at its end, read again later.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{
    csv::{CSV_FILE, csv},
    plot,
    summary::{SCHEMA_VERSION, Summary},
};

/// Name of the summary in its directory.
pub const SUMMARY_FILE: &str = "summary.json";

/// A summary larger than this is none of ours: a day of seconds is 40 MB.
pub const SUMMARY_SIZE_MAX: u64 = 256 << 20;

/// Why a summary could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is too large to be a summary.
    #[error("{}: {size} bytes are more than a summary has ({SUMMARY_SIZE_MAX})", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
    /// It is not a summary.
    #[error("{}: not a summary of adit-loadgen: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// It was written by another version.
    #[error("{}: schema version {found}, but this program reads version {SCHEMA_VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
}

impl Summary {
    /// Writes `summary.json`, `series.csv` and the plots into `directory`, which is made if need be.
    /// The interval log is written while the run goes on, by the reporter.
    ///
    /// # Errors
    /// A file cannot be written; the error names it.
    pub fn save(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory).map_err(|error| named(directory, &error))?;
        let mut json = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        json.push('\n');
        put(&directory.join(CSV_FILE), &csv(&self.series))?;
        plot::write(directory, self)?;
        // Last: where it stands, the others stand too.
        put(&directory.join(SUMMARY_FILE), &json)
    }

    /// Removes the summary of an earlier run from `directory`: a run that begins there and does not come to its end would
    /// leave it beside files of its own.
    pub(super) fn forget(directory: &Path) -> io::Result<()> {
        let path = directory.join(SUMMARY_FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(&path, &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Reads a summary from its file, or from the directory it lies in.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let path = if path.is_dir() {
            path.join(SUMMARY_FILE)
        } else {
            path.to_owned()
        };
        let io = |source| LoadError::Io {
            path: path.clone(),
            source,
        };
        let size = fs::metadata(&path).map_err(io)?.len();
        if size > SUMMARY_SIZE_MAX {
            return Err(LoadError::TooLarge { path, size });
        }
        let text = fs::read_to_string(&path).map_err(io)?;
        let malformed = |source| LoadError::Malformed {
            path: path.clone(),
            source,
        };
        // The version first: of another one, no other field can be trusted to be there.
        let version: Version = serde_json::from_str(&text).map_err(malformed)?;
        if version.schema_version != u64::from(SCHEMA_VERSION) {
            return Err(LoadError::Version {
                path,
                found: version.schema_version,
            });
        }
        serde_json::from_str(&text).map_err(malformed)
    }
}

#[derive(serde::Deserialize)]
struct Version {
    schema_version: u64,
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text).map_err(|error| named(path, &error))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_summary_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("new/run");
        let summary = sample::summary();
        summary.save(&place).expect("files");
        assert_eq!(Summary::load(&place).expect("a summary"), summary);
        assert_eq!(
            Summary::load(&place.join(SUMMARY_FILE)).expect("a summary"),
            summary
        );
        for file in [
            "series.csv",
            "percentiles.svg",
            "percentiles.png",
            "time.svg",
            "time.png",
        ] {
            assert!(place.join(file).is_file(), "{file}");
        }
    }

    /// What was saved by an earlier program with the same schema version is read by this one. The file
    /// changes only when fields are added: then write it anew, and see that nothing else differs.
    #[test]
    fn a_summary_that_was_saved_before_is_read() {
        let json = serde_json::to_string_pretty(&sample::summary()).expect("json");
        sample::assert_snapshot("summary.json", &(json + "\n"));
        let saved = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src/report/snapshots/summary.json"
        );
        assert_eq!(
            Summary::load(Path::new(saved)).expect("a summary"),
            sample::summary()
        );
    }

    /// Whoever reads the JSON without this program finds these, with these types.
    #[test]
    fn the_shape_of_the_json_is_kept() {
        let json = serde_json::to_value(sample::summary()).expect("json");
        let mut shape = Vec::new();
        describe("", &json, &mut shape);
        sample::assert_snapshot("schema.txt", &(shape.join("\n") + "\n"));
    }

    fn describe(name: &str, value: &serde_json::Value, shape: &mut Vec<String>) {
        use serde_json::Value;
        let kind = match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    describe(&format!("{name}.{key}"), value, shape);
                }
                return;
            }
            Value::Array(items) => match items
                .iter()
                .max_by_key(|item| item.as_object().map_or(0, serde_json::Map::len))
            {
                Some(item) => return describe(&format!("{name}[]"), item, shape),
                None => "array",
            },
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
        };
        shape.push(format!("{} {kind}", name.trim_start_matches('.')));
    }

    #[test]
    fn what_is_no_summary_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(SUMMARY_FILE);
        let fails = |part: &str| {
            let error = Summary::load(directory.path())
                .expect_err("no summary")
                .to_string();
            assert!(
                error.contains(part) && error.contains("summary.json"),
                "{error}"
            );
        };
        fails("No such file");
        fs::write(&path, "{").expect("written");
        fails("not a summary of adit-loadgen: EOF");
        fs::write(&path, r#"{"schema_version": 99}"#).expect("written");
        fails("schema version 99, but this program reads version 2");
        fs::write(&path, r#"{"schema_version": 2}"#).expect("written");
        fails("missing field");
    }
}
