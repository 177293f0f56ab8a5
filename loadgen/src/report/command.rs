//! `adit-loadgen report DIR`

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;

use super::{Summary, table};
use crate::exit::{Error, Verdict};

/// Arguments of `report`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Directory of a run (--out), or its summary.json
    #[arg(value_name = "DIR")]
    pub run: PathBuf,
    /// Draw the plots and write the series anew, into this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Prints the table of a run that was saved, and ends as the run itself did: with its thresholds.
///
/// # Errors
/// The run cannot be read, or files cannot be written.
pub fn run(args: &Args) -> Result<Verdict, Error> {
    let summary = Summary::load(&args.run).map_err(|error| {
        Error::usage(
            error.to_string(),
            "give the directory of a run (--out) or its summary.json",
        )
    })?;
    if let Some(out) = &args.out {
        summary.save(out).context("the report cannot be written")?;
    }
    print(&table(&summary))?;
    Ok(verdict(&summary))
}

/// How a run ends the program: failed where a byte was wrong, or where nothing but errors came of it;
/// else by its thresholds.
#[must_use]
pub fn verdict(summary: &Summary) -> Verdict {
    let is_dead = summary.operations == 0 && summary.errors_total() > 0;
    match summary {
        _ if !summary.is_intact() || is_dead => Verdict::Failed,
        _ if summary.has_crossed() => Verdict::ThresholdCrossed,
        _ => Verdict::Passed,
    }
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no failure.
///
/// # Errors
/// Standard output takes nothing.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Failure(
            anyhow::Error::new(error).context("standard output"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ErrorKind, sample};
    use super::*;

    #[test]
    fn a_wrong_byte_weighs_more_than_a_threshold() {
        let mut summary = sample::summary();
        assert_eq!(verdict(&summary), Verdict::ThresholdCrossed);
        summary.errors.insert(ErrorKind::Mismatch, 1);
        assert_eq!(verdict(&summary), Verdict::Failed);
        assert_eq!(verdict(&Summary::default()), Verdict::Passed);
        let mut dead = Summary::default();
        dead.errors.insert(ErrorKind::Refused, 1);
        assert_eq!(verdict(&dead), Verdict::Failed);
    }

    #[test]
    fn a_saved_run_is_drawn_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let (run_place, out) = (directory.path().join("run"), directory.path().join("again"));
        sample::summary().save(&run_place).expect("files");
        let args = Args {
            run: run_place.clone(),
            out: Some(out.clone()),
        };
        assert_eq!(run(&args).expect("a report"), Verdict::ThresholdCrossed);
        let read = |place: &PathBuf| std::fs::read(place.join("time.png")).expect("a plot");
        assert_eq!(read(&run_place), read(&out));
        let error = run(&Args {
            run: directory.path().join("none"),
            out: None,
        })
        .expect_err("no run")
        .to_string();
        assert!(error.contains("none") && error.contains("hint:"), "{error}");
    }
}
