//! One link's socket.

use super::super::IoChoice;
use super::super::backend::Ready;
use super::super::buffers::BUFFER_SIZE;
use super::super::io::Io;
use super::super::link_io::LinkIo;
use super::super::token::Token;
use super::support::{both, link_by_itself};
use crate::tls::MAX_PLAINTEXT;
use crate::tls::tests::support as tls;
use std::io::{Read as _, Write as _};

/// A peer whose host is gone is noticed by what was sent to it, be it only an alert or a key update.
#[test]
fn what_the_record_layer_says_of_itself_counts_as_sent() {
    both(|choice| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (suite, kind) = (tls::tls13_suites()[0], tls::Kind::InPlace);
        let (client, _server) = runtime.block_on(tls::pair(suite, kind, kind));
        let (mut io, mut link, mut theirs) = link_by_itself(choice, client.into_records(), None);

        assert_eq!(link.flush(&mut io).expect("it is open"), 0);
        link.close_notify();
        let sent = link.flush(&mut io).expect("it is open");
        assert_eq!(link.output_size(), 0);
        let mut alert = [0; 256];
        assert!(sent > 0, "an alert");
        assert_eq!(theirs.read(&mut alert).expect("it has come"), sent);
        assert_eq!(link.flush(&mut io).expect("it is open"), 0);
    });
}

/// A peer that reads nothing and asks for new keys again and again, with data between.
#[test]
fn key_updates_that_find_no_room_wait_behind_what_fills_the_output_to_its_end() {
    both(|choice| {
        // So many are all read, and more than are before some answers have left.
        for updates in [30, 60] {
            updates_behind_a_full_output(choice, updates);
        }
    });
}

fn updates_behind_a_full_output(choice: IoChoice, updates: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    let (suite, kind) = (tls::tls13_suites()[0], tls::Kind::InPlace);
    let (mut near, far) = runtime.block_on(tls::pair(suite, tls::Kind::Buffered, kind));
    let records = far.into_records();
    let record_size = records.room(MAX_PLAINTEXT);
    let (mut io, mut link, mut theirs) = link_by_itself(choice, records, Some(64 * 1024));

    let mut filled = 0;
    while link.has_room() {
        filled += record(&mut link, &mut io, MAX_PLAINTEXT);
    }
    link.flush(&mut io).expect("it is open");
    let rest = (BUFFER_SIZE - filled) % record_size;
    filled += record(&mut link, &mut io, rest - (record_size - MAX_PLAINTEXT));
    while link.fits_record() {
        filled += record(&mut link, &mut io, MAX_PLAINTEXT);
    }
    assert_eq!(filled, BUFFER_SIZE);

    let ready = Ready {
        token: Token::new(1, 0, link.socket),
        readable: true,
        writable: true,
        hangup: false,
        gone: false,
        urgent: false,
    };
    for _ in 0..updates {
        let mut wire = Vec::new();
        near.update_keys(&mut wire);
        near.send(b"x", &mut wire);
        theirs.write_all(&wire).expect("there is room");
        link.ready(&ready);
        link.receive(&mut io).expect("it is open");
        while link.open().expect("records in order") {
            link.opened_done();
        }
        link.flush(&mut io).expect("it is open");
        assert!(!link.has_room() && !link.fits_record() && !link.has_room_for(1));
    }

    assert_eq!(link.is_held(), updates > 40);
    let (mut heard, mut part) = (Vec::new(), vec![0; 65_536]);
    while link.output_size() > 0 {
        let count = theirs.read(&mut part).expect("there is something");
        heard.extend_from_slice(&part[..count]);
        link.ready(&ready);
        link.flush(&mut io).expect("it is open");
    }
    assert!(!link.is_held() && link.has_room());
    while let Ok(count) = theirs.read(&mut part) {
        heard.extend_from_slice(&part[..count]);
    }
    // A header, five bytes, their type and a tag each; of more than a kilobyte the rest is not read yet.
    assert!(heard.len() >= filled + updates.min(38) * 27);
    let told = near.receive(&heard);
    // More in a row are a flood to the library.
    assert_eq!(told.is_ok(), updates <= 32);
    assert!(near.plaintext.len() > 250_000);
}

/// Seals one, and returns its size.
fn record(link: &mut LinkIo, io: &mut Io, plaintext_size: usize) -> usize {
    let before = link.output_size();
    link.area(&mut io.buffers)[..plaintext_size].fill(b'a');
    link.seal(plaintext_size).expect("there is room");
    link.output_size() - before
}
