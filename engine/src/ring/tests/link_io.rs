//! One link's socket.

use super::super::io::{Io, Owner};
use super::super::link_io::LinkIo;
use super::super::{Settings, open};
use super::support::both;
use crate::tls::tests::support as tls;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::time::Instant;

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
        let backend = open(choice, &Settings::default()).expect("a backend");
        let mut io = Io::new(backend, Instant::now());
        let (ours, mut theirs) = UnixStream::pair().expect("two sockets");
        ours.set_nonblocking(true).expect("a socket");
        let owner = Owner::Link { tunnel: 0, side: 0 };
        let socket = io.insert(ours.into(), owner).expect("it is watched");
        let mut link = LinkIo::new(socket, client.into_records(), &[], &[], &mut io.buffers);

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
