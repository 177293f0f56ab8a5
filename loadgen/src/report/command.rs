//! `adit-loadgen report DIR`

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;

use super::error_kind::ErrorKind;
use super::lines::by_kind;
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
    Ok(conclude(&summary))
}

/// How a run ends the program; says on standard error why it has failed, if it has.
pub fn conclude(summary: &Summary) -> Verdict {
    if let Some(failure) = failure(summary) {
        eprintln!("error: {failure}");
    }
    verdict(summary)
}

/// Failed where a byte was lost or wrong, or where nothing but errors came of it; else by its thresholds.
fn verdict(summary: &Summary) -> Verdict {
    match summary {
        _ if failure(summary).is_some() => Verdict::Failed,
        _ if summary.has_crossed() => Verdict::ThresholdCrossed,
        _ => Verdict::Passed,
    }
}

/// Why the run has failed, whatever its thresholds say.
pub(super) fn failure(summary: &Summary) -> Option<String> {
    let told = |errors: &BTreeMap<ErrorKind, u64>| {
        by_kind(errors.iter().map(|(kind, count)| (*kind, *count)))
    };
    let losses = summary.losses();
    let is_dead = summary.operations == 0 && summary.errors_total() > 0;
    match losses.is_empty() {
        false => Some(format!("bytes were lost or wrong ({})", told(&losses))),
        true if is_dead => Some(format!(
            "no operation ended well ({})",
            told(&summary.errors)
        )),
        true => None,
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
    use super::super::sample;
    use super::*;

    #[test]
    fn lost_bytes_weigh_more_than_a_threshold() {
        let mut summary = sample::summary();
        assert_eq!(verdict(&summary), Verdict::Failed);
        assert_eq!(
            failure(&summary).as_deref(),
            Some("bytes were lost or wrong (reset 1, timed-out 2)")
        );
        summary.errors.clear();
        assert_eq!(verdict(&summary), Verdict::ThresholdCrossed);
        summary.thresholds.clear();
        assert_eq!(verdict(&summary), Verdict::Passed);
        summary.connection_errors.insert(ErrorKind::Mismatch, 1);
        assert_eq!(verdict(&summary), Verdict::Failed);
        assert!(!summary.is_intact());
    }

    #[test]
    fn what_was_never_begun_is_no_loss_unless_nothing_was() {
        let mut summary = Summary::default();
        assert_eq!(verdict(&summary), Verdict::Passed);
        for kind in [ErrorKind::Refused, ErrorKind::Skipped] {
            summary.errors.insert(kind, 1);
        }
        assert_eq!(verdict(&summary), Verdict::Failed);
        assert_eq!(
            failure(&summary).as_deref(),
            Some("no operation ended well (refused 1, skipped 1)")
        );
        summary.operations = 1;
        assert_eq!(verdict(&summary), Verdict::Passed);
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
        assert_eq!(run(&args).expect("a report"), Verdict::Failed);
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
