//! Allocations of one run, by an allocator that counts.
#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait's")]

use adit_bench::Case;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counted for each thread.
pub(crate) struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn note() {
    COUNT.with(|count| count.set(count.get() + 1));
}

// WHY: only a global allocator sees every allocation.
// SAFETY: each call goes to the system's allocator as it came; counting touches a thread-local
// number without destructor and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System`, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: `pointer` came from `System`, with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Allocations of a warm run for each of its messages, growing what there is included.
pub(crate) fn per_message(case: &Case) -> f64 {
    let mut work = case.prepare();
    let before = COUNT.get();
    work();
    (COUNT.get() - before) as f64 / case.messages as f64
}
