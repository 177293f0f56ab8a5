//! What every tunnel of a loop shares: the backend, the table of sockets, spare buffers, the time.

use super::AnyBackend;
use super::backend::{Backend, Ready};
use super::buffers::Buffers;
use super::complaints::Complaints;
use super::socket::{self, Address};
use super::token::Token;
use crate::tunnel::bulk::BULK_BUFFER_SIZE;
use crate::tunnel::key::ConnectionKey;
use crate::tunnel::timers::FLUSH_TIMEOUT;
use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// How long an ended socket may keep sending before it is closed over its unread bytes; that of an application that has
/// not got all of its own, [`FLUSH_TIMEOUT`].
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one address may take to answer a dial.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Sockets that may linger: at twice as many in the list the oldest are closed, down to this.
const LINGERING_MAX: usize = if cfg!(test) { 64 } else { 4096 };

/// Reads of one lingering socket in one turn: 256 KiB, then others get theirs.
const DISCARDS_PER_TURN: usize = 4;

/// Whose a socket is.
pub(super) enum Owner {
    /// The loop's own wake-up.
    Waker,
    /// Where a source's applications connect.
    Listener { tunnel: u32, service: u32 },
    /// A WebSocket; `side` tells the two of a relay apart, and those that leave behind them.
    Link { tunnel: u32, side: u8 },
    /// A connection of a proxy.
    Local { tunnel: u32, key: ConnectionKey },
    /// A connection that is being made; the addresses are still to be tried.
    Dialling {
        tunnel: u32,
        key: ConnectionKey,
        rest: Vec<Address>,
    },
    /// Between two owners, within one call: of interest only to who clears up after a tunnel.
    Passing { tunnel: u32 },
    /// Ended on our side; its remaining bytes are read and thrown away, so that closing it does
    /// not turn its end into a reset.
    Lingering,
}

/// A socket that was ended.
struct Lingering {
    close_at: Instant,
    /// When it is closed although its application has not got all.
    at_latest: Instant,
    token: Token,
}

struct Slot {
    /// Which tenant of the slot this is; late events of an earlier one are dropped.
    generation: u16,
    socket: Option<(OwnedFd, Owner)>,
}

/// The shared half of a loop.
pub(super) struct Io {
    pub(super) backend: AnyBackend,
    pub(super) buffers: Buffers,
    pub(super) complaints: Complaints,
    /// The time of this turn, read once.
    pub(super) now: Instant,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Deadlines in order, since each kind has one time limit.
    lingering: VecDeque<Lingering>,
    dialling: VecDeque<(Instant, Token)>,
    /// Lingering sockets that may have more, for the next turn. Each at most once.
    unfinished: Vec<Token>,
    /// What is worked on within one call: bytes thrown away, or read several records at once.
    pub(super) scratch: Box<[u8]>,
}

impl Io {
    pub(super) fn new(backend: AnyBackend, now: Instant) -> Self {
        Self {
            backend,
            buffers: Buffers::default(),
            complaints: Complaints::every(Duration::from_secs(60)),
            now,
            slots: Vec::new(),
            free: Vec::new(),
            lingering: VecDeque::new(),
            dialling: VecDeque::new(),
            unfinished: Vec::new(),
            scratch: vec![0; BULK_BUFFER_SIZE].into_boxed_slice(),
        }
    }

    /// Takes a socket in and watches it. On failure the socket is closed.
    pub(super) fn insert(&mut self, fd: OwnedFd, owner: Owner) -> io::Result<u32> {
        let index = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        if index as usize == self.slots.len() {
            self.slots.push(Slot {
                generation: 0,
                socket: None,
            });
        } else {
            self.free.pop();
        }
        let token = Token::new(1, self.slots[index as usize].generation, index);
        let watched = match owner {
            Owner::Listener { .. } => self.backend.watch_listener(fd.as_raw_fd(), token),
            _ => self.backend.watch(fd.as_raw_fd(), token),
        };
        if let Err(error) = watched {
            self.free.push(index);
            return Err(error);
        }
        self.slots[index as usize].socket = Some((fd, owner));
        Ok(index)
    }

    /// Whose socket an event is about; `None` when it came too late.
    pub(super) fn owner(&mut self, ready: &Ready) -> Option<&mut Owner> {
        self.find(ready.token).map(|(_, owner)| owner)
    }

