//! `adit serve` between scripted proxies: every rule of the wire specification's section
//! 12, by number, and the mixes of dialects of sections 6.2 and 6.4.
//!
//! ```text
//! handshake    rules 1 2          admission, refusals, tokens
//! forwarding   rules 3 4 7        whole messages, in order, each frame legal
//! validation   rules 5 6 14       what no client may send
//! peers        rules 8 9 10       absent, lost and replaced peers
//! flow         rule 11            back-pressure within bounds
//! endings      rules 12 13        the end of a tunnel, a rotation, a restart
//! dialects     6.2, 6.4           V1, V2 and V3 on either side
//! ```

mod dialects;
mod endings;
mod flow;
mod forwarding;
mod handshake;
mod pair;
mod peers;
mod validation;
