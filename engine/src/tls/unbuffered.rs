//! One view of the TLS library's two unbuffered connection types, client and server.

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus,
};
use rustls::{ExtractedSecrets, ProtocolVersion, SupportedCipherSuite};

use super::RecordError;
use super::inplace::Keys;
use super::library::Side;

/// A TLS connection of the library that keeps no buffers of its own.
pub(super) trait Connection: Sized {
    /// The library's marker of the side.
    type Data;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn is_handshaking(&self) -> bool;
    fn wants_write(&self) -> bool;
    fn version(&self) -> Option<ProtocolVersion>;
    fn suite(&self) -> Option<SupportedCipherSuite>;
    fn alpn(&self) -> Option<&[u8]>;

    fn into_side(self) -> Side;

    /// Takes the traffic keys out of the library; only after the handshake.
    fn into_keys(self) -> Result<(ExtractedSecrets, Keys), rustls::Error>;
}

macro_rules! impl_connection {
    ($connection:ty, $data:ty, $end:ident) => {
        impl Connection for $connection {
            type Data = $data;

            fn process<'c, 'i>(
                &'c mut self,
                incoming: &'i mut [u8],
            ) -> UnbufferedStatus<'c, 'i, Self::Data> {
                self.process_tls_records(incoming)
            }

            fn is_handshaking(&self) -> bool {
                (**self).is_handshaking()
            }

            fn wants_write(&self) -> bool {
                (**self).wants_write()
            }

            fn version(&self) -> Option<ProtocolVersion> {
                self.protocol_version()
            }

            fn suite(&self) -> Option<SupportedCipherSuite> {
                self.negotiated_cipher_suite()
            }

            fn alpn(&self) -> Option<&[u8]> {
                self.alpn_protocol()
            }

            fn into_side(self) -> Side {
                Side::$end(Box::new(self))
            }

            fn into_keys(self) -> Result<(ExtractedSecrets, Keys), rustls::Error> {
                let (secrets, connection) = self.dangerous_into_kernel_connection()?;
                Ok((secrets, Keys::$end(Box::new(connection))))
            }
        }
    };
}

impl_connection!(
    UnbufferedClientConnection,
    rustls::client::ClientConnectionData,
    Client
);
impl_connection!(
    UnbufferedServerConnection,
    rustls::server::ServerConnectionData,
    Server
);

/// Bytes of a record's header: type, version, length.
pub(super) const HEADER_SIZE: usize = 5;

/// Largest content of a record on the wire: 2^14 + 2048 (RFC 5246 §6.2.3; TLS 1.3 allows less).
pub(super) const MAX_RECORD_CONTENT: usize = 16_384 + 2_048;

/// The size of the first record of `bytes`, header included, once it is all there.
///
/// What cannot be a record is given whole, so that the library refuses it at once in its own
/// words instead of waiting for a length that means nothing. The version does not count (RFC 8446
/// §5.1): the library takes a record of TLS 1.3 with that of DTLS, and would take all behind it, too.
pub(super) fn first_record(bytes: &[u8]) -> Option<usize> {
    let &[content_type, _major, _minor, high, low, ..] = bytes else {
        return None;
    };
    let content = usize::from(u16::from_be_bytes([high, low]));
    if !(20..=24).contains(&content_type) || content > MAX_RECORD_CONTENT {
        return Some(bytes.len());
    }
    let size = HEADER_SIZE + content;
    (bytes.len() >= size).then_some(size)
}

/// What [`feed`] found in the bytes it was given.
pub(super) enum Found {
    Nothing,
    /// Plaintext of so many bytes, now at the start of the caller's buffer.
    Plaintext(usize),
    Closed,
}

