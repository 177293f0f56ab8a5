//! TLS records: sealed, and sealed then opened.
//!
//! Held fixed: TLS 1.3 with the suite that both ends prefer (AES-128-GCM where the processor has
//! AES), one record at a time in one buffer that stays in the cache. Opening is only measured
//! together with sealing: a record can be opened once.

use crate::Case;
use crate::input::{LARGE, Payload, SMALL, bytes};
use adit_engine::tls::{
    self, ClientTls, Opened, Records, RecordsChoice, client_config, server_config_from, server_name,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::hint::black_box;

/// The record layer in place: what is held by budgets.
pub fn gated() -> Vec<Case> {
    [SMALL, LARGE]
        .into_iter()
        .flat_map(|payload| of(RecordsChoice::InPlace, payload))
        .collect()
}

/// The TLS library's own record layer.
pub fn rivals() -> Vec<Case> {
    [SMALL, LARGE]
        .into_iter()
        .flat_map(|payload| of(RecordsChoice::Library, payload))
        .collect()
}

fn of(choice: RecordsChoice, payload: Payload) -> [Case; 3] {
    let layer = match choice {
        RecordsChoice::InPlace => "in_place",
        RecordsChoice::Library => "library",
    };
    let Payload { label, size, count } = payload;
    let sealing = Case::new(
        format!("records/seal/{layer}/{label}"),
        count,
        size,
        move || {
            let (mut near, _) = session(choice);
            let mut record = vec![0; near.room(size) + KEY_UPDATE_ROOM];
            move || {
                for _ in 0..count {
                    let sealed = near.seal(black_box(&mut record), size).expect("sealed");
                    black_box(sealed);
                }
            }
        },
    );
    let from_elsewhere = Case::new(
        format!("records/seal_from/{layer}/{label}"),
        count,
        size,
        move || {
            let (mut near, _) = session(choice);
            let mut record = vec![0; near.room(size) + KEY_UPDATE_ROOM];
            let plaintext = bytes(size);
            move || {
                for _ in 0..count {
                    let sealed = near.seal_from(black_box(&mut record), &plaintext);
                    black_box(sealed.expect("sealed"));
                }
            }
        },
    );
    let both = Case::new(
        format!("records/seal_and_open/{layer}/{label}"),
        count,
        size,
        move || {
            let (mut near, mut far) = session(choice);
            let mut record = vec![0; near.room(size) + KEY_UPDATE_ROOM];
            let plaintext = bytes(size);
            let offset = near.plaintext_offset();
            record[offset..][..size].copy_from_slice(&plaintext);
            move || {
                for _ in 0..count {
                    let sealed = near.seal(&mut record, size).expect("sealed");
                    assert_eq!(open(&mut far, &mut record[..sealed]), size);
                }
            }
        },
    );
    [sealing, from_elsewhere, both]
}

/// New keys are announced in a record of their own, in front.
const KEY_UPDATE_ROOM: usize = 64;

/// Opens all of `records` and returns the size of the plaintext.
fn open(far: &mut Records, records: &mut [u8]) -> usize {
    let (mut start, mut total) = (0, 0);
    loop {
        match far.open(&mut records[start..]).expect("opened") {
            Opened::Data {
                plaintext,
                consumed,
            } => {
                total += plaintext.len();
                start += consumed;
            }
            Opened::Handled { consumed } => start += consumed,
            Opened::Incomplete => return total,
            Opened::Closed { .. } => panic!("nobody closed it"),
        }
    }
}

/// Both ends of a session, after a handshake in memory.
pub fn session(choice: RecordsChoice) -> (Records, Records) {
    let handshake = Handshake::new();
    let (near, far) = handshake.run(choice);
    // The tickets that a server sends after the handshake are read with the first record.
    assert!(near.unread.is_empty() && far.unread.is_empty());
    (near.records, far.records)
}

/// All that a TLS handshake needs, made once.
pub struct Handshake {
    server: std::sync::Arc<rustls::ServerConfig>,
    client: std::sync::Arc<rustls::ClientConfig>,
    runtime: tokio::runtime::Runtime,
}

impl Handshake {
    /// A P-256 key and a certificate that it signed itself; the client does not check it.
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        Self {
            server: server_config_from(chain, key).expect("a configuration"),
            client: client_config(&ClientTls {
                ca_path: None,
                no_verify: true,
                ..ClientTls::default()
            })
            .expect("a configuration"),
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime"),
        }
    }

    /// One handshake, both ends on this thread, over memory.
    pub fn run(&self, choice: RecordsChoice) -> (tls::Session, tls::Session) {
        let name = server_name("localhost").expect("a name");
        let (mut near, mut far) = tokio::io::duplex(64 * 1024);
        let (near, far) = self.runtime.block_on(async {
            tokio::join!(
                tls::connect(&mut near, &self.client, name, choice),
                tls::accept(&mut far, &self.server, choice)
            )
        });
        (near.expect("a session"), far.expect("a session"))
    }
}

impl Default for Handshake {
    fn default() -> Self {
        Self::new()
    }
}
