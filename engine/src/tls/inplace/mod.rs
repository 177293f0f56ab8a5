//! Our own record layer for TLS 1.3: records are sealed and opened where they lie.
//!
//! The library performs the handshake and then gives the traffic keys away; from there on this
//! module does what RFC 8446 §4.6, §5 and §6 ask of both sides of a connection. The library
//! copies each plaintext twice on the way out and, with the copy back into our buffer, three
//! times on the way in; here it is not copied at all, and nothing is allocated.
//!
//! ```text
//! record = [header 5][plaintext ... ][content type 1][tag 16]
//!                    ^ plaintext_offset
//! ```

mod cipher;
mod fuzzing;
mod keys;
mod message;
mod record;

use std::fmt;

use self::cipher::Cipher;
pub use self::fuzzing::fuzz_records;
pub(super) use self::keys::Keys;
use self::message::{KEY_UPDATE_NOT_REQUESTED, Message, MessageReader};
use self::record::{
    ALERT, APPLICATION_DATA, HANDSHAKE, HEADER_SIZE, Header, OVERHEAD, split_inner,
};
use super::alert::{self, alert_name};
use super::{Opened, RecordError};

/// A TLS 1.3 connection whose handshake is done, with records protected in place.
pub struct InPlaceRecords {
    keys: Keys,
    sealing: Cipher,
    opening: Cipher,
    messages: MessageReader,
    state: State,
    /// The peer has said close_notify.
    peer_closed: bool,
    /// The peer wants us to change our keys.
    update_owed: bool,
    /// The alert that tells the peer why the connection failed, until it has been taken.
    alert: Option<u8>,
    /// Records in a row that held no application data.
    records_without_data: u8,
    renew_after: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    /// We have said close_notify.
    WriteClosed,
    Failed,
}

impl InPlaceRecords {
    pub(super) const PLAINTEXT_OFFSET: usize = HEADER_SIZE;
    pub(super) const OVERHEAD: usize = OVERHEAD;

    pub(super) fn new(secrets: rustls::ExtractedSecrets, keys: Keys) -> Result<Self, RecordError> {
        Ok(Self {
            keys,
            sealing: Cipher::new(secrets.tx)?,
            opening: Cipher::new(secrets.rx)?,
            messages: MessageReader::default(),
            state: State::Open,
            peer_closed: false,
            update_owed: false,
            alert: None,
            records_without_data: 0,
            renew_after: RENEW_AFTER,
        })
    }

    /// `record` has at least `plaintext_size + OVERHEAD` bytes; the plaintext fits a record. If
    /// keys are due for renewal and `record` has room for it, that is announced right behind.
    pub(super) fn seal(
        &mut self,
        record: &mut [u8],
        plaintext_size: usize,
    ) -> Result<usize, RecordError> {
        self.check_sealing()?;
        if plaintext_size == 0 {
            return Ok(0);
        }
        let size = self.protect(record, plaintext_size, APPLICATION_DATA)?;
        self.renew_if_due(record, size)
    }

    /// The same for a plaintext that lies elsewhere: it is read there and sealed to its place, in
    /// the one pass that encrypts it.
    pub(super) fn seal_from(
        &mut self,
        record: &mut [u8],
        plaintext: &[u8],
    ) -> Result<usize, RecordError> {
        self.check_sealing()?;
        if plaintext.is_empty() {
            return Ok(0);
        }
        let size = plaintext.len() + OVERHEAD;
        let header = Header::sealing(plaintext.len() + 1);
        let (front, sealed) = record[..size].split_at_mut(HEADER_SIZE);
        self.sealing
            .seal_from(header, plaintext, APPLICATION_DATA, sealed)?;
        front.copy_from_slice(&header.encode());
        self.renew_if_due(record, size)
    }

    fn check_sealing(&self) -> Result<(), RecordError> {
        match self.state {
            State::Open if self.sealing.records() >= REFUSE_AFTER => Err(RecordError::KeysUsedUp),
            State::Open => Ok(()),
            State::WriteClosed => Err(RecordError::WriteClosed),
            State::Failed => Err(RecordError::Failed),
        }
    }

    /// Announces new keys behind the record of `size` bytes when they are due and there is room.
    /// Returns the size of all.
    fn renew_if_due(&mut self, record: &mut [u8], size: usize) -> Result<usize, RecordError> {
        if self.sealing.records() >= self.renew_after
            && let Some(behind) = record[size..].get_mut(..KEY_UPDATE_RECORD_SIZE)
        {
            return Ok(size + self.renew(behind)?);
        }
        Ok(size)
    }

