//! Sockets that listen: all are heard of, and none is held longer than its descriptors.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use adit_engine::ring::{Address, AnyBackend, BATCH, Backend, local_address};

use crate::support::*;

on_every_backend! {
    an_address_is_free_when_the_descriptors_of_its_listener_are_closed,
    more_listeners_than_a_batch_are_all_reported,
    a_forgotten_listener_that_stays_open_is_not_reported,
}

/// As after `kill -9`: nobody has taken the watch back.
fn an_address_is_free_when_the_descriptors_of_its_listener_are_closed(backend: &mut AnyBackend) {
    let any: Address = Address::Ip("127.0.0.1:0".parse().expect("an address"));
    let listener = backend.listen(&any).expect("a port");
    let address = local_address(&listener).expect("bound");
    backend
        .watch_listener(listener.as_raw_fd(), token(1))
        .expect("watched");
    settle(backend);
    drop(listener);
    backend.listen(&address).expect("the port again");
}

fn more_listeners_than_a_batch_are_all_reported(backend: &mut AnyBackend) {
    const COUNT: u32 = BATCH as u32 + 40;
    let directory = tempfile::tempdir().expect("a directory");
    let paths: Vec<_> = (0..COUNT)
        .map(|index| directory.path().join(index.to_string()))
        .collect();
    let listeners = paths.iter().zip(0..).map(|(path, index)| {
        let listener = backend
            .listen(&Address::Unix(path.clone()))
            .expect("listening");
        backend
            .watch_listener(listener.as_raw_fd(), token(index))
            .expect("watched");
        listener
    });
    let listeners: Vec<_> = listeners.collect();
    for _ in 0..2 {
        settle(backend);
        let _clients: Vec<_> = paths
            .iter()
            .map(|path| UnixStream::connect(path).expect("somebody listens"))
            .collect();
        let (mut heard, mut ready) = (BTreeSet::new(), Vec::new());
        while heard.len() < COUNT as usize {
            backend.wait(&mut ready, Some(LONG)).expect("wait works");
            assert!(!ready.is_empty(), "{} of {COUNT}", heard.len());
            assert!(ready.len() <= BATCH);
            heard.extend(ready.iter().map(|event| event.token.index()));
        }
        for listener in &listeners {
            backend
                .accept(listener.as_raw_fd())
                .expect("one that waits");
        }
    }
}

fn a_forgotten_listener_that_stays_open_is_not_reported(backend: &mut AnyBackend) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let listener = backend
        .listen(&Address::Unix(path.clone()))
        .expect("listening");
    let kept = listener.try_clone().expect("another descriptor");
    backend
        .watch_listener(listener.as_raw_fd(), token(1))
        .expect("watched");
    settle(backend);
    backend.forget_and_close(listener, token(1));
    let _client = UnixStream::connect(&path).expect("somebody listens");
    assert_eq!(settle(backend), []);
    backend
        .watch_listener(kept.as_raw_fd(), token(2))
        .expect("watched");
    wait_for(backend, token(2), |event| event.readable);
    let mut ready = Vec::new();
    backend
        .wait(&mut ready, Some(Duration::ZERO))
        .expect("wait works");
    assert_eq!(ready, [], "one edge");
}
