//! Our record layer beside the library's, on records that were damaged or made up.

use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::cipher::{AeadKey, InboundOpaqueMessage, Iv, MessageDecrypter};
use rustls::{
    ConnectionTrafficSecrets, ContentType, ExtractedSecrets, ProtocolVersion, SupportedCipherSuite,
};

use super::super::MAX_PLAINTEXT;
use super::cipher::Cipher;
use super::keys::Keys;
use super::record::{ALERT, HANDSHAKE, HEADER_SIZE, Header};
use super::{InPlaceRecords, Opened, WITHOUT_DATA_MAX};

/// Makes records of any bytes, some of them sealed as a peer would, damages some, and opens all of
/// them with our record layer and with the library's: both give the same plaintext, and we refuse
/// whatever the library refuses.
///
/// Keys are fixed and of the two suites for which the library lets one choose them; AES-128 differs
/// from AES-256 in nothing but its key.
pub fn fuzz_records(bytes: &[u8]) {
    let Some((choice, mut rest)) = bytes.split_first() else {
        return;
    };
    let suite = match choice & 1 {
        0 => TLS13_AES_256_GCM_SHA384,
        _ => TLS13_CHACHA20_POLY1305_SHA256,
    };
    let Ok(mut sealing) = Cipher::new((0, secrets(suite))) else {
        panic!("a suite of TLS 1.3");
    };
    let mut wire = Vec::new();
    while !rest.is_empty() && wire.len() < WIRE_MAX {
        append(&mut sealing, &mut rest, &mut wire);
    }
    open_both(suite, choice & 2 != 0, wire, usize::from(choice >> 2));
}

/// Appends one record, or any bytes.
fn append(sealing: &mut Cipher, rest: &mut &[u8], wire: &mut Vec<u8>) {
    let op = byte(rest);
    if op & 0x80 != 0 {
        let size = usize::from(op & 0x3f).min(rest.len());
        let (raw, behind) = rest.split_at(size);
        wire.extend_from_slice(raw);
        *rest = behind;
        return;
    }
    let content_type = match op & 3 {
        0 | 1 => super::APPLICATION_DATA,
        2 => HANDSHAKE,
        _ => byte(rest),
    };
    let content_type = match op >> 2 & 3 {
        0 => content_type,
        1 => ALERT,
        _ => super::APPLICATION_DATA,
    };
    let mut inner = match op >> 4 & 3 {
        // As many bytes as fit, and one too many.
        0 => vec![op; MAX_PLAINTEXT - 1 + usize::from(byte(rest) & 3)],
        _ => {
            let size = usize::from(byte(rest)).min(rest.len());
            let (content, behind) = rest.split_at(size);
            *rest = behind;
            content.to_vec()
        }
    };
    inner.push(content_type);
    inner.resize(inner.len() + usize::from(byte(rest) & 3), 0);
    let header = Header::sealing(inner.len());
    let Ok(tag) = sealing.seal(header, &mut inner) else {
        panic!("a few records use no key up");
    };
    let start = wire.len();
    wire.extend_from_slice(&header.encode());
    wire.extend_from_slice(&inner);
    wire.extend_from_slice(&tag);
    if op & 0x40 != 0 {
        let size = wire.len() - start;
        let place = usize::from(byte(rest)) << 8 | usize::from(byte(rest));
        wire[start + place % size] ^= byte(rest);
    }
}

