//! Bytes that wait, first in, first out.

/// A byte queue in one piece.
#[derive(Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    start: usize,
}

impl Queue {
    /// Appends.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// What waits.
    #[must_use]
    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Bytes that wait.
    #[must_use]
    pub(super) fn size(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Forgets so many bytes at the front.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }
}
