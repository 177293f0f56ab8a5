//! The source's core with buffers around it, for drivers that bring bytes and take them.

use super::signal::Signal;
use adit_bench::path::{SEED, settings};
use adit_engine::tls::{MAX_PLAINTEXT, Opened, Records};
use adit_engine::tunnel::deliver::PARTS_MAX;
use adit_engine::tunnel::flow::Flow;
use adit_engine::tunnel::key::ConnectionKey;
use adit_engine::tunnel::proxy::Proxy;
use adit_engine::tunnel::send::LocalReader;
use adit_proto::ids::Mode;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Instant;

/// Sealed bytes that may wait before no more are composed, as on adit's own loop.
const OUTPUT_MARK: usize = 256 * 1024;

/// With room for the record that passes the mark.
const OUTPUT_SIZE: usize = OUTPUT_MARK + 2 * MAX_PLAINTEXT;

/// A source that carries streams which stay open: neither their ends nor time are its driver's
/// business here.
pub(crate) struct Core {
    proxy: Proxy,
    records: Records,
    locals: Vec<Local>,
    output: Vec<u8>,
    filled: usize,
    /// Bytes that no writer has taken yet.
    unwritten_size: usize,
}

/// One connection.
pub(crate) struct Local {
    key: ConnectionKey,
    /// Read from its socket, `start` bytes of it composed already.
    read: Vec<u8>,
    start: usize,
    /// For its socket.
    unwritten: Vec<u8>,
    pub(crate) signals: Rc<Signals>,
}

#[derive(Default)]
pub(crate) struct Signals {
    /// All that was read is composed.
    pub(crate) is_composed: Signal,
    /// There is something to write.
    pub(crate) has_unwritten: Signal,
}

impl Core {
    pub(crate) fn new(records: Records) -> Self {
        let mut proxy = Proxy::new(settings(Mode::Source), SEED);
        proxy.link_up(Instant::now());
        Self {
            proxy,
            records,
            locals: Vec::new(),
            output: vec![0; OUTPUT_SIZE],
            filled: 0,
            unwritten_size: 0,
        }
    }

    /// Whether connections may come.
    pub(crate) fn is_running(&self) -> bool {
        self.proxy.is_running()
    }

    /// A new connection: its handle, and how it is told of bytes.
    pub(crate) fn accept(&mut self) -> (u32, Rc<Signals>) {
        let io = self.locals.len() as u32;
        let key = self.proxy.accepted(Instant::now(), 0, io);
        let signals = Rc::<Signals>::default();
        self.locals.push(Local {
            key: key.expect("within the bound"),
            read: Vec::new(),
            start: 0,
            unwritten: Vec::new(),
            signals: Rc::clone(&signals),
        });
        (io, signals)
    }

    /// Bytes of a local socket.
    pub(crate) fn local_read(&mut self, io: u32, bytes: &[u8]) {
        let local = &mut self.locals[io as usize];
        local.read.extend_from_slice(bytes);
        self.proxy.readable(local.key, false);
    }

    /// Composes and seals what there is, and gives it with its size in exchange for a buffer that
    /// was given before.
    pub(crate) fn take_output(&mut self, spare: &mut Vec<u8>) -> Option<usize> {
        while self.filled < OUTPUT_MARK && self.proxy.wants_output() {
            let record = &mut self.output[self.filled..];
            let area = &mut record[self.records.plaintext_offset()..][..MAX_PLAINTEXT];
            let mut reader = Reader(&mut self.locals);
            let size = self.proxy.compose(Instant::now(), area, &mut reader);
            if size == 0 {
                break;
            }
            self.filled += self.records.seal(record, size).expect("it has room");
        }
        while self.proxy.poll_action().is_some() {}
        if self.filled == 0 {
            return None;
        }
        spare.resize(OUTPUT_SIZE, 0);
        std::mem::swap(&mut self.output, spare);
        Some(std::mem::take(&mut self.filled))
    }

    /// What is to be written to a local socket, in exchange for an empty buffer.
    pub(crate) fn take_unwritten(&mut self, io: u32, spare: &mut Vec<u8>) -> bool {
        spare.clear();
        std::mem::swap(&mut self.locals[io as usize].unwritten, spare);
        self.unwritten_size -= spare.len();
        !spare.is_empty()
    }

    /// Bytes that wait for the writers of local sockets.
    pub(crate) fn unwritten_size(&self) -> usize {
        self.unwritten_size
    }

    /// Reads what came over the link; returns how much of it was used up.
    pub(crate) fn link_read(&mut self, buffer: &mut [u8]) -> usize {
        let mut start = 0;
        loop {
            let rest = &mut buffer[start..];
            match self.records.open(rest).expect("a record") {
                Opened::Incomplete => return start,
                Opened::Handled { consumed } | Opened::Closed { consumed } => start += consumed,
                Opened::Data {
                    plaintext,
                    consumed,
                } => {
                    self.handle(&mut rest[plaintext]);
                    start += consumed;
                }
            }
        }
    }

    fn handle(&mut self, plaintext: &mut [u8]) {
        let mut position = 0;
        loop {
            let flow = self
                .proxy
                .handle_input(Instant::now(), plaintext, &mut position);
            self.deliver(plaintext);
            match flow.expect("it is proper") {
                Flow::Done => return,
                Flow::Deliver => {}
                // Nothing is ever queued, since the buffers here take everything.
                flow @ (Flow::Paused | Flow::Closed(_)) => panic!("{flow:?}"),
            }
        }
    }

    fn deliver(&mut self, plaintext: &[u8]) {
        let now = Instant::now();
        let count = self.proxy.deliveries().count();
        for index in 0..count {
            let delivery = self.proxy.deliveries().nth(index).expect("it is counted");
            let local = &mut self.locals[delivery.io as usize];
            let mut parts = [IoSlice::new(&[]); PARTS_MAX];
            let parts_count = self.proxy.delivery_parts(index, plaintext, &mut parts);
            for part in &parts[..parts_count] {
                local.unwritten.extend_from_slice(part);
            }
            self.unwritten_size += delivery.size;
            local.signals.has_unwritten.set();
            self.proxy
                .delivered(now, index, plaintext, Ok(delivery.size));
        }
        self.proxy.clear_deliveries();
    }
}

struct Reader<'a>(&'a mut [Local]);

impl LocalReader for Reader<'_> {
    fn receive(&mut self, io: u32, into: &mut [u8]) -> io::Result<usize> {
        let local = &mut self.0[io as usize];
        let rest = &local.read[local.start..];
        let size = rest.len().min(into.len());
        if size == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into[..size].copy_from_slice(&rest[..size]);
        local.start += size;
        if local.start == local.read.len() {
            local.read.clear();
            local.start = 0;
            local.signals.is_composed.set();
        }
        Ok(size)
    }
}
