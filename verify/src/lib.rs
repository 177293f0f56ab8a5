//! Bytes that prove themselves: what goes over a connection, in both directions, whatever carries it.
//!
//! The load generator and all tests of the programs send these, and check them with the one [`Reader`]; the engine's own
//! tests compare all that came with all that was sent. It is *not* part of any product.
//!
//! A direction of a connection is one *track*: messages without a gap, the first of them a greeting upwards,
//! the last a trailer. The greeting tells seed, stream and, where it is known before, length.
//!
//! ```text
//! message  kind u8 · body size u24 · ask u32 · stream u64 · sequence u64     header, 24 bytes
//!          body                                                              seeded, or two numbers
//!          running hash u64                                                  of everything before, in this track
//! trailer  a message with the numbers: seeded bytes and messages before it
//! ```
//!
//! All numbers are big endian. There is no IO in here: [`Writer`] appends to a buffer, [`Reader`] takes whatever
//! pieces arrive.
//!
//! # Why no wrong byte goes unnoticed
//!
//! Seed, stream and direction (which the greeting tells) fix every seeded byte of a track. The reader knows
//! them, so it does not hash what arrives, it *compares* each byte with the one that belongs there: a byte that
//! was changed is found with its offset, at the price of a `memcmp` against a pool that stays in the cache.
//!
//! * **Lost, doubled or moved bytes** shift all that follows. Headers come at places that the reader knows and
//!   must carry the right stream and the next sequence number; bodies begin at a place of the pool that
//!   follows from seed, stream, direction, sequence and 16 KiB segment. So what arrives equals what was to
//!   arrive only if nothing was shifted; were two segments cut from the same place of the pool (1 in 1,021)
//!   and changed places, then the bytes received would still be the very bytes sent.
//! * **Bytes of another stream, or of this one's other direction** bear another stream's number or come from
//!   other places, and their running hash began elsewhere.
//! * **What the reader cannot foretell**, namely kind, size, ask and numbers, is under the running hash: a change that is not also
//!   made to the hash passes once in 2^64. The hash covers the digests of the bodies too, so a receiver that
//!   knew no seed could check a track by it; a digest of a whole segment is looked up, never computed.
//! * **A cut** shows as an end before the trailer, and a trailer tells how much there was.
//!
//! A forwarder that understood this format could forge it. None does.

#![forbid(unsafe_code)]

mod fault;
mod message;
mod pool;
mod reader;
mod track;
mod writer;

pub use fault::Fault;
pub use message::{Kind, MESSAGE_SIZE_MAX, MESSAGE_SIZE_MIN, Message};
pub use reader::Reader;
pub use track::{Direction, Track};
pub use writer::Writer;

/// Version of the format, told in the greeting.
pub const VERSION: u32 = 1;

#[cfg(test)]
mod tests;
