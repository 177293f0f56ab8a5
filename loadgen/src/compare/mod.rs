//! Earlier runs against each other: which figures differ by more than chance explains.
//!
//! Each argument is a *group* of runs of the same thing. The first is what the others are judged
//! against. A single run says nothing about chance, however many operations it had: what differs
//! from run to run (which core, what else the machine did) is the same for all its operations. So
//! runs are the samples, and a verdict needs at least [`RUNS_MIN`] of them on each side.
//!
//! The method, for each pair of groups (`statistic.rs`):
//!
//! * each figure of each run enters by its logarithm, so that differences are ratios;
//! * the difference of a figure is measured by Welch's t;
//! * the labels of the runs are shuffled, for all figures together: every way there is when they are
//!   at most [`SHUFFLES_MAX`], else that many drawn from a fixed seed. A figure's p is the share of
//!   shuffles in which *any* figure differs at least as much (Westfall and Young's single-step maximum).
//!   If nothing differs, the chance that any figure at all is called better or worse is at most 5 %;
//! * the interval beside a change is a 95 % percentile bootstrap of the ratio of medians, for the
//!   reader's eye; the verdict does not use it;
//! * where medians and means differ in opposite directions, nothing is called;
//! * a change under 1 % is within noise whatever its p: it is nothing that anybody would act on.

mod command;
mod load;
mod statistic;
mod verdict;

pub use command::{Args, run};
pub use load::{Group, RUNS_MAX};
pub use statistic::{RUNS_MIN, SHUFFLES_MAX};
pub use verdict::{Comparison, Line, Verdict, compare, table};
