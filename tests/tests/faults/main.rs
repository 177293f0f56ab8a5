//! Faults of the machine and of peers, on the real processes: section 4 of the plan.
//!
//! ```text
//! pair         a tunnel with both its proxies, and the load on it
//! bad_network  a network that loses, holds up, repeats and reorders
//! panics       T-30   a panic in each kind of task
//! kills        R-01   kill -9 at random moments, under load
//! durable      R-02   panics, kills and delays at each step of a change
//! disk         R-04   no space, no writing, broken writes
//! descriptors  R-05   no descriptors, no memory for sockets
//! memory       R-06   a memory limit, and more links than fit
//! ends         R-07   each way to end a connection, in each of its states
//! closing      R-08   write, and close at once
//! hole         R-09   a peer that is silently gone
//! networks     R-10   loss, delay, reordering, narrow lines
//! narrow       R-11   single bytes, narrow windows, small segments
//! frozen       R-14   each process is stopped, and goes on
//! drain        R-15   an end in good order, under load
//! reload       R-16   SIGHUP, under load, with broken files among the good ones
//! ring         io_uring that refuses what it took before
//! ```

mod bad_network;
mod closing;
mod descriptors;
mod disk;
mod drain;
mod durable;
mod ends;
mod frozen;
mod hole;
mod kills;
mod memory;
mod narrow;
mod networks;
mod pair;
mod panics;
mod reload;
mod ring;
