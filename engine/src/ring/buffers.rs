//! Large buffers, lent to tunnels while they are active.

/// Size of a buffer of either direction: the mark of a tunnel's output, and room for one more
/// record to be composed behind it and sealed in front of that (two records and headers).
pub(super) const BUFFER_SIZE: usize = OUTPUT_MARK + 2 * 17 * 1024 + 2 * 1024;

/// A tunnel composes no more while so many bytes wait for its socket: half of it costs some of the
/// throughput, and 1 MiB gains nothing (ARCHITECTURE.md, "Marks and sizes").
pub(super) const OUTPUT_MARK: usize = 256 * 1024;

/// Spare buffers that are kept (2.3 MiB); more are given back to the allocator.
const SPARE_MAX: usize = 8;

/// Spare buffers of one loop. A tunnel that has nothing half-read and nothing unsent holds none.
#[derive(Default)]
pub(super) struct Buffers {
    spare: Vec<Box<[u8]>>,
}

impl Buffers {
    pub(super) fn take(&mut self) -> Box<[u8]> {
        self.spare
            .pop()
            .unwrap_or_else(|| vec![0; BUFFER_SIZE].into_boxed_slice())
    }

    pub(super) fn give(&mut self, buffer: Box<[u8]>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(buffer);
        }
    }
}
