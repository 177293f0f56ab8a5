//! A local socket between an application and a proxy: two bounded queues, and edges.

use super::queue::Queue;
use std::io::{self, ErrorKind, IoSlice};

/// What the application has done with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Reads and writes.
    Open,
    /// Writes no more.
    Finished,
    /// Neither; what it wrote is still there.
    Closed,
    /// Neither; what it wrote and was not read is lost.
    Reset,
}

/// How the proxy has ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// An end of file behind all bytes.
    End,
    /// A reset.
    Cut,
}

/// One socket. Edges are reported as a system does: when something changes, and not again.
pub(super) struct Socket {
    /// Written by the application.
    from_app: Queue,
    /// Written by the proxy.
    to_app: Queue,
    room: usize,
    app: Use,
    told: Option<Told>,
    /// The proxy was told that it takes no more.
    was_full: bool,
    /// It has bytes or an end to read.
    pub(super) readable: bool,
    /// It takes bytes again.
    pub(super) writable: bool,
    /// Its application has reset it.
    pub(super) gone: bool,
}

impl Socket {
    /// One that holds `room` bytes in each direction.
    #[must_use]
    pub(super) fn new(room: usize) -> Self {
        Self {
            from_app: Queue::default(),
            to_app: Queue::default(),
            room,
            app: Use::Open,
            told: None,
            was_full: false,
            readable: false,
            writable: false,
            gone: false,
        }
    }

    /// What the application has done.
    #[must_use]
    pub(super) fn app(&self) -> Use {
        self.app
    }

    /// What the proxy has done.
    #[must_use]
    pub(super) fn told(&self) -> Option<Told> {
        self.told
    }

    /// Whether neither end has anything more to do with it.
    #[must_use]
    pub(super) fn is_over(&self) -> bool {
        self.told.is_some() && matches!(self.app, Use::Closed | Use::Reset)
    }

    /// The application writes; what is taken of it.
    pub(super) fn app_write(&mut self, bytes: &[u8]) -> usize {
        if self.told.is_some() || self.app != Use::Open {
            return 0;
        }
        let count = bytes.len().min(self.room - self.from_app.size());
        self.from_app.push(&bytes[..count]);
        self.readable |= count > 0;
        count
    }

    /// The application reads at most so much.
    pub(super) fn app_read(&mut self, max: usize) -> Vec<u8> {
        let waiting = self.to_app.waiting();
        let bytes = waiting[..max.min(waiting.len())].to_vec();
        self.to_app.consume(bytes.len());
        if self.was_full && !bytes.is_empty() {
            self.was_full = false;
            self.writable = true;
        }
        bytes
    }

    /// Whether an application that has read everything finds the end of it.
    #[must_use]
    pub(super) fn app_sees_end(&self) -> bool {
        self.told.is_some() && self.to_app.size() == 0
    }

    /// The application changes how it uses its end.
    pub(super) fn app_turns(&mut self, to: Use) {
        self.app = to;
        self.readable = true;
        if to == Use::Reset {
            self.from_app.clear();
            self.gone = true;
        }
        if to != Use::Finished {
            // Closing over unread bytes is a reset, too; what was written before is still there.
            self.gone |= self.to_app.size() > 0;
            self.to_app.clear();
            // A write gives an error now.
            self.writable = true;
        }
    }

    /// The proxy reads, as `recv` does. `is_short`: less than there is.
    ///
    /// # Errors
    /// As the system's.
    pub(super) fn receive(&mut self, into: &mut [u8], is_short: bool) -> io::Result<usize> {
        assert_eq!(self.told, None, "nothing is read from an ended socket");
        assert!(!into.is_empty(), "a read without room");
        if self.app == Use::Reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let waiting = self.from_app.waiting();
        let mut count = waiting.len().min(into.len());
        if is_short {
            count = count.div_ceil(2);
        }
        into[..count].copy_from_slice(&waiting[..count]);
        self.from_app.consume(count);
        match count {
            0 if self.app == Use::Open => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    /// The proxy writes, as `sendmsg` does.
    ///
    /// # Errors
    /// As the system's.
    pub(super) fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        assert_eq!(self.told, None, "nothing is written to an ended socket");
        if matches!(self.app, Use::Closed | Use::Reset) {
            self.gone = true;
            return Err(ErrorKind::ConnectionReset.into());
        }
        let (mut taken, mut offered) = (0, 0);
        for part in parts {
            let count = part.len().min(self.room - self.to_app.size());
            self.to_app.push(&part[..count]);
            (taken, offered) = (taken + count, offered + part.len());
        }
        self.was_full |= taken < offered;
        match taken {
            0 => Err(ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }

    /// The proxy ends it.
    pub(super) fn end(&mut self, told: Told) {
        assert_eq!(self.told, None, "a socket is ended once");
        self.told = Some(told);
        if told == Told::Cut {
            self.to_app.clear();
        }
    }
}
