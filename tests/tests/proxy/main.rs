//! A real `adit proxy` against a scripted service: every row of the wire specification's
//! section 17 that concerns a proxy, named for what must hold, and the rules around them.
//!
//! ```text
//! flow       Q-01 Q-02 Q-22        order, flushing, bounds      dialling   Q-18 Q-32 Q-33
//! framing    Q-03 Q-04 Q-35        frames mean nothing          refusals   Q-06 Q-09 Q-21 Q-38
//! session    Q-05 Q-14 Q-17 Q-36   beginnings and ends          limits     Q-17b
//! resets     Q-07 Q-13 Q-15 Q-16 Q-19                           mapping    Q-23 … Q-26 Q-29 Q-30
//! pings      Q-08 Q-20 Q-37                                     settings   Q-27 Q-28 Q-31
//! dialects   Q-10 Q-11 Q-12                                     sockets    Q-34
//! ```
//!
//! `half_close`, `hostile`, `io_choice`, `places`, `started_with` and `stdio` have no row of their own.

mod dialects;
mod dialling;
mod flow;
mod framing;
mod half_close;
mod hostile;
mod io_choice;
mod limits;
mod mapping;
mod pings;
mod places;
mod refusals;
mod resets;
mod session;
mod settings;
mod sockets;
mod started_with;
mod stdio;
