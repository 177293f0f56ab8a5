//! The interval log: HdrHistogram's format, version 2, which its tools and viewers read.
//!
//! Two histograms for each second, each with a tag: the profile's name for latencies from the
//! intended start, and the same with `-uncorrected` for those from the actual start. All values
//! are nanoseconds, the column of the longest too.

use std::{
    fmt,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
    time::{Duration, SystemTime},
};

use hdrhistogram::serialization::{
    V2DeflateSerializer,
    interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag},
};

use super::{
    summary::RunFacts,
    view::{Sink, View},
};

/// Name of the log in its directory.
pub const HLOG_FILE: &str = "intervals.hlog";

/// Writes the log as the run goes on, so that a run that is killed leaves what it had.
pub(crate) struct IntervalLog {
    out: BufWriter<File>,
    serializer: V2DeflateSerializer,
}

impl IntervalLog {
    /// A new log in `directory`, which is made if need be.
    pub(crate) fn create(directory: &Path, facts: &RunFacts) -> io::Result<Self> {
        let path = directory.join(HLOG_FILE);
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        fs::create_dir_all(directory).map_err(named)?;
        let out = BufWriter::new(File::create(&path).map_err(named)?);
        let mut log = Self {
            out,
            serializer: V2DeflateSerializer::new(),
        };
        log.head(facts)?;
        Ok(log)
    }

    fn head(&mut self, facts: &RunFacts) -> io::Result<()> {
        let now = SystemTime::now();
        let mut builder = IntervalLogWriterBuilder::new();
        builder
            .add_comment("[Histogram log format version 1.3]")
            .add_comment(&format!(
                "[adit-loadgen, profile {}; all values are nanoseconds]",
                facts.profile
            ))
            .with_start_time(now)
            .with_base_time(now);
        builder.begin_log_with(&mut self.out, &mut self.serializer)?;
        self.out.flush()
    }
}

impl Sink for IntervalLog {
    fn second(&mut self, view: &View<'_>) -> io::Result<()> {
        let mut log =
            IntervalLogWriterBuilder::new().begin_log_with(&mut self.out, &mut self.serializer)?;
        let start = Duration::from_secs(u64::from(view.second.second));
        let profile = &view.facts.profile;
        let histograms = [
            (profile.clone(), &view.interval.corrected),
            (
                format!("{profile}{UNCORRECTED}"),
                &view.interval.uncorrected,
            ),
        ];
        for (name, histogram) in histograms {
            log.write_histogram(histogram, start, SECOND, Tag::new(&name))
                .map_err(plain)?;
        }
        self.out.flush()
    }
}

fn plain<E: fmt::Display>(error: IntervalLogWriterError<E>) -> io::Error {
    match error {
        IntervalLogWriterError::IoError(error) => error,
        IntervalLogWriterError::SerializeError(error) => io::Error::other(error.to_string()),
    }
}

/// What follows the profile's name in the tag of latencies from the actual start.
const UNCORRECTED: &str = "-uncorrected";
const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use hdrhistogram::{
        Histogram,
        serialization::{
            Deserializer,
            interval_log::{IntervalLogIterator, LogEntry},
        },
    };

    use super::super::sample;
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        use base64::Engine as _;

        let directory = tempfile::tempdir().expect("a directory");
        let mut log = IntervalLog::create(directory.path(), &sample::facts()).expect("a log");
        let mut whole = None;
        sample::run(|view| {
            log.second(view).expect("a second");
            whole = Some((view.tally.corrected.clone(), view.tally.uncorrected.clone()));
        });
        log.end().expect("an end");
        let (corrected, uncorrected) = whole.expect("seconds");

        let text = fs::read(directory.path().join(HLOG_FILE)).expect("the log");
        let mut read: [Histogram<u64>; 2] =
            std::array::from_fn(|_| super::super::interval::histogram());
        let mut starts = Vec::new();
        for entry in IntervalLogIterator::new(&text) {
            let LogEntry::Interval(interval) = entry.expect("an entry") else {
                continue;
            };
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(interval.encoded_histogram())
                .expect("base64");
            let histogram: Histogram<u64> = Deserializer::new()
                .deserialize(&mut bytes.as_slice())
                .expect("a histogram");
            let which = match interval.tag().map(|tag| tag.as_str()) {
                Some("latency") => 0,
                Some("latency-uncorrected") => 1,
                other => panic!("tag {other:?}"),
            };
            assert_eq!(interval.duration(), SECOND);
            starts.push(interval.start_timestamp().as_secs());
            read[which].add(&histogram).expect("the same bounds");
        }
        assert_eq!(starts, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
        assert_eq!(read[0], corrected);
        assert_eq!(read[1], uncorrected);
    }
}
