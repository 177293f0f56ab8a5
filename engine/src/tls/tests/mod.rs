//! Tests of the record layers against each other, over wires that tests can cut and change.

mod exchange;
mod handshake;
mod hostile;
mod key_update;
mod openssl;
mod pins;
pub(crate) mod support;
