//! Local sockets with the applications behind them.

use crate::tunnel::key::ConnectionKey;
use crate::tunnel::send::LocalReader;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};

/// How a socket was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Orderly,
    Cut,
}

/// Every socket there ever was, by its handle.
pub(super) struct Sockets {
    sockets: BTreeMap<u32, Socket>,
    next: u32,
    /// Bytes that a socket takes before its application must read.
    room: usize,
    /// Payloads have come that say nothing of whom they are for.
    pub(super) is_tainted: bool,
}

struct Socket {
    key: ConnectionKey,
    /// Bytes that the application has written and nobody has read. Their value is the handle's.
    written: usize,
    is_finished: bool,
    is_broken: bool,
    /// Bytes that wait for the application.
    waiting: usize,
    /// What all bytes for this application are.
    filling: Option<u8>,
    ended: Option<Ended>,
}

impl Sockets {
    pub(super) fn new(room: usize) -> Self {
        Self {
            sockets: BTreeMap::new(),
            next: 0,
            room,
            is_tainted: false,
        }
    }

    pub(super) fn next_io(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    pub(super) fn insert(&mut self, io: u32, key: ConnectionKey) {
        let socket = Socket {
            key,
            written: 0,
            is_finished: false,
            is_broken: false,
            waiting: 0,
            filling: None,
            ended: None,
        };
        assert!(self.sockets.insert(io, socket).is_none());
    }

    pub(super) fn remove(&mut self, io: u32) {
        self.sockets.remove(&io);
    }

    /// One of those that are open.
    pub(super) fn pick(&self, choice: usize) -> Option<(u32, ConnectionKey)> {
        let open: Vec<_> = self
            .sockets
            .iter()
            .filter(|(_, socket)| socket.ended.is_none())
            .collect();
        let (io, socket) = open.get(choice % open.len().max(1))?;
        Some((**io, socket.key))
    }

    pub(super) fn is_open(&self, io: u32) -> bool {
        self.sockets[&io].ended.is_none()
    }

    pub(super) fn all_ended(&self) -> bool {
        self.sockets.keys().all(|io| !self.is_open(*io))
    }

    pub(super) fn write(&mut self, io: u32, size: usize) {
        let socket = self.socket(io);
        if !socket.is_finished {
            // More would only be sent the same way again.
            socket.written = (socket.written + size).min(WRITTEN_MAX);
        }
    }

    pub(super) fn finish(&mut self, io: u32) {
        self.socket(io).is_finished = true;
    }

    pub(super) fn break_off(&mut self, io: u32) {
        self.socket(io).is_broken = true;
    }

    pub(super) fn drain(&mut self, io: u32, size: usize) {
        let socket = self.socket(io);
        socket.waiting = socket.waiting.saturating_sub(size);
    }

    pub(super) fn ended(&mut self, io: u32, how: Ended) {
        assert_eq!(self.socket(io).ended.replace(how), None, "ended once");
    }

    /// As `sendmsg` does.
    pub(super) fn take(&mut self, io: u32, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let (room, is_tainted) = (self.room, self.is_tainted);
        let socket = self.socket(io);
        assert_eq!(socket.ended, None, "nothing is written to an ended socket");
        if socket.is_broken {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let before = socket.waiting;
        for part in parts {
            let taken = part.len().min(room.saturating_sub(socket.waiting));
            for byte in part[..taken].iter().filter(|byte| **byte != ANY) {
                let filling = *socket.filling.get_or_insert(*byte);
                assert!(
                    is_tainted || filling == *byte,
                    "bytes of another connection"
                );
            }
            socket.waiting += taken;
        }
        match socket.waiting - before {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn socket(&mut self, io: u32) -> &mut Socket {
        self.sockets.get_mut(&io).expect("the handle of a socket")
    }
}

impl LocalReader for Sockets {
    fn receive(&mut self, io: u32, into: &mut [u8]) -> io::Result<usize> {
        assert!(!into.is_empty());
        let socket = self.socket(io);
        assert_eq!(socket.ended, None, "nothing is read from an ended socket");
        // What was written before a reset can be read.
        let count = into.len().min(socket.written);
        socket.written -= count;
        into[..count].fill(io as u8);
        match count {
            0 if socket.is_broken => Err(io::ErrorKind::ConnectionReset.into()),
            0 if socket.is_finished => Ok(0),
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

/// A payload's byte that any connection may get.
pub(super) const ANY: u8 = 0xff;

/// Bytes of an application that wait to be read, at most.
const WRITTEN_MAX: usize = 200_000;