    /// Whose the socket in a slot is.
    pub(super) fn owner_at(&mut self, index: u32) -> Option<&mut Owner> {
        let (_, owner) = self.slots.get_mut(index as usize)?.socket.as_mut()?;
        Some(owner)
    }

    /// The descriptor in a slot. A slot that is free gives -1, which every call refuses.
    pub(super) fn fd(&self, index: u32) -> RawFd {
        let slot = self.slots.get(index as usize);
        slot.and_then(|slot| slot.socket.as_ref())
            .map_or(-1, |(fd, _)| fd.as_raw_fd())
    }

    /// Whom a socket is connected to.
    pub(super) fn peer(&self, index: u32) -> io::Result<Address> {
        let slot = self
            .slots
            .get(index as usize)
            .and_then(|slot| slot.socket.as_ref());
        slot.map_or(Err(io::ErrorKind::NotFound.into()), |(fd, _)| {
            socket::peer_address(fd)
        })
    }

    /// Replaces the owner of a socket that stays watched.
    pub(super) fn set_owner(&mut self, index: u32, owner: Owner) {
        if let Some((_, old)) = self
            .slots
            .get_mut(index as usize)
            .and_then(|slot| slot.socket.as_mut())
        {
            *old = owner;
        }
    }

    /// Closes a socket as it is.
    pub(super) fn close(&mut self, index: u32) {
        if let Some((fd, token)) = self.remove(index) {
            self.backend.forget_and_close(fd, token);
        }
    }

    /// Closes a socket so that its peer sees a reset.
    pub(super) fn reset(&mut self, index: u32) {
        if let Some((fd, token)) = self.remove(index) {
            self.backend.forget_and_reset(fd, token);
        }
    }

    /// Ends a socket in an orderly way: its peer gets all bytes and an end, and may finish
    /// sending for [`LINGER_TIMEOUT`].
    pub(super) fn end(&mut self, index: u32) {
        // Whose peer has ended already has nothing that could turn our end into a reset: to close it says the same.
        if self.discard(index) {
            return self.close(index);
        }
        let fd = self.fd(index);
        if self.backend.shutdown(fd, Shutdown::Write).is_err() {
            return self.close(index);
        }
        let patience = match self.owner_at(index) {
            Some(Owner::Local { .. }) => FLUSH_TIMEOUT,
            _ => LINGER_TIMEOUT,
        };
        self.set_owner(index, Owner::Lingering);
        self.lingering.push_back(Lingering {
            close_at: self.now + LINGER_TIMEOUT,
            at_latest: self.now + patience,
            token: self.token(index),
        });
        if self.lingering.len() == 2 * LINGERING_MAX {
            self.thin_out_lingering();
        }
    }

    /// Whether bytes are on their way to somebody who was ended.
    pub(super) fn owes_bytes(&mut self) -> bool {
        let lingering = std::mem::take(&mut self.lingering);
        let owes = |ended: &Lingering| {
            let open = self.find(ended.token);
            open.is_some_and(|(fd, _)| socket::unacknowledged(fd.as_raw_fd()) > 0)
        };
        let any = lingering.iter().any(owes);
        self.lingering = lingering;
        any
    }

    /// Takes those that have ended by themselves out of the list, and closes the oldest of the others if they are too
    /// many. It is looked through at twice the bound only, so that each end has a small share of that.
    fn thin_out_lingering(&mut self) {
        let mut lingering = std::mem::take(&mut self.lingering);
        lingering.retain(|ended| self.find(ended.token).is_some());
        let excess = lingering.len().saturating_sub(LINGERING_MAX);
        for oldest in lingering.drain(..excess) {
            self.close(oldest.token.index());
        }
        self.lingering = lingering;
    }

    /// Reads a lingering socket; closes it at its end.
    pub(super) fn linger(&mut self, index: u32) {
        if self.discard(index) {
            self.close(index);
        }
    }

