//! Counts what each record layer allocates per record. The promise is the in-place layer's: none.
#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use adit_engine::tls::{
    ClientTls, MAX_PLAINTEXT, Opened, Records, RecordsChoice, accept, client_config, connect,
    server_config_from, server_name,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local
// without a destructor, which allocates nothing itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations on this thread while `work` ran.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

fn connected(choice: RecordsChoice) -> (Records, Records) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = server_config_from(chain, key).unwrap();
    let client = client_config(&ClientTls {
        no_verify: true,
        ..ClientTls::default()
    })
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut near, mut far) = tokio::io::duplex(64 * 1024);
        let name = server_name("localhost").unwrap();
        let (near, far) = tokio::join!(
            connect(&mut near, &client, name, choice),
            accept(&mut far, &server, choice)
        );
        let (near, far) = (near.unwrap(), far.unwrap());
        assert_eq!(near.version, "TLSv1_3");
        assert!(near.unread.is_empty() && far.unread.is_empty());
        (near.records, far.records)
    })
}

const ROUNDS: usize = 1000;

/// Allocations per 1,000 records sealed and per 1,000 opened.
fn count(choice: RecordsChoice, plaintext_size: usize) -> (usize, usize) {
    let (mut near, mut far) = connected(choice);
    let mut record = vec![0_u8; near.room(plaintext_size)];
    let elsewhere = vec![7_u8; plaintext_size];
    let (mut sealing, mut opening) = (0, 0);
    // The first rounds may set things up once and for all.
    for round in 0..ROUNDS + 10 {
        let mut size = 0;
        let sealed = allocations(|| {
            let sealed = match round % 2 {
                0 => near.seal(&mut record, plaintext_size),
                _ => near.seal_from(&mut record, &elsewhere),
            };
            size = sealed.unwrap();
        });
        let opened = allocations(|| match far.open(&mut record[..size]).unwrap() {
            Opened::Data {
                plaintext,
                consumed,
            } => assert_eq!((plaintext.len(), consumed), (plaintext_size, size)),
            other => panic!("{other:?}"),
        });
        if round >= 10 {
            sealing += sealed;
            opening += opened;
        }
    }
    (sealing, opening)
}

#[test]
fn sealing_and_opening_in_place_allocates_nothing() {
    for size in [1, 100, 1024, MAX_PLAINTEXT] {
        let library = count(RecordsChoice::Library, size);
        eprintln!("{size} bytes: the library allocates {library:?} times per {ROUNDS} records");
        assert_ne!(library, (0, 0), "the counter counts");
        let in_place = count(RecordsChoice::InPlace, size);
        assert_eq!(in_place, (0, 0), "{size} bytes");
    }
}
