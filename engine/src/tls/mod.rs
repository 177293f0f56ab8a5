//! TLS: handshakes ([`connect`], [`accept`]) and, after them, the record layer ([`Records`]).
//!
//! A handshake is ordinary async code that happens once per connection. What it leaves behind is
//! a [`Records`]: a value without IO that seals and opens records inside buffers of the caller,
//! so that the loop which owns the socket decides what is read and written, and when.

mod alert;
mod config;
mod error;
mod handshake;
mod inplace;
mod library;
mod plain;
mod unbuffered;

#[cfg(test)]
pub(crate) mod tests;

use std::ops::Range;

#[cfg(test)]
pub(crate) use config::pin_of;
pub use config::{
    ClientTls, ConfigError, PinError, Pins, ServerTls, client_config, client_config_from,
    server_config, server_config_from, server_config_with,
};
pub use error::{HandshakeError, RecordError};
pub use handshake::{Session, accept, connect, server_name};
pub use inplace::{InPlaceRecords, fuzz_records};
pub use library::LibraryRecords;
pub use plain::PlainRecords;

/// Most plaintext bytes in one record: 2^14 (RFC 8446 §5.1).
pub const MAX_PLAINTEXT: usize = 16_384;

/// The record layer of one established connection, both directions.
///
/// # Sending
///
/// A record is composed where it will be sent from: the caller writes up to [`MAX_PLAINTEXT`]
/// bytes at [`plaintext_offset`](Self::plaintext_offset) from the record's start, and
/// [`seal`](Self::seal) turns them into a record that begins at the record's start. A large
/// plaintext that lies elsewhere is better sealed from there ([`seal_from`](Self::seal_from)).
///
/// The order of calls is the order on the wire: whatever [`seal`](Self::seal),
/// [`take_outgoing`](Self::take_outgoing) and [`close_notify`](Self::close_notify) produced must
/// be sent in the order in which it was produced. While
/// [`has_outgoing`](Self::has_outgoing) says so, call `take_outgoing` before the next record.
///
/// # Receiving
///
/// [`open`](Self::open) opens the first record of the bytes received so far; call it again with
/// what lies behind `consumed` until it says [`Opened::Incomplete`].
///
/// After an error the connection is over: send what `take_outgoing` gives (the alert that tells
/// the peer why) and close the socket.
#[derive(Debug)]
pub enum Records {
    /// No TLS: bytes as they are.
    Plain(PlainRecords),
    /// The TLS library seals and opens; TLS 1.2 and 1.3.
    Library(LibraryRecords),
    /// Our own record layer on the library's keys, without copies; TLS 1.3 only.
    InPlace(InPlaceRecords),
}

