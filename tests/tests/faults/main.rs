//! Faults of the machine and of peers, on the real processes: section 4 of the plan.
//!
//! ```text
//! pair         a tunnel with both its proxies, and the load on it
//! panics       T-30   a panic in each kind of task
//! kills        R-01   kill -9 at random moments, under load
//! disk         R-04   no space, no writing, broken writes
//! descriptors  R-05   no descriptors, no memory for sockets
//! ends         R-07   each way to end a connection, in each of its states
//! closing      R-08   write, and close at once
//! narrow       R-11   single bytes, narrow windows, small segments
//! frozen       R-14   each process is stopped, and goes on
//! drain        R-15   an end in good order, under load
//! reload       R-16   SIGHUP, under load, with broken files among the good ones
//! ```

mod closing;
mod descriptors;
mod disk;
mod drain;
mod ends;
mod frozen;
mod kills;
mod narrow;
mod pair;
mod panics;
mod reload;
mod tampered;
