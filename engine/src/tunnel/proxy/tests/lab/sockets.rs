//! Local sockets with bounded buffers, and the applications behind them.

use crate::tunnel::key::ConnectionKey;
use crate::tunnel::send::LocalReader;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};

/// How the proxy ended a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tunnel::proxy::tests) enum Ended {
    Orderly,
    Cut,
}

/// A local socket, and the application behind it.
#[derive(Debug)]
pub(in crate::tunnel::proxy::tests) struct Socket {
    pub(in crate::tunnel::proxy::tests) key: ConnectionKey,
    /// What the application wrote and the proxy has not read.
    pub(in crate::tunnel::proxy::tests) written: VecDeque<u8>,
    /// The application sends no more.
    pub(in crate::tunnel::proxy::tests) is_finished: bool,
    /// The application reset the connection. What it had sent before can be read.
    pub(in crate::tunnel::proxy::tests) is_broken: bool,
    /// What is told then; a reset.
    pub(in crate::tunnel::proxy::tests) failure: io::ErrorKind,
    /// What the proxy wrote and the application has not read; at most `room` in all.
    pub(in crate::tunnel::proxy::tests) waiting: Vec<u8>,
    pub(in crate::tunnel::proxy::tests) room: usize,
    pub(in crate::tunnel::proxy::tests) ended: Option<Ended>,
}

impl Socket {
    pub(super) fn new(key: ConnectionKey, room: usize) -> Self {
        Self {
            key,
            written: VecDeque::new(),
            is_finished: false,
            is_broken: false,
            failure: io::ErrorKind::ConnectionReset,
            waiting: Vec::new(),
            room,
            ended: None,
        }
    }

    pub(super) fn take(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_broken {
            return Err(self.failure.into());
        }
        assert_eq!(self.ended, None, "nothing is written to an ended socket");
        let before = self.waiting.len();
        for part in parts {
            let taken = part.len().min(self.room - self.waiting.len());
            self.waiting.extend_from_slice(&part[..taken]);
        }
        match self.waiting.len() - before {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

/// All of them, by their handles.
#[derive(Default)]
pub(super) struct Sockets(pub(super) BTreeMap<u32, Socket>);

impl LocalReader for Sockets {
    fn receive(&mut self, io: u32, into: &mut [u8]) -> io::Result<usize> {
        let socket = self.0.get_mut(&io).expect("the handle of a socket");
        assert_eq!(socket.ended, None, "nothing is read from an ended socket");
        assert!(!into.is_empty());
        let count = into.len().min(socket.written.len());
        for (to, from) in into.iter_mut().zip(socket.written.drain(..count)) {
            *to = from;
        }
        match count {
            0 if socket.is_broken => Err(socket.failure.into()),
            0 if socket.is_finished => Ok(0),
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}
