//! Bytes that a local socket has not taken yet: queues of chunks from one pool a tunnel.
//!
//! An idle connection holds no chunk. Chunks are linked by index, so that queues of ten
//! thousand connections cost no allocation while bytes flow.

use std::io::IoSlice;

/// Size of one chunk in bytes: a page. Smaller wastes links, larger wastes tails.
pub const CHUNK_SIZE: usize = 4096;

/// Chunks kept for reuse when nobody holds them (256 KiB); more are given back to the allocator.
const KEPT_CHUNKS: usize = 64;

const NONE: u32 = u32::MAX;

struct Chunk {
    /// `None` while the chunk is bare: its memory was given back.
    bytes: Option<Box<[u8; CHUNK_SIZE]>>,
    /// Next chunk of the same queue, or of the same list of unused chunks.
    next: u32,
}

/// The chunks of one tunnel.
pub struct Pool {
    chunks: Vec<Chunk>,
    /// Unused chunks that have kept their memory, at most `KEPT_CHUNKS`: taken first.
    free: u32,
    kept: usize,
    /// Unused chunks without memory.
    bare: u32,
    used: usize,
}

/// One connection's queue. 0 <= start < CHUNK_SIZE in the first chunk, `size` bytes in all.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    first: u32,
    last: u32,
    start: u16,
    /// Bytes used of the last chunk; 0 only while the queue is empty.
    end: u16,
    size: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            first: NONE,
            last: NONE,
            start: 0,
            end: 0,
            size: 0,
        }
    }
}

impl Queue {
    /// Bytes waiting.
    pub fn size(&self) -> usize {
        self.size as usize
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            free: NONE,
            kept: 0,
            bare: NONE,
            used: 0,
        }
    }
}

impl Pool {
    /// Memory held by queues, in bytes: chunks, however full.
    pub fn used_size(&self) -> usize {
        self.used * CHUNK_SIZE
    }

    /// Appends `bytes` to `queue`. The caller keeps the bounds (`Limits`).
    pub fn append(&mut self, queue: &mut Queue, mut bytes: &[u8]) {
        queue.size += u32::try_from(bytes.len()).expect("a message is at most 65,535 bytes");
        while !bytes.is_empty() {
            if queue.last == NONE || usize::from(queue.end) == CHUNK_SIZE {
                self.grow(queue);
            }
            let at = usize::from(queue.end);
            let taken = bytes.len().min(CHUNK_SIZE - at);
            self.memory(queue.last)[at..at + taken].copy_from_slice(&bytes[..taken]);
            queue.end += taken as u16;
            bytes = &bytes[taken..];
        }
    }

    /// The bytes at the front of `queue`, as many slices as `parts` has room for.
    /// Returns how many slices were filled.
    pub fn front<'a>(&'a self, queue: &Queue, parts: &mut [IoSlice<'a>]) -> usize {
        let (mut chunk, mut start, mut count) = (queue.first, usize::from(queue.start), 0);
        while chunk != NONE && count < parts.len() {
            let end = if chunk == queue.last {
                usize::from(queue.end)
            } else {
                CHUNK_SIZE
            };
            let bytes = self.chunks[chunk as usize]
                .bytes
                .as_ref()
                .expect("a queued chunk has memory");
            if start < end {
                parts[count] = IoSlice::new(&bytes[start..end]);
                count += 1;
            }
            chunk = self.chunks[chunk as usize].next;
            start = 0;
        }
        count
    }

    /// Drops `count` bytes from the front of `queue`; at most its size.
    pub fn consume(&mut self, queue: &mut Queue, count: usize) {
        let mut left = count.min(queue.size());
        queue.size -= left as u32;
        while left > 0 {
            let end = if queue.first == queue.last {
                usize::from(queue.end)
            } else {
                CHUNK_SIZE
            };
            let held = end - usize::from(queue.start);
            if left < held {
                queue.start += left as u16;
                return;
            }
            left -= held;
            self.drop_first(queue);
        }
        if queue.size == 0 && queue.first != NONE {
            self.drop_first(queue);
        }
    }

    /// Drops everything in `queue`.
    pub fn clear(&mut self, queue: &mut Queue) {
        self.consume(queue, queue.size());
        debug_assert!(queue.first == NONE, "an empty queue holds no chunk");
    }

    fn memory(&mut self, chunk: u32) -> &mut [u8; CHUNK_SIZE] {
        self.chunks[chunk as usize]
            .bytes
            .as_mut()
            .expect("a queued chunk has memory")
    }

    fn grow(&mut self, queue: &mut Queue) {
        let chunk = self.take();
        if queue.last == NONE {
            queue.first = chunk;
            queue.start = 0;
        } else {
            self.chunks[queue.last as usize].next = chunk;
        }
        queue.last = chunk;
        queue.end = 0;
    }

