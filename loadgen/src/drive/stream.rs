//! Reading and writing whole buffers, with a way out.

use std::io;

use monoio::buf::IoBuf;
use monoio::io::{CancelHandle, CancelableAsyncReadRent, CancelableAsyncWriteRent};

use super::Turn;

/// Writes all of `buffer` and gives it back empty.
///
/// # Errors
/// The connection fails, or is given up through `cancel`.
pub async fn write_all(
    stream: &mut impl CancelableAsyncWriteRent,
    mut buffer: Vec<u8>,
    cancel: &CancelHandle,
) -> io::Result<Vec<u8>> {
    let mut done = 0;
    while done < buffer.len() {
        let (written, slice) = stream
            .cancelable_write(buffer.slice(done..), cancel.clone())
            .await;
        buffer = slice.into_inner();
        match written? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => done += written,
        }
    }
    buffer.clear();
    Ok(buffer)
}

/// What a connection reads into: small while little comes, so that ten thousand idle ones hold 20 MB.
#[derive(Debug)]
pub struct Input {
    buffer: Vec<u8>,
    /// 0 <= start <= buffer.len()
    start: usize,
    /// The size of the next buffer.
    size: usize,
    turn: Turn,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            size: INPUT_SIZE_MIN,
            turn: Turn::default(),
        }
    }
}

impl Input {
    /// Reads once. Call it when all before has been [`taken`](Self::take). False at the peer's end.
    ///
    /// # Errors
    /// The connection fails, or is given up through `cancel`.
    pub async fn read(
        &mut self,
        stream: &mut impl CancelableAsyncReadRent,
        cancel: &CancelHandle,
    ) -> io::Result<bool> {
        self.resize();
        let buffer = std::mem::take(&mut self.buffer);
        let (read, buffer) = stream.cancelable_read(buffer, cancel.clone()).await;
        self.buffer = buffer;
        self.start = 0;
        match read {
            Ok(size) => {
                self.buffer.truncate(size);
                self.turn.moved(size).await;
                Ok(size > 0)
            }
            Err(error) => {
                self.buffer.clear();
                Err(error)
            }
        }
    }

    /// What has come and was not taken.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Takes all but the last `left` bytes.
    ///
    /// # Panics
    /// There are not so many.
    pub fn leave(&mut self, left: usize) {
        assert!(left <= self.buffer.len() - self.start);
        self.start = self.buffer.len() - left;
    }

    /// Gives the memory back until the next read.
    pub fn shed(&mut self) {
        if self.rest().is_empty() {
            *self = Self::default();
        }
    }

    /// Grows fourfold after a read that filled the buffer, shrinks after one that used little of it.
    fn resize(&mut self) {
        let used = self.buffer.len();
        if used == self.size {
            self.size = (self.size * 4).min(INPUT_SIZE_MAX);
        } else if used < self.size / 16 {
            self.size = (self.size / 4).max(INPUT_SIZE_MIN);
        }
        if self.buffer.capacity() < self.size || self.buffer.capacity() > self.size * 2 {
            self.buffer = Vec::with_capacity(self.size);
        }
    }
}

const INPUT_SIZE_MIN: usize = 2 * 1024;

/// What one read of bulk takes at most. The buffer and the pool of payloads fit in a second-level cache together.
pub const INPUT_SIZE_MAX: usize = 128 * 1024;