    /// Starts to connect to the first of `addresses` that can be tried.
    ///
    /// # Errors
    /// All failed, the last one with this; `before` if there was none.
    pub(super) fn dial(
        &mut self,
        tunnel: u32,
        key: ConnectionKey,
        mut addresses: Vec<Address>,
        before: io::Error,
    ) -> io::Result<u32> {
        let mut failure = before;
        while !addresses.is_empty() {
            let address = addresses.remove(0);
            let attempt = self.backend.connect(&address);
            let rest = addresses.clone();
            match attempt.and_then(|fd| self.insert(fd, Owner::Dialling { tunnel, key, rest })) {
                Ok(index) => {
                    self.dialling
                        .push_back((self.now + DIAL_TIMEOUT, self.token(index)));
                    return Ok(index);
                }
                Err(error) => {
                    tracing::debug!(%address, %error, "could not connect");
                    failure = error;
                }
            }
        }
        Err(failure)
    }

    /// The next dial that took too long.
    pub(super) fn overdue_dial(&mut self) -> Option<u32> {
        loop {
            let &(at, token) = self.dialling.front()?;
            let is_dialling = matches!(self.find(token), Some((_, Owner::Dialling { .. })));
            if is_dialling && at > self.now {
                return None;
            }
            self.dialling.pop_front();
            if is_dialling {
                return Some(token.index());
            }
        }
    }

    /// Closes what has lingered for long enough, and reads on what was left in the last turn.
    pub(super) fn close_lingering(&mut self) {
        for token in std::mem::take(&mut self.unfinished) {
            if self.find(token).is_some() {
                self.linger(token.index());
            }
        }
        while let Some(first) = self.lingering.front() {
            let (token, is_due) = (first.token, first.close_at <= self.now);
            let is_open = self.find(token).is_some();
            if is_open && !is_due {
                return;
            }
            if let Some(first) = self.lingering.pop_front()
                && is_open
            {
                self.close_or_wait(first);
            }
        }
    }

    /// Closes a socket that has lingered for long enough, unless something is still on its way to an application: whatever
    /// that said then would be answered with a reset, which drops all that it has not read.
    fn close_or_wait(&mut self, ended: Lingering) {
        let index = ended.token.index();
        if self.now < ended.at_latest && socket::unacknowledged(self.fd(index)) > 0 {
            let close_at = self.now + LINGER_TIMEOUT;
            return self.lingering.push_back(Lingering { close_at, ..ended });
        }
        self.close(index);
    }

