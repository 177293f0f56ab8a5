//! Both backends of the event loop against the real kernel.
//!
//! Every scenario runs on epoll and on io_uring in four shapes: the three ways in which the
//! kernel may run its part, and a ring far too small for what is asked of it. Where io_uring is
//! refused, its tests say so and pass; `ADIT_REQUIRE_URING=1` makes them fail instead.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "these tests are about sockets, threads and time"
)]

#[macro_use]
mod support;

mod lifecycle;
mod listeners;
mod overflow;
mod readiness;
mod sends;
mod sockets;
mod storm;
mod waits;