/// Lets the library open `incoming`, which holds one new record at its end. Plaintext goes to
/// the start of `plaintext`, what the library has to say to `outgoing`.
///
/// Returns how many bytes of `incoming` are done with; the rest has to be shown again.
pub(super) fn feed<C: Connection>(
    connection: &mut C,
    incoming: &mut [u8],
    plaintext: &mut [u8],
    outgoing: &mut Vec<u8>,
) -> (usize, Result<Found, RecordError>) {
    let mut used = 0;
    let mut found = Found::Nothing;
    loop {
        let UnbufferedStatus { discard, state } = connection.process(&mut incoming[used..]);
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let size = match record {
                        Ok(record) if record.payload.len() <= plaintext.len() => {
                            plaintext[..record.payload.len()].copy_from_slice(record.payload);
                            record.payload.len()
                        }
                        Ok(_) => return (used, Err(RecordError::BadRecord)),
                        Err(error) => return (used, Err(error.into())),
                    };
                    // There is one place for it, so a second one would take that of the first.
                    if let Found::Plaintext(_) = found {
                        return (used, Err(RecordError::BadRecord));
                    }
                    found = Found::Plaintext(size);
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut encoder)) => encode(&mut encoder, outgoing),
            Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
            Ok(ConnectionState::PeerClosed) => found = Found::Closed,
            Ok(ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => {
                return (used + discard, Ok(found));
            }
            Ok(_) => {
                return (
                    used,
                    Err(RecordError::Unexpected("handshake after its end")),
                );
            }
            Err(error) => {
                drain_alerts(connection, outgoing);
                return (used, Err(error.into()));
            }
        }
        used += discard;
    }
}

/// Seals `plaintext` into `sealed`, behind whatever the library has to say first.
pub(super) fn seal<C: Connection>(
    connection: &mut C,
    held: &mut [u8],
    plaintext: &[u8],
    sealed: &mut [u8],
) -> Result<usize, RecordError> {
    let mut written = 0;
    loop {
        // The discard is zero: `held` is shown again and has nothing new.
        match connection.process(held).state? {
            ConnectionState::EncodeTlsData(mut encoder) => {
                written += match encoder.encode(&mut sealed[written..]) {
                    Ok(size) => size,
                    Err(EncodeError::InsufficientSize(error)) => {
                        return Err(no_room(sealed.len(), written + error.required_size));
                    }
                    Err(EncodeError::AlreadyEncoded) => 0,
                };
            }
            ConnectionState::TransmitTlsData(transmit) => transmit.done(),
            ConnectionState::WriteTraffic(mut traffic) => {
                return match traffic.encrypt(plaintext, &mut sealed[written..]) {
                    Ok(size) => Ok(written + size),
                    Err(EncryptError::InsufficientSize(error)) => {
                        Err(no_room(sealed.len(), written + error.required_size))
                    }
                    Err(EncryptError::EncryptExhausted) => Err(RecordError::KeysUsedUp),
                };
            }
            ConnectionState::PeerClosed => {}
            _ => return Err(RecordError::WriteClosed),
        }
    }
}

/// Appends the close_notify alert to `out`, if the connection can still send one.
pub(super) fn close_notify<C: Connection>(connection: &mut C, held: &mut [u8], out: &mut Vec<u8>) {
    loop {
        match connection.process(held).state {
            Ok(ConnectionState::EncodeTlsData(mut encoder)) => encode(&mut encoder, out),
            Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
            Ok(ConnectionState::PeerClosed) => {}
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                let start = out.len();
                // An alert of two bytes, its record, and at most a key update before it.
                out.resize(start + 256, 0);
                let size = traffic.queue_close_notify(&mut out[start..]).unwrap_or(0);
                out.truncate(start + size);
                return;
            }
            Ok(_) | Err(_) => return,
        }
    }
}

/// After a failure: the alert that tells the peer. Asking the library for anything else would
/// make it look at the bytes again that it has just refused.
pub(super) fn drain_alerts<C: Connection>(connection: &mut C, outgoing: &mut Vec<u8>) {
    while connection.wants_write() {
        match connection.process(&mut []).state {
            Ok(ConnectionState::EncodeTlsData(mut encoder)) => encode(&mut encoder, outgoing),
            _ => return,
        }
    }
}

/// Appends one message of the library's own to `outgoing`.
pub(super) fn encode<Data>(encoder: &mut EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) {
    let start = outgoing.len();
    // The first attempt tells the size.
    if let Err(EncodeError::InsufficientSize(error)) = encoder.encode(&mut []) {
        outgoing.resize(start + error.required_size, 0);
        let size = encoder.encode(&mut outgoing[start..]).unwrap_or(0);
        outgoing.truncate(start + size);
    }
}

fn no_room(size: usize, needed: usize) -> RecordError {
    RecordError::NoRoom { size, needed }
}
