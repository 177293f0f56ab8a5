//! Memory that comes from the system and goes back to it.
//!
//! What is large and comes and goes is not left to the allocator: glibc takes it from the heap of the thread as soon as
//! something of that size was freed once (its threshold for mappings rises with it), and gives back only what lies above all
//! that is in use there. One small thing that stays keeps what was freed below it resident for good.

use memmap2::MmapMut;
use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};

/// Zeroed memory in a mapping of its own: resident as far as it was used, and gone when it is dropped.
pub(crate) struct Pages(MmapMut);

impl Pages {
    /// At least one byte. Without memory the process ends, as it does in any allocation.
    pub(crate) fn new(size: usize) -> Self {
        let layout =
            Layout::array::<u8>(size).expect("a buffer is far smaller than what can be addressed");
        Self(MmapMut::map_anon(size).unwrap_or_else(|_| handle_alloc_error(layout)))
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