    /// When the next of these deadlines is.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if !self.unfinished.is_empty() {
            return Some(self.now);
        }
        let lingering = self.lingering.front().map(|ended| ended.close_at);
        let dialling = self.dialling.front().map(|(at, _)| *at);
        let review = self.buffers.next_review();
        lingering.into_iter().chain(dialling).chain(review).min()
    }

    /// Takes the owner of a socket out, to be given a new one by the same call of `tunnel`.
    pub(super) fn take_owner(&mut self, index: u32, tunnel: u32) -> Option<Owner> {
        let (_, owner) = self.slots.get_mut(index as usize)?.socket.as_mut()?;
        Some(std::mem::replace(owner, Owner::Passing { tunnel }))
    }

    /// Closes everything of a tunnel that was cut off in the middle of whatever it did, and makes good
    /// what it may have left undone here. Local connections are reset: no application takes a cut for an
    /// end. What lingers was ended before and keeps its time.
    pub(super) fn abandon(&mut self, tunnel: u32) {
        for index in 0..self.slots.len() as u32 {
            match self.owner_at(index) {
                Some(Owner::Listener { tunnel: of, .. } | Owner::Link { tunnel: of, .. })
                    if *of == tunnel =>
                {
                    self.close(index)
                }
                Some(
                    Owner::Local { tunnel: of, .. }
                    | Owner::Dialling { tunnel: of, .. }
                    | Owner::Passing { tunnel: of },
                ) if *of == tunnel => self.reset(index),
                _ => {}
            }
        }
        // A place may have been taken without being filled, and the scratch is lent out while it is used.
        let is_empty = |index: &u32| self.slots[*index as usize].socket.is_none();
        self.free = (0..self.slots.len() as u32)
            .rev()
            .filter(is_empty)
            .collect();
        if self.scratch.len() != BULK_BUFFER_SIZE {
            self.scratch = vec![0; BULK_BUFFER_SIZE].into_boxed_slice();
        }
    }

    fn token(&self, index: u32) -> Token {
        Token::new(1, self.slots[index as usize].generation, index)
    }

    fn find(&mut self, token: Token) -> Option<&mut (OwnedFd, Owner)> {
        let slot = self.slots.get_mut(token.index() as usize)?;
        (slot.generation == token.generation())
            .then_some(slot.socket.as_mut())
            .flatten()
    }

    fn remove(&mut self, index: u32) -> Option<(OwnedFd, Token)> {
        let token = self.slots.get(index as usize).map(|_| self.token(index))?;
        let slot = &mut self.slots[index as usize];
        let (fd, _) = slot.socket.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        Some((fd, token))
    }

    /// Throws away what a socket has, or a turn's share of it; true at its end.
    fn discard(&mut self, index: u32) -> bool {
        let fd = self.fd(index);
        for _ in 0..DISCARDS_PER_TURN {
            match self.backend.recv(fd, &mut self.scratch) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
        // No edge tells of bytes that were there already.
        let token = self.token(index);
        if !self.unfinished.contains(&token) {
            self.unfinished.push(token);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::tests::support::socket_pair;
    use crate::ring::{IoChoice, Settings, open};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_has_ended_by_itself_cuts_no_lingering_short() {
        let backend = open(IoChoice::Epoll, &Settings::default()).expect("epoll");
        #[expect(clippy::disallowed_methods, reason = "any moment will do")]
        let mut io = Io::new(backend, Instant::now());
        let ended = |io: &mut Io| {
            let (near, far) = UnixStream::pair().expect("a pair");
            near.set_nonblocking(true).expect("non-blocking");
            let index = io.insert(near.into(), Owner::Waker).expect("watched");
            io.end(index);
            (index, far)
        };
        let (first, _still_sends) = ended(&mut io);
        for _ in 0..2 * LINGERING_MAX {
            let (index, far) = ended(&mut io);
            drop(far);
            io.linger(index);
            assert!(io.owner_at(index).is_none(), "it has ended");
        }
        assert!(io.owner_at(first).is_some(), "it has time left");
        assert!(io.lingering.len() < 2 * LINGERING_MAX);
    }

    /// An application reads slowly, and says something meanwhile: a socket that is closed by then answers with a reset,
    /// which drops what is on its way.
    #[test]
    fn nothing_is_cut_off_while_somebody_reads() {
        let backend = open(IoChoice::Epoll, &Settings::default()).expect("epoll");
        #[expect(clippy::disallowed_methods, reason = "any moment will do")]
        let mut io = Io::new(backend, Instant::now());
        for reads in [true, false] {
            let (mut far, mut near) = socket_pair(Some(4096));
            near.set_nonblocking(true).expect("non-blocking");
            let mut sent = 0;
            while let Ok(count) = near.write(&[7; 65_536]) {
                sent += count;
            }
            let (index, generation) = (0, 0);
            let key = ConnectionKey { index, generation };
            let owner = Owner::Local { tunnel: 0, key };
            let index = io.insert(near.into(), owner).expect("watched");
            io.end(index);
            io.now += LINGER_TIMEOUT;
            io.close_lingering();
            far.write_all(b"meanwhile").expect("write");
            io.linger(index);
            if reads {
                let (mut heard, mut part) = (0, [0; 65_536]);
                while let Ok(count @ 1..) = far.read(&mut part) {
                    heard += count;
                }
                assert_eq!(heard, sent);
                io.now += LINGER_TIMEOUT;
            } else {
                assert!(io.owner_at(index).is_some(), "it may read later");
                io.now += FLUSH_TIMEOUT;
            }
            io.close_lingering();
            assert!(io.owner_at(index).is_none());
        }
    }

    #[test]
    fn of_too_many_that_linger_the_oldest_are_closed() {
        let backend = open(IoChoice::Epoll, &Settings::default()).expect("epoll");
        #[expect(clippy::disallowed_methods, reason = "any moment will do")]
        let mut io = Io::new(backend, Instant::now());
        // One end for all: nothing has to come from it.
        let (near, _far) = UnixStream::pair().expect("a pair");
        near.set_nonblocking(true).expect("non-blocking");
        let mut indices = (0..2 * LINGERING_MAX).map(|_| {
            let near = near.try_clone().expect("a descriptor");
            let index = io.insert(near.into(), Owner::Waker).expect("watched");
            io.end(index);
            index
        });
        let first = indices.next().expect("there are some");
        let last = indices.last().expect("there are more");
        assert!(io.owner_at(first).is_none() && io.owner_at(last).is_some());
        assert_eq!(io.lingering.len(), LINGERING_MAX);
    }
}