fn open_both(suite: SupportedCipherSuite, is_client: bool, mut wire: Vec<u8>, cut: usize) {
    let both = ExtractedSecrets {
        tx: (0, secrets(suite)),
        rx: (0, secrets(suite)),
    };
    let Ok(mut ours) = InPlaceRecords::new(both, Keys::Fixed { is_client }) else {
        panic!("a suite of TLS 1.3");
    };
    let mut library = Library::new(suite);
    let (mut at, mut without_data) = (0, 0);
    loop {
        let before = wire[at..].to_vec();
        // A record that is not all there yet is left alone, or refused for its header.
        let part = cut.min(before.len());
        let mut early = before[..part].to_vec();
        let whole_size = first_size(&before);
        let is_partial = whole_size.is_none_or(|size| part < size);
        if is_partial && part < before.len() {
            match ours.open(&mut early) {
                Ok(opened) => {
                    assert_eq!(opened, Opened::Incomplete);
                    assert_eq!(early, before[..part], "nothing was touched");
                }
                Err(_) => return assert!(library.open(&before).is_err()),
            }
        }
        let opened = ours.open(&mut wire[at..]);
        let expected = library.open(&before);
        let consumed = match (opened, expected) {
            (Ok(Opened::Incomplete), Ok(None)) => return,
            (
                Ok(Opened::Data {
                    plaintext,
                    consumed,
                }),
                Ok(Some(record)),
            ) => {
                assert_eq!(record.content_type, ContentType::ApplicationData);
                assert_eq!(&wire[at..][plaintext], &record.plaintext[..]);
                assert_eq!(consumed, record.size);
                without_data = 0;
                consumed
            }
            (Ok(Opened::Handled { consumed }), Ok(Some(record))) => {
                without_data += 1;
                assert!(without_data <= WITHOUT_DATA_MAX, "a flood ends");
                assert_eq!(consumed, record.size);
                consumed
            }
            (Ok(Opened::Closed { consumed }), Ok(Some(record))) => {
                assert_eq!(record.content_type, ContentType::Alert);
                assert_eq!(consumed, record.size);
                return;
            }
            // The library's record layer does not look into alerts and handshake messages.
            (Err(_), Ok(Some(record))) => {
                let is_data = record.content_type == ContentType::ApplicationData;
                return assert!(!is_data || is_strict(&record, &ours));
            }
            (Err(_), Err(_)) => return,
            (opened, expected) => panic!("{opened:?} is not {expected:?}"),
        };
        at += consumed;
    }
}

/// Application data that only we refuse: inside a handshake message, or the last of many records
/// without a byte.
fn is_strict(record: &Record, ours: &InPlaceRecords) -> bool {
    record.plaintext.is_empty() || !ours.messages.is_between_messages()
}

/// Size of the first record, header included, if its header is there.
fn first_size(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..HEADER_SIZE)?;
    Some(HEADER_SIZE + usize::from(u16::from_be_bytes([header[3], header[4]])))
}

struct Library {
    decrypter: Box<dyn MessageDecrypter>,
    sequence: u64,
}

#[derive(Debug)]
struct Record {
    content_type: ContentType,
    plaintext: Vec<u8>,
    size: usize,
}

impl Library {
    fn new(suite: SupportedCipherSuite) -> Self {
        let Some(suite) = suite.tls13() else {
            panic!("a suite of TLS 1.3");
        };
        Self {
            decrypter: suite.aead_alg.decrypter(KEY.into(), Iv::copy(&IV)),
            sequence: 0,
        }
    }

    /// The first record; `None` if it is not whole.
    fn open(&mut self, bytes: &[u8]) -> Result<Option<Record>, rustls::Error> {
        let Some(size) = first_size(bytes) else {
            return Ok(None);
        };
        let content_type = ContentType::from(bytes[0]);
        // What the library's deframer refuses by the header alone.
        if content_type != ContentType::ApplicationData || size - HEADER_SIZE > MAX_PLAINTEXT + 256
        {
            return Err(rustls::Error::DecryptError);
        }
        // Nothing that short can hold a tag and a content type.
        if size - HEADER_SIZE < 17 {
            return Err(rustls::Error::DecryptError);
        }
        let Some(content) = bytes.get(HEADER_SIZE..size) else {
            return Ok(None);
        };
        // It ignores the version and authenticates the one that it must be; we authenticate the one
        // that came (RFC 8446 §5.2).
        if bytes[1..3] != [3, 3] {
            return Err(rustls::Error::DecryptError);
        }
        let mut content = content.to_vec();
        let message =
            InboundOpaqueMessage::new(content_type, ProtocolVersion::TLSv1_2, &mut content);
        let opened = self.decrypter.decrypt(message, self.sequence)?;
        self.sequence += 1;
        Ok(Some(Record {
            content_type: opened.typ,
            plaintext: opened.payload.to_vec(),
            size,
        }))
    }
}

fn secrets(suite: SupportedCipherSuite) -> ConnectionTrafficSecrets {
    let (key, iv) = (AeadKey::from(KEY), Iv::copy(&IV));
    match suite == TLS13_AES_256_GCM_SHA384 {
        true => ConnectionTrafficSecrets::Aes256Gcm { key, iv },
        false => ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv },
    }
}

fn byte(rest: &mut &[u8]) -> u8 {
    let Some((first, behind)) = rest.split_first() else {
        return 0;
    };
    *rest = behind;
    *first
}

const KEY: [u8; 32] = *b"a key that everybody may know...";
const IV: [u8; 12] = *b"and its salt";

/// Bytes of records that one input makes, about.
const WIRE_MAX: usize = 100_000;