impl Records {
    /// Where the plaintext is composed, in bytes from the record's start. Constant over the life
    /// of a connection.
    pub fn plaintext_offset(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Library(_) => LibraryRecords::PLAINTEXT_OFFSET,
            Self::InPlace(_) => InPlaceRecords::PLAINTEXT_OFFSET,
        }
    }

    /// Bytes that must exist from the record's start to seal a plaintext of `plaintext_size`.
    pub fn room(&self, plaintext_size: usize) -> usize {
        match self {
            Self::Plain(_) => plaintext_size,
            Self::Library(_) => LibraryRecords::PLAINTEXT_OFFSET + plaintext_size,
            Self::InPlace(_) => InPlaceRecords::OVERHEAD + plaintext_size,
        }
    }

    /// Seals the `plaintext_size` bytes at `record[plaintext_offset()..]`.
    ///
    /// Returns the sealed size; the sealed bytes are `record[..size]`. They may be more than one
    /// record (the announcement of new keys), but never more than `record` has room for. A
    /// plaintext of zero bytes is nothing to send: the size is then 0.
    ///
    /// # Errors
    ///
    /// [`RecordError::PlaintextTooLarge`] and [`RecordError::NoRoom`] are mistakes of the caller
    /// and change nothing; every other error ends the connection.
    pub fn seal(&mut self, record: &mut [u8], plaintext_size: usize) -> Result<usize, RecordError> {
        self.check_room(record, plaintext_size)?;
        match self {
            Self::Plain(records) => records.seal(plaintext_size),
            Self::Library(records) => records.seal(record, plaintext_size),
            Self::InPlace(records) => records.seal(record, plaintext_size),
        }
    }

    /// Seals `plaintext`, which lies elsewhere: as if it had been copied to its place and sealed
    /// there, but for [`InPlaceRecords`] without the copy.
    ///
    /// # Errors
    ///
    /// Those of [`seal`](Self::seal).
    pub fn seal_from(&mut self, record: &mut [u8], plaintext: &[u8]) -> Result<usize, RecordError> {
        self.check_room(record, plaintext.len())?;
        match self {
            Self::Plain(records) => {
                record[..plaintext.len()].copy_from_slice(plaintext);
                records.seal(plaintext.len())
            }
            Self::Library(records) => records.seal_from(record, plaintext),
            Self::InPlace(records) => records.seal_from(record, plaintext),
        }
    }

    /// Finds the mistakes that a caller can make.
    fn check_room(&self, record: &[u8], plaintext_size: usize) -> Result<(), RecordError> {
        if plaintext_size > MAX_PLAINTEXT {
            return Err(RecordError::PlaintextTooLarge {
                size: plaintext_size,
            });
        }
        let needed = self.room(plaintext_size);
        if record.len() < needed {
            return Err(RecordError::NoRoom {
                size: record.len(),
                needed,
            });
        }
        Ok(())
    }

    /// Opens the first record of `buffer`, in place.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the record or was told by the peer in an alert. The connection is
    /// then over; [`take_outgoing`](Self::take_outgoing) gives the alert to send, if there is one.
    pub fn open(&mut self, buffer: &mut [u8]) -> Result<Opened, RecordError> {
        match self {
            Self::Plain(records) => Ok(records.open(buffer)),
            Self::Library(records) => records.open(buffer),
            Self::InPlace(records) => records.open(buffer),
        }
    }

    /// Whether [`take_outgoing`](Self::take_outgoing) would produce bytes. Cheap.
    pub fn has_outgoing(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Library(records) => records.has_outgoing(),
            Self::InPlace(records) => records.has_outgoing(),
        }
    }

    /// Appends what the record layer itself has to say (answers to key updates, alerts) to `out`,
    /// sealed. At most two records, under 128 bytes, per call.
    pub fn take_outgoing(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Plain(_) => {}
            Self::Library(records) => records.take_outgoing(out),
            Self::InPlace(records) => records.take_outgoing(out),
        }
    }

    /// Appends the alert that says "no more bytes from here" to `out`, once; nothing can be
    /// sealed afterwards. Opening goes on.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Plain(_) => {}
            Self::Library(records) => records.close_notify(out),
            Self::InPlace(records) => records.close_notify(out),
        }
    }
}

/// What [`Records::open`] found at the front of a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// No whole record yet; nothing was consumed. A record is at most 18 KiB, so a buffer of
    /// 18 KiB always makes progress.
    Incomplete,
    /// Plaintext of the peer, at `plaintext` in the buffer.
    Data {
        /// Where the plaintext is; inside the first `consumed` bytes.
        plaintext: Range<usize>,
        /// Size of the record.
        consumed: usize,
    },
    /// A record that concerned only the record layer: a ticket, a key update, an empty record.
    Handled {
        /// Size of the record.
        consumed: usize,
    },
    /// The peer said that no more bytes follow. Whatever comes behind is consumed and ignored.
    Closed {
        /// Size of the record, or of everything that came behind it.
        consumed: usize,
    },
}

/// Who seals and opens the records of a TLS 1.3 connection. TLS 1.2 is always the library's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecordsChoice {
    /// The TLS library: two copies per record.
    Library,
    /// Our own record layer, directly in the caller's buffer: no copy, no allocation.
    #[default]
    InPlace,
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Records>();
};