    fn take(&mut self) -> u32 {
        self.used += 1;
        if self.free != NONE {
            let index = self.free;
            let chunk = &mut self.chunks[index as usize];
            self.free = std::mem::replace(&mut chunk.next, NONE);
            self.kept -= 1;
            return index;
        }
        let bytes = Some(Box::new([0; CHUNK_SIZE]));
        if self.bare != NONE {
            let index = self.bare;
            let chunk = &mut self.chunks[index as usize];
            self.bare = std::mem::replace(&mut chunk.next, NONE);
            chunk.bytes = bytes;
            return index;
        }
        self.chunks.push(Chunk { bytes, next: NONE });
        (self.chunks.len() - 1) as u32
    }

    fn drop_first(&mut self, queue: &mut Queue) {
        let index = queue.first;
        let chunk = &mut self.chunks[index as usize];
        queue.first = chunk.next;
        queue.start = 0;
        if queue.first == NONE {
            queue.last = NONE;
            queue.end = 0;
        }
        if self.kept < KEPT_CHUNKS {
            self.kept += 1;
            chunk.next = std::mem::replace(&mut self.free, index);
        } else {
            chunk.bytes = None;
            chunk.next = std::mem::replace(&mut self.bare, index);
        }
        self.used -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn contents(pool: &Pool, queue: &Queue) -> Vec<u8> {
        let mut parts = [IoSlice::new(&[]); 512];
        let count = pool.front(queue, &mut parts);
        parts[..count]
            .iter()
            .flat_map(|part| part.to_vec())
            .collect()
    }

    #[test]
    fn an_emptied_queue_holds_no_chunk() {
        let (mut pool, mut queue) = (Pool::default(), Queue::default());
        for size in [
            1,
            CHUNK_SIZE - 1,
            CHUNK_SIZE,
            CHUNK_SIZE + 1,
            10 * CHUNK_SIZE,
        ] {
            pool.append(&mut queue, &vec![7; size]);
            assert_eq!(pool.used_size(), size.div_ceil(CHUNK_SIZE) * CHUNK_SIZE);
            pool.consume(&mut queue, size);
            assert_eq!(pool.used_size(), 0, "after {size} bytes");
        }
    }

    #[test]
    fn memory_beyond_the_reserve_is_given_back() {
        let (mut pool, mut queue) = (Pool::default(), Queue::default());
        for _ in 0..200 {
            pool.append(&mut queue, &[1; CHUNK_SIZE]);
        }
        pool.clear(&mut queue);
        let held = pool
            .chunks
            .iter()
            .filter(|chunk| chunk.bytes.is_some())
            .count();
        assert_eq!(held, KEPT_CHUNKS);
    }

    #[test]
    fn what_goes_to_and_fro_uses_the_reserve() {
        let (mut pool, mut queue) = (Pool::default(), Queue::default());
        for _ in 0..200 {
            pool.append(&mut queue, &[1; CHUNK_SIZE]);
        }
        pool.consume(&mut queue, 100 * CHUNK_SIZE);
        assert_eq!(pool.kept, KEPT_CHUNKS);
        pool.append(&mut queue, &[1; CHUNK_SIZE]);
        assert_eq!(
            pool.kept,
            KEPT_CHUNKS - 1,
            "no new memory while some is kept"
        );
    }

    proptest! {
        /// Three queues on one pool behave as three separate byte queues: each byte is looked at as it leaves its queue,
        /// and those that are left at the end.
        #[test]
        fn queues_keep_their_bytes_apart(steps in prop::collection::vec((0usize..3, any::<bool>(), 0usize..9000), 1..200)) {
            let mut pool = Pool::default();
            let mut queues = [Queue::default(); 3];
            let mut models: [VecDeque<u8>; 3] = Default::default();
            for (step, (which, is_append, size)) in steps.into_iter().enumerate() {
                if is_append {
                    let bytes: Vec<u8> = (0..size).map(|at| (at * 31 + step * 7 + which) as u8).collect();
                    pool.append(&mut queues[which], &bytes);
                    models[which].extend(&bytes);
                } else {
                    let size = size.min(models[which].len());
                    let leaving: Vec<u8> = models[which].drain(..size).collect();
                    prop_assert!(contents(&pool, &queues[which]).starts_with(&leaving));
                    pool.consume(&mut queues[which], size);
                }
                prop_assert_eq!(queues.map(|queue| queue.size()), [0, 1, 2].map(|which| models[which].len()));
            }
            for (queue, model) in queues.iter().zip(models) {
                prop_assert_eq!(contents(&pool, queue), Vec::from(model));
            }
        }
    }
}
