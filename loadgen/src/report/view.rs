//! What is shown once a second, wherever it is shown.

use std::io;

use super::{
    interval::Interval,
    self_check,
    summary::{RunFacts, Second},
    tally::Tally,
};

/// A run at the end of one of its seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    /// What is run.
    pub(crate) facts: &'a RunFacts,
    /// Everything so far.
    pub(crate) tally: &'a Tally,
    /// The second that is over.
    pub(crate) second: &'a Second,
    /// Its histograms.
    pub(crate) interval: &'a Interval,
}

impl View<'_> {
    /// What the generator has to say of itself in this second.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self_check::second(self.second)
    }
}

/// A place where seconds are shown or written.
pub(crate) trait Sink: Send {
    /// One more second is over.
    fn second(&mut self, view: &View<'_>) -> io::Result<()>;

    /// The run is over: no second follows.
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}
