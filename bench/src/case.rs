//! One piece of work, the same for every instrument.

/// Does the work of a case once more.
pub type Work = Box<dyn FnMut()>;

/// A piece of work whose name says what it holds fixed, as in `relay/data/1_conn/16_KiB`.
pub struct Case {
    /// Group and parameters, parted by `/`. No two cases share one.
    pub name: String,
    /// Messages, or other operations, that one run does. Instructions and allocations are given
    /// for each of them.
    pub messages: u64,
    /// Payload bytes that one run carries; 0 where bytes say nothing.
    pub bytes: u64,
    prepare: Box<dyn Fn() -> Work>,
}

impl Case {
    /// A case of so many messages with so many bytes of payload each. `prepare` makes its inputs.
    pub fn new<W: FnMut() + 'static>(
        name: impl Into<String>,
        messages: usize,
        bytes_each: usize,
        prepare: impl Fn() -> W + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            messages: messages as u64,
            bytes: (messages * bytes_each) as u64,
            prepare: Box::new(move || Box::new(prepare())),
        }
    }

    /// The work with fresh inputs, done so often that nothing is set up for the first time any
    /// more.
    pub fn prepare(&self) -> Work {
        let mut work = (self.prepare)();
        for _ in 0..WARM_UP_RUNS {
            work();
        }
        work
    }
}

const WARM_UP_RUNS: usize = 3;