    /// Writes the record that announces new keys, and takes them.
    fn renew(&mut self, record: &mut [u8]) -> Result<usize, RecordError> {
        let message = KEY_UPDATE_NOT_REQUESTED;
        record[HEADER_SIZE..][..message.len()].copy_from_slice(&message);
        // RFC 8446 §4.6.3: the message itself is sent with the old keys.
        let size = self.protect(record, message.len(), HANDSHAKE)?;
        let next = self.keys.next_sealing().map_err(RecordError::from);
        match next.and_then(Cipher::new) {
            Ok(cipher) => self.sealing = cipher,
            Err(error) => {
                // The peer has been told of keys that we do not have: nothing can be sent.
                self.state = State::Failed;
                return Err(error);
            }
        }
        // RFC 8446 §4.6.3: a request is answered by any update that does not request one.
        self.update_owed = false;
        Ok(size)
    }

    /// Protects the content at `record[HEADER_SIZE..]` and returns the size of the record.
    fn protect(
        &mut self,
        record: &mut [u8],
        content_size: usize,
        content_type: u8,
    ) -> Result<usize, RecordError> {
        let inner_size = content_size + 1;
        let header = Header::sealing(inner_size);
        let (front, content) = record.split_at_mut(HEADER_SIZE);
        let (inner, behind) = content.split_at_mut(inner_size);
        inner[content_size] = content_type;
        let tag = self.sealing.seal(header, inner)?;
        front.copy_from_slice(&header.encode());
        behind[..tag.len()].copy_from_slice(&tag);
        Ok(content_size + OVERHEAD)
    }

    pub(super) fn open(&mut self, buffer: &mut [u8]) -> Result<Opened, RecordError> {
        if self.state == State::Failed {
            return Err(RecordError::Failed);
        }
        if self.peer_closed {
            // RFC 8446 §6.1: any data received after a closure alert MUST be ignored.
            return Ok(Opened::Closed {
                consumed: buffer.len(),
            });
        }
        let opened = self.open_first(buffer);
        if let Err(error) = &opened {
            self.fail(error);
        }
        opened
    }

    fn open_first(&mut self, buffer: &mut [u8]) -> Result<Opened, RecordError> {
        let Some(header) = Header::parse(buffer)? else {
            return Ok(Opened::Incomplete);
        };
        let consumed = HEADER_SIZE + header.content_size();
        let Some(content) = buffer.get_mut(HEADER_SIZE..consumed) else {
            return Ok(Opened::Incomplete);
        };
        let inner_size = self.opening.open(header, content)?;
        let (content_type, size) = split_inner(&content[..inner_size])?;
        let content = &content[..size];
        // RFC 8446 §5.1: if a handshake message is split over two or more records, there MUST
        // NOT be any other records between them.
        if content_type != HANDSHAKE && !self.messages.is_between_messages() {
            return Err(RecordError::Unexpected(
                "a record inside a handshake message",
            ));
        }
        match content_type {
            APPLICATION_DATA if size > 0 => {
                self.records_without_data = 0;
                Ok(Opened::Data {
                    plaintext: HEADER_SIZE..HEADER_SIZE + size,
                    consumed,
                })
            }
            // RFC 8446 §5.1: zero-length fragments of application data MAY be sent.
            APPLICATION_DATA => self.count_without_data(consumed),
            HANDSHAKE => {
                self.handle_messages(content)?;
                self.count_without_data(consumed)
            }
            ALERT => self.handle_alert(content, consumed),
            _ => Err(RecordError::Unexpected("a record of unknown type")),
        }
    }

    /// Data may be long in coming, but a peer that has none does not need so many records to
    /// say so; each costs us a decryption, a key update two key derivations.
    fn count_without_data(&mut self, consumed: usize) -> Result<Opened, RecordError> {
        self.records_without_data += 1;
        if self.records_without_data > WITHOUT_DATA_MAX {
            return Err(RecordError::Unexpected("a flood of records without data"));
        }
        Ok(Opened::Handled { consumed })
    }

    fn handle_messages(&mut self, mut content: &[u8]) -> Result<(), RecordError> {
        // RFC 8446 §5.4: a handshake record of zero length MUST be answered with
        // "unexpected_message".
        if content.is_empty() {
            return Err(RecordError::Unexpected("an empty handshake record"));
        }
        while !content.is_empty() {
            let Some(message) = self.messages.read(&mut content, self.keys.is_client())? else {
                return Ok(());
            };
            match message {
                Message::Ticket => {}
                Message::KeyUpdate { requested } => {
                    // RFC 8446 §5.1: handshake messages MUST NOT span key changes; those before
                    // one MUST align with a record boundary.
                    if !content.is_empty() {
                        return Err(RecordError::Unexpected("a message behind a key update"));
                    }
                    self.opening = Cipher::new(self.keys.next_opening()?)?;
                    // RFC 8446 §4.6.3: several requests may be answered by a single update.
                    self.update_owed |= requested;
                }
            }
        }
        Ok(())
    }

