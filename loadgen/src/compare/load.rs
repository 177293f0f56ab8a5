//! From arguments to groups of runs.

use std::path::{Path, PathBuf};

use crate::{
    exit::Error,
    report::{SUMMARY_FILE, Summary},
};

/// Runs of one group; more are refused.
pub const RUNS_MAX: usize = 1000;

/// Runs of the same thing.
#[derive(Clone, Debug)]
pub struct Group {
    /// As it was given.
    pub name: String,
    /// The runs, in the order of their names.
    pub runs: Vec<Summary>,
}

impl Group {
    /// Reads a `summary.json`, the directory of a run, or a directory of such directories.
    ///
    /// # Errors
    /// There is no run, one cannot be read, or they are not of the same profile.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let files = files(path)?;
        let mut runs = Vec::with_capacity(files.len());
        for file in &files {
            let run = Summary::load(file).map_err(|error| Error::usage(error.to_string(), HINT))?;
            runs.push(run);
        }
        let group = Self {
            name: path.display().to_string(),
            runs,
        };
        group.check()?;
        Ok(group)
    }

    /// The profile of its runs.
    #[must_use]
    pub fn profile(&self) -> &str {
        self.runs.first().map_or("", |run| &run.run.profile)
    }

    fn check(&self) -> Result<(), Error> {
        let profile = self.profile();
        match self.runs.iter().find(|run| run.run.profile != profile) {
            None => Ok(()),
            Some(other) => Err(Error::usage(
                format!(
                    "{} has runs of '{profile}' and of '{}'",
                    self.name, other.run.profile
                ),
                "give each profile a directory of its own",
            )),
        }
    }
}

fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if !path.is_dir() || path.join(SUMMARY_FILE).is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable =
        |error: std::io::Error| Error::usage(format!("{}: {error}", path.display()), HINT);
    let mut files = Vec::new();
    for entry in path.read_dir().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?.path();
        if entry.join(SUMMARY_FILE).is_file() {
            files.push(entry);
        }
        if files.len() > RUNS_MAX {
            return Err(Error::usage(
                format!("{} has more than {RUNS_MAX} runs", path.display()),
                HINT,
            ));
        }
    }
    if files.is_empty() {
        return Err(Error::usage(
            format!(
                "{} has no {SUMMARY_FILE}, and no directory in it has",
                path.display()
            ),
            HINT,
        ));
    }
    files.sort();
    Ok(files)
}

const HINT: &str =
    "give a summary.json, the directory of a run (--out), or a directory of such directories";

#[cfg(test)]
mod tests {
    use super::*;

    fn save(profile: &str, place: &Path) {
        let mut summary = Summary {
            schema_version: crate::report::SCHEMA_VERSION,
            ..Summary::default()
        };
        summary.run.profile = profile.to_owned();
        summary.save(place).expect("files");
    }

    #[test]
    fn a_run_a_directory_and_a_directory_of_directories_are_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path();
        for run in ["2", "1", "3"] {
            save("latency", &place.join("a").join(run));
        }
        assert_eq!(Group::load(&place.join("a")).expect("runs").runs.len(), 3);
        assert_eq!(
            Group::load(&place.join("a/1")).expect("a run").runs.len(),
            1
        );
        assert_eq!(
            Group::load(&place.join("a/1").join(SUMMARY_FILE))
                .expect("a run")
                .runs
                .len(),
            1
        );
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path();
        let error = |path: &Path| Group::load(path).expect_err("no group").to_string();
        assert!(
            error(place).contains("has no summary.json"),
            "{}",
            error(place)
        );
        assert!(
            error(&place.join("none")).contains("none"),
            "{}",
            error(&place.join("none"))
        );
        save("latency", &place.join("1"));
        save("bulk", &place.join("2"));
        assert!(
            error(place).contains("runs of 'latency' and of 'bulk'"),
            "{}",
            error(place)
        );
    }
}
