//! Bytes between a proxy's core and its local sockets.

use super::ProxyIo;
use crate::ring::backend::{Backend, Outgoing};
use crate::ring::io::Io;
use crate::ring::link_io::LinkIo;
use crate::tunnel::deliver::{BATCH_MAX, PARTS_MAX};
use crate::tunnel::key::ConnectionKey;
use crate::tunnel::proxy::Proxy;
use crate::tunnel::send::LocalReader;
use std::io::{self, IoSlice};

/// Payload parts that one batch of sends names; more go in the next batch.
const BATCH_PARTS: usize = 4 * PARTS_MAX;

/// Reads local sockets for the core.
pub(super) struct Reader<'a>(pub(super) &'a mut Io);

impl LocalReader for Reader<'_> {
    fn receive(&mut self, io: u32, into: &mut [u8]) -> io::Result<usize> {
        let fd = self.0.fd(io);
        self.0.backend.recv(fd, into)
    }
}

/// Reads nothing: what an application says to a link that has failed stays with it, and goes with its reset.
pub(super) struct NoReader;

impl LocalReader for NoReader {
    fn receive(&mut self, _io: u32, _into: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl ProxyIo {
    /// Offers what the core decided to deliver, many sockets in one batch.
    pub(super) fn deliver(&mut self, io: &mut Io) {
        if !self.proxy.has_deliveries() {
            return;
        }
        let Self {
            proxy,
            link,
            results,
            ..
        } = self;
        let buffer = link.as_ref().map_or(&[][..], LinkIo::input_bytes);
        let count = proxy.deliveries().count();
        let mut first = 0;
        while first < count {
            offer(proxy, buffer, io, first, results);
            first += results.len();
            for (index, result) in results.drain(..) {
                proxy.delivered(io.now, index, buffer, result);
            }
        }
        proxy.clear_deliveries();
    }

    /// Offers waiting bytes to the sockets that can take some again.
    pub(super) fn flush_writable(&mut self, io: &mut Io) {
        for key in std::mem::take(&mut self.flushes) {
            self.flush_one(io, key);
        }
    }

    pub(super) fn flush_one(&mut self, io: &mut Io, key: ConnectionKey) {
        while let Some(socket) = self.proxy.writable(key) {
            let mut parts = [IoSlice::new(&[]); PARTS_MAX];
            let count = self.proxy.queued_parts(key, &mut parts);
            let offered: usize = parts[..count].iter().map(|part| part.len()).sum();
            let mut batch = [Outgoing::new(io.fd(socket), &parts[..count])];
            io.backend.send_batch(&mut batch);
            let [sent] = batch;
            let is_short = sent.result.as_ref().map_or(true, |taken| *taken < offered);
            self.proxy.flushed(io.now, key, sent.result);
            // A short send means a full socket; its draining makes a new edge.
            if is_short {
                return;
            }
        }
    }
}

/// Offers deliveries from the `first` on, as many as one batch holds.
fn offer(
    proxy: &Proxy,
    buffer: &[u8],
    io: &mut Io,
    first: usize,
    results: &mut Vec<(usize, io::Result<usize>)>,
) {
    let mut parts = [IoSlice::new(&[]); BATCH_PARTS];
    let mut spans = [(-1, 0, 0); BATCH_MAX];
    let (mut count, mut used) = (0, 0);
    for delivery in proxy.deliveries().skip(first) {
        if count == BATCH_MAX || used + delivery.parts > BATCH_PARTS {
            break;
        }
        let end = used + proxy.delivery_parts(delivery.index, buffer, &mut parts[used..]);
        spans[count] = (io.fd(delivery.io), used, end);
        (count, used) = (count + 1, end);
    }
    let mut batch: [Outgoing<'_>; BATCH_MAX] = std::array::from_fn(|at| {
        let (fd, start, end) = spans[at];
        Outgoing::new(fd, &parts[start..end])
    });
    io.backend.send_batch(&mut batch[..count]);
    let sent = batch.into_iter().take(count).enumerate();
    results.extend(sent.map(|(at, outgoing)| (first + at, outgoing.result)));
}
