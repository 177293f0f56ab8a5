//! The two backends of the event loop, and the only home of `unsafe`.
//!
//! A backend says *which* sockets became ready and sends batches; it never owns a byte of a
//! tunnel and never decides anything. Both backends behave the same, edge for edge:
//!
//! - [`Epoll`]: edge-triggered epoll and one system call per send. Runs everywhere.
//! - [`Uring`]: io_uring with multishot polls, one system call per batch of sends. Containers
//!   often forbid it, so [`open`] probes and says what is missing.
//!
//! What the kernel owns between two calls: polls on descriptors, except those of listeners, and
//! nothing else. No buffer is ever lent to it beyond the call that names the buffer, which is why
//! nothing here must be drained before memory may be freed.
#![expect(
    unsafe_code,
    reason = "system calls that std lacks, and memory that the kernel reads; each block has its argument"
)]
#![expect(
    clippy::disallowed_types,
    reason = "this is where the sockets are; the ban is for the core"
)]

/// In modules of their own, for `tests/concurrency` to put others in their place.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering};
}
mod backend;
mod buffers;
mod channel {
    pub(super) use std::sync::mpsc::{Receiver, Sender, channel};
}
#[cfg(test)]
mod child_tests;
mod choice;
mod commands;
mod complaints;
mod descriptors;
mod epoll;
mod event_loop;
mod handle;
mod io;
mod link_io;
mod pending;
mod probe;
mod proxy_io;
mod relay_io;
mod socket;
#[cfg(test)]
mod tests;
mod token;
mod uring;
mod waker;
mod way;

pub use backend::{BATCH, Backend, Counters, Outgoing, Ready};
pub use choice::{AnyBackend, IoChoice, Settings, TaskRun, UnknownIoChoice, open};
pub use descriptors::raise_descriptor_limit;
pub use epoll::Epoll;
pub use event_loop::{StartError, start};
pub use handle::{
    DialRetries, LinkEnd, LinkNews, LoopHandle, ProxyId, ProxyOptions, ProxyStatus, TunnelEvent,
};
pub use probe::{Cause, ProbeError};
pub use socket::{
    Address, LISTEN_BACKLOG, limit_retransmission_wait, listen, local_address, peer_address,
    unpace_loopback,
};
pub(crate) use socket::{SILENCE_CHECK, is_silent, refuse_itself};
pub use token::Token;
pub use uring::Uring;
pub use waker::{WakeSource, Waker};