    fn handle_alert(&mut self, content: &[u8], consumed: usize) -> Result<Opened, RecordError> {
        // RFC 8446 §5.1: a record with an alert MUST contain exactly one message. §6: its level
        // can safely be ignored.
        let &[_level, code] = content else {
            return Err(match content {
                [] => RecordError::Unexpected("an empty alert record"),
                _ => RecordError::Malformed("an alert"),
            });
        };
        match code {
            alert::CLOSE_NOTIFY => {
                self.peer_closed = true;
                Ok(Opened::Closed { consumed })
            }
            // RFC 8446 §6.1: it is followed by a close_notify.
            alert::USER_CANCELED => self.count_without_data(consumed),
            // RFC 8446 §6.2: upon a fatal alert both parties MUST immediately close; unknown
            // alerts are errors, too.
            _ => Err(RecordError::Alert {
                code,
                name: alert_name(code),
            }),
        }
    }

    fn fail(&mut self, error: &RecordError) {
        if self.state == State::Open {
            self.alert = alert_for(error);
        }
        self.state = State::Failed;
    }

    pub(super) fn has_outgoing(&self) -> bool {
        match self.state {
            State::Open => self.update_owed || self.sealing.records() >= self.renew_after,
            State::WriteClosed => false,
            State::Failed => self.alert.is_some(),
        }
    }

    pub(super) fn take_outgoing(&mut self, out: &mut Vec<u8>) {
        if !self.has_outgoing() {
            return;
        }
        if let Some(code) = self.alert.take() {
            return self.append(ALERT, &[FATAL, code], out);
        }
        let start = out.len();
        out.resize(start + KEY_UPDATE_RECORD_SIZE, 0);
        let size = self.renew(&mut out[start..]).unwrap_or(0);
        out.truncate(start + size);
    }

    pub(super) fn close_notify(&mut self, out: &mut Vec<u8>) {
        self.take_outgoing(out);
        if self.state == State::Open {
            self.state = State::WriteClosed;
            self.append(ALERT, &[WARNING, alert::CLOSE_NOTIFY], out);
        }
    }

    /// Appends a record of the record layer's own. If sealing fails there is nothing to send:
    /// the next call of the caller's will fail as well.
    fn append(&mut self, content_type: u8, content: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + content.len() + OVERHEAD, 0);
        out[start + HEADER_SIZE..][..content.len()].copy_from_slice(content);
        let size = self.protect(&mut out[start..], content.len(), content_type);
        out.truncate(start + size.unwrap_or(0));
    }
}

/// What no caller needs, but tests do.
#[cfg(test)]
impl InPlaceRecords {
    /// As if so many records had been sealed with the present keys.
    pub(super) fn pretend_sealed(&mut self, records: u64) {
        self.sealing.pretend(records);
    }

    pub(super) fn pretend_opened(&mut self, records: u64) {
        self.opening.pretend(records);
    }

    pub(super) fn pending_alert(&self) -> Option<u8> {
        self.alert
    }

    /// Has the keys renewed so soon.
    pub(super) fn renew_after(&mut self, records: u64) {
        self.renew_after = records;
    }

    /// A record with any content at all, as only a hostile peer would seal it.
    pub(super) fn forge(&mut self, content_type: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let mut inner = content.to_vec();
        inner.push(content_type);
        inner.resize(inner.len() + padding, 0);
        let header = Header::sealing(inner.len());
        let tag = self.sealing.seal(header, &mut inner).unwrap();
        [&header.encode()[..], &inner, &tag].concat()
    }
}

impl fmt::Debug for InPlaceRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InPlaceRecords")
            .field("state", &self.state)
            .field("peer_closed", &self.peer_closed)
            .field("sealed_records", &self.sealing.records())
            .field("opened_records", &self.opening.records())
            .finish_non_exhaustive()
    }
}

/// The alert for a fault of the peer (RFC 8446 §6.2); none in answer to an alert.
fn alert_for(error: &RecordError) -> Option<u8> {
    match error {
        RecordError::BadRecord => Some(alert::BAD_RECORD_MAC),
        RecordError::TooLarge { .. } => Some(alert::RECORD_OVERFLOW),
        RecordError::Unexpected(_) => Some(alert::UNEXPECTED_MESSAGE),
        RecordError::Malformed(_) => Some(alert::DECODE_ERROR),
        RecordError::IllegalParameter(_) => Some(alert::ILLEGAL_PARAMETER),
        RecordError::Alert { .. } | RecordError::Failed => None,
        _ => Some(alert::INTERNAL_ERROR),
    }
}

const WARNING: u8 = 1;
const FATAL: u8 = 2;

const KEY_UPDATE_RECORD_SIZE: usize = KEY_UPDATE_NOT_REQUESTED.len() + OVERHEAD;

/// Records after which our keys are renewed: 4,194,304, or 64 GiB in full records. RFC 8446 §5.5
/// puts the limit for AES-GCM at 2^24.5 full records; ChaCha20-Poly1305 has none to speak of.
pub(super) const RENEW_AFTER: u64 = 1 << 22;

/// Records after which nothing more is sealed, if there never was room for the record that
/// announces new keys.
pub(super) const REFUSE_AFTER: u64 = 1 << 24;
const _: () = assert!(RENEW_AFTER < REFUSE_AFTER);

/// Records in a row without application data. Servers send one to four tickets.
pub(super) const WITHOUT_DATA_MAX: u8 = 32;
