//! From settings to a reporter, and from a summary to the end of the program.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::account::Window;
use crate::exit::{Error, Verdict};
use crate::report::{self, Ending, Model, Plan, Recorder, Reporter, RunFacts, Summary, timestamp};
use crate::settings::Output;
use crate::system::SystemSettings;
use crate::threshold::Threshold;

/// A run that is reported.
pub(super) struct Reporting {
    reporter: Reporter,
    start: Instant,
}

impl Reporting {
    /// Begins, with a recorder for each of `workers`.
    pub(super) fn start(
        (profile, model): (&str, Model),
        system: &SystemSettings,
        seed: u64,
        duration: Duration,
        parameters: &[(&str, String)],
        workers: usize,
        output: &Output,
    ) -> Result<(Self, Vec<Recorder>), Error> {
        let start = Instant::now();
        let own = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        let of_system = [
            ("tunnels".to_owned(), system.tunnels.to_string()),
            ("system-io".to_owned(), system.io.to_string()),
        ];
        let facts = RunFacts {
            command_line: report::command_line(std::env::args_os()),
            started_at: timestamp(),
            profile: profile.to_owned(),
            target: "a system of its own, on loopback".to_owned(),
            model,
            duration_s: duration.as_secs_f64(),
            connections: workers as u64,
            threads: workers as u64,
            seed,
            io: "blocking".to_owned(),
            parameters: own.chain(of_system).collect::<BTreeMap<_, _>>(),
            ..RunFacts::default()
        };
        let mut reporter = Reporter::start(Plan {
            facts,
            start,
            workers,
            show: output.show,
            directory: output.directory.clone(),
        })
        .context("the report cannot be begun")?;
        let recorders = (0..workers).map(|_| reporter.recorder()).collect();
        Ok((Self { reporter, start }, recorders))
    }

    pub(super) fn begun(&self) -> Instant {
        self.start
    }

    /// Ends: prints and saves what there is. `measured` is what rates are over; `passed` is the
    /// profile's own judgement.
    pub(super) fn finish(
        self,
        windows: &[Window],
        figures: BTreeMap<String, f64>,
        warnings: Vec<String>,
        measured: Duration,
        passed: bool,
        output: &Output,
    ) -> Result<Verdict, Error> {
        let ending = Ending {
            measured: Some(measured),
            figures,
            warnings,
            ..Ending::default()
        };
        let mut summary = self.reporter.finish(ending, &[]);
        let bytes = summary.bytes_up + summary.bytes_down;
        summary.processes = windows.iter().map(|it| it.to_use(bytes)).collect();
        let judge = |threshold: &Threshold| threshold.judge(&summary);
        summary.thresholds = output.thresholds.iter().map(judge).collect();
        conclude(&summary, passed, output)
    }
}

fn conclude(summary: &Summary, passed: bool, output: &Output) -> Result<Verdict, Error> {
    if let Some(directory) = &output.directory {
        let saved = summary.save(directory);
        saved.context("the report cannot be written")?;
    }
    report::print(&report::table(summary))?;
    Ok(match passed {
        true => report::conclude(summary),
        false => Verdict::Failed,
    })
}
