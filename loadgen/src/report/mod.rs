//! What was measured: recorders of the workers, intervals, the summary and its files.
//!
//! ```text
//! worker ─► Recorder ─► Interval, once a second ─► Reporter ─► live screen or lines, interval log
//!                                                          └─► Summary ─► table, JSON, CSV, plots
//! ```

mod command;
mod command_line;
mod csv;
mod error_kind;
mod hlog;
mod interrupt;
mod interval;
mod latency;
mod lines;
mod metric;
mod own_cpu;
mod plot;
mod recorder;
mod reporter;
#[cfg(test)]
mod sample;
mod save;
mod screen;
mod self_check;
mod summary;
mod table;
mod tally;
mod terminal;
mod text;
pub(crate) mod units;
mod view;

pub use command::{Args, conclude, print, run};
pub(crate) use command_line::command_line;
pub use csv::{CSV_FILE, csv};
pub use error_kind::{ErrorCounts, ErrorKind};
pub use hlog::HLOG_FILE;
pub use interrupt::watch as watch_signals;
pub use interval::{INTERVAL_HISTOGRAM_SIZE, Interval, LATENCY_MAX_NS, StreamBytes};
pub use latency::{Bin, Latency, Step};
#[cfg(test)]
pub(crate) use metric::assert_directions;
pub use metric::{Better, Kind, Metric};
pub(crate) use own_cpu::OwnCpu;
pub use plot::PLOT_FILES;
pub use recorder::{Recorder, StreamSlot};
pub use reporter::{Ending, INTERVALS_WAITING_MAX, Plan, Reporter, Show};
pub use save::{LoadError, SUMMARY_FILE, SUMMARY_SIZE_MAX};
pub(crate) use self_check::far_end;
pub use self_check::{CPU_SHARE_MAX, LAG_MAX_NS};
pub use summary::{
    Generator, Model, ProcessUse, Program, RunFacts, SCHEMA_VERSION, SECONDS_MAX, STREAMS_MAX,
    Second, Share, Shares, Summary, timestamp,
};
pub use table::table;
pub use terminal::restore as restore_terminal;
