//! Bytes that a local socket has not taken yet: queues of chunks from one pool a tunnel.
//!
//! An idle connection holds no chunk. Chunks are linked by index, so that queues of ten
//! thousand connections cost no allocation while bytes flow. They are cut from slabs, and the
//! memory of a slab of which nothing is used goes back to the system.

use crate::pages::Pages;
use std::io::IoSlice;

/// Size of one chunk in bytes: a page. Smaller wastes links, larger wastes tails.
pub const CHUNK_SIZE: usize = 4096;

/// Chunks of one slab: 256 KiB.
const SLAB_CHUNKS: usize = u64::BITS as usize;

/// Unused chunks that keep their memory (1 MiB), for queues that fill and empty in turns: with new memory a chunk costs
/// some 2 µs, with memory that is there 0.06.
const RESERVE: usize = 4 * SLAB_CHUNKS;

const NONE: u32 = u32::MAX;

struct Slab {
    /// `None` while no chunk is used and the memory was given back.
    pages: Option<Pages>,
    /// A bit for each chunk that a queue holds.
    used: u64,
}

impl Slab {
    fn has_room(&self) -> bool {
        self.pages.is_some() && self.used != u64::MAX
    }
}

/// The chunks of one tunnel. Chunk `n` is chunk `n % SLAB_CHUNKS` of slab `n / SLAB_CHUNKS`.
#[derive(Default)]
pub struct Pool {
    slabs: Vec<Slab>,
    /// For each chunk that is used the next one of its queue.
    next: Vec<u32>,
    /// No slab before this one has room.
    first_with_room: usize,
    /// Chunks that queues hold.
    used: usize,
    /// Chunks of slabs that have memory: at most a slab more than were ever used at once, and
    /// once the queues are empty at most the reserve.
    held: usize,
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
            self.bytes_mut(queue.last)[at..at + taken].copy_from_slice(&bytes[..taken]);
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
            if start < end {
                parts[count] = IoSlice::new(&self.bytes(chunk)[start..end]);
                count += 1;
            }
            chunk = self.next[chunk as usize];
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

    fn bytes(&self, chunk: u32) -> &[u8] {
        let (slab, place) = locate(chunk);
        let pages = self.slabs[slab].pages.as_ref();
        &pages.expect("a queued chunk has memory")[place * CHUNK_SIZE..][..CHUNK_SIZE]
    }

    fn bytes_mut(&mut self, chunk: u32) -> &mut [u8] {
        let (slab, place) = locate(chunk);
        let pages = self.slabs[slab].pages.as_mut();
        &mut pages.expect("a queued chunk has memory")[place * CHUNK_SIZE..][..CHUNK_SIZE]
    }

    fn grow(&mut self, queue: &mut Queue) {
        let chunk = self.take();
        if queue.last == NONE {
            queue.first = chunk;
            queue.start = 0;
        } else {
            self.next[queue.last as usize] = chunk;
        }
        queue.last = chunk;
        queue.end = 0;
    }

    fn take(&mut self) -> u32 {
        let at = self.slab_with_room();
        let slab = &mut self.slabs[at];
        let place = slab.used.trailing_ones() as usize;
        slab.used |= 1 << place;
        self.first_with_room = at;
        self.used += 1;
        let chunk = at * SLAB_CHUNKS + place;
        self.next[chunk] = NONE;
        chunk as u32
    }

    /// The first slab with an unused chunk, so that the last ones come to be empty; one gets memory if there is none.
    fn slab_with_room(&mut self) -> usize {
        let from = self.first_with_room;
        if let Some(at) = self.slabs[from..].iter().position(Slab::has_room) {
            return from + at;
        }
        let bare = self.slabs.iter().position(|slab| slab.pages.is_none());
        let at = bare.unwrap_or(self.slabs.len());
        if bare.is_none() {
            let (pages, used) = (None, 0);
            self.slabs.push(Slab { pages, used });
            self.next.resize(self.slabs.len() * SLAB_CHUNKS, NONE);
        }
        self.slabs[at].pages = Some(Pages::new(SLAB_CHUNKS * CHUNK_SIZE));
        self.held += SLAB_CHUNKS;
        at
    }

    fn drop_first(&mut self, queue: &mut Queue) {
        let chunk = queue.first;
        queue.first = self.next[chunk as usize];
        queue.start = 0;
        if queue.first == NONE {
            queue.last = NONE;
            queue.end = 0;
        }
        self.give_back(chunk);
    }

    fn give_back(&mut self, chunk: u32) {
        let (at, place) = locate(chunk);
        let slab = &mut self.slabs[at];
        slab.used &= !(1 << place);
        self.used -= 1;
        self.first_with_room = self.first_with_room.min(at);
        if slab.used == 0 && self.held - self.used >= RESERVE + SLAB_CHUNKS {
            slab.pages = None;
            self.held -= SLAB_CHUNKS;
        }
    }
}

/// The slab of a chunk, and which of its chunks it is.
fn locate(chunk: u32) -> (usize, usize) {
    (chunk as usize / SLAB_CHUNKS, chunk as usize % SLAB_CHUNKS)
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

    fn slabs_with_memory(pool: &Pool) -> usize {
        let slabs = pool.slabs.iter();
        let count = slabs.filter(|slab| slab.pages.is_some()).count();
        assert_eq!(count * SLAB_CHUNKS, pool.held);
        count
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
        for _ in 0..9 * SLAB_CHUNKS {
            pool.append(&mut queue, &[1; CHUNK_SIZE]);
        }
        assert_eq!(slabs_with_memory(&pool), 9);
        pool.clear(&mut queue);
        assert_eq!(pool.held, RESERVE);
    }

    #[test]
    fn what_fills_and_empties_in_turns_uses_the_same_memory() {
        let (mut pool, [mut stays, mut moves]) = (Pool::default(), [Queue::default(); 2]);
        for _ in 0..SLAB_CHUNKS {
            pool.append(&mut stays, &[1; CHUNK_SIZE]);
        }
        for _ in 0..3 {
            for _ in 0..RESERVE {
                pool.append(&mut moves, &[1; CHUNK_SIZE]);
            }
            assert_eq!(slabs_with_memory(&pool), 5);
            pool.clear(&mut moves);
            assert_eq!(slabs_with_memory(&pool), 5);
        }
    }

    /// One that never reads does not hold what others needed at their height.
    #[test]
    fn a_queue_that_stays_keeps_only_its_own_slabs() {
        let mut pool = Pool::default();
        let mut queues = [Queue::default(); 10 * SLAB_CHUNKS - 1];
        for queue in &mut queues {
            pool.append(queue, &[1; CHUNK_SIZE]);
        }
        let (stays, others) = queues.split_last_mut().expect("there are some");
        for queue in others {
            pool.clear(queue);
        }
        assert_eq!(slabs_with_memory(&pool), 5);
        assert_eq!(contents(&pool, stays), [1; CHUNK_SIZE]);
    }

    proptest! {
        /// Three queues on one pool behave as three separate byte queues: each byte is looked at as it leaves its queue,
        /// and those that are left at the end. Then memory is given back, whatever was used and in which order.
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
            queues.iter_mut().for_each(|queue| pool.clear(queue));
            prop_assert_eq!(pool.used_size(), 0);
            prop_assert!(pool.held <= RESERVE);
            slabs_with_memory(&pool);
        }
    }
}
