//! A proxy's WebSocket: read, filled, ended.

use super::ProxyIo;
use super::deliver::{NoReader, Reader};
use super::reading::Reading;
use crate::failpoint::failpoint;
use crate::link::Link;
use crate::ring::backend::Ready;
use crate::ring::buffers::OUTPUT_MARK;
use crate::ring::handle::{LinkEnd, TunnelEvent};
use crate::ring::io::{Io, Owner};
use crate::ring::link_io::{LinkFault, LinkIo, Received};
use crate::ring::socket;
use crate::tunnel::bulk::BULK_SIZE;
use crate::tunnel::flow::Flow;
use crate::tunnel::key::ConnectionKey;
use crate::tunnel::proxy::Proxy;
use adit_proto::websocket::CloseCode;
use std::time::Duration;

/// Times that one turn reads the tunnel's socket (256 KiB each) before others get theirs.
const READS_PER_TURN: usize = 2;

/// How long what a link has brought before it failed may wait for applications that take nothing. Then they are cut off
/// from it like all others, and the next link is dialled.
pub(in crate::ring) const READ_OUT: Duration = Duration::from_secs(5);

/// Several records of one connection, read at once. Returns the bytes that were composed; 0 when
/// there was nothing to read, of which the core has then taken note.
fn fill_bulk(
    proxy: &mut Proxy,
    link: &mut LinkIo,
    io: &mut Io,
    key: ConnectionKey,
    tunnel: u32,
) -> Result<usize, LinkFault> {
    let now = io.now;
    let mut scratch = std::mem::take(&mut io.scratch);
    let mut composed = 0;
    let mut outcome = Ok(());
    if let Some(mut bulk) = proxy.read_bulk(now, key, &mut scratch, &mut Reader(io)) {
        while outcome.is_ok()
            && let Some(frame) = proxy.next_bulk_frame(&mut bulk, &mut scratch)
        {
            failpoint("proxy-bulk", &tunnel);
            composed += frame.len();
            outcome = link.seal_from(&mut io.buffers, &scratch[frame]);
        }
    }
    io.scratch = scratch;
    outcome?;
    Ok(composed)
}

impl ProxyIo {
    /// A fresh link; one that was still there is dropped.
    pub(in crate::ring) fn link_up(&mut self, io: &mut Io, link: Link) {
        self.drop_link(io, LinkEnd::Lost("replaced by a newer link".into()));
        let owner = Owner::Link {
            tunnel: self.tunnel,
            side: 0,
        };
        match io.insert(link.socket, owner) {
            Ok(socket) => {
                socket::keep_unsent_short(io.fd(socket));
                self.reading = Reading::new(io.now);
                self.link = Some(LinkIo::new(
                    socket,
                    link.records,
                    &link.opened,
                    &link.unread,
                    &mut io.buffers,
                ));
                self.proxy.link_up(io.now);
                if link.carries_credit {
                    self.proxy.use_credit();
                }
            }
            Err(error) => self.tell(TunnelEvent::LinkEnded(LinkEnd::Lost(format!(
                "the link's socket cannot be watched: {error}"
            )))),
        }
    }

    pub(in crate::ring) fn link_ready(&mut self, ready: &Ready) {
        if let Some(link) = &mut self.link {
            link.ready(ready);
        }
    }

    /// Reads the tunnel. Returns whether the turn ended before the bytes did.
    pub(super) fn receive(&mut self, io: &mut Io) -> bool {
        for _ in 0..READS_PER_TURN {
            if self.link.as_ref().is_none_or(|link| !link.may_read()) {
                return false;
            }
            match self.receive_once(io) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(end) => {
                    self.end_link(io, end);
                    return false;
                }
            }
        }
        !self.proxy.is_paused()
    }

    /// Gives up a link that has failed and was not read to its end: an application that takes nothing must not keep
    /// all others from the next link.
    pub(super) fn end_deaf(&mut self, io: &mut Io) {
        let Some(link) = self.link.as_mut().filter(|link| link.is_deaf()) else {
            return;
        };
        let until = *self.read_until.get_or_insert(io.now + READ_OUT);
        if until <= io.now {
            let failure = link.take_failure(io);
            self.end_link(io, LinkEnd::of(&LinkFault::Io(failure)));
        }
    }

    /// Carries out what is in the buffer, then reads once. `Ok(true)`: there may be more.
    pub(super) fn receive_once(&mut self, io: &mut Io) -> Result<bool, LinkEnd> {
        if !self.read_opened(io)? {
            return Ok(false);
        }
        let Some(link) = &mut self.link else {
            return Ok(false);
        };
        let received = match link.receive(io) {
            Ok(Received::Some) => true,
            Ok(Received::Nothing) => return Ok(false),
            Ok(Received::Ended) => return Err(LinkEnd::of(&LinkFault::Ended)),
            Err(error) => return Err(LinkEnd::of(&LinkFault::Io(error))),
        };
        Ok(self.read_opened(io)? && received)
    }

    /// Opens records and hands them to the core until the buffer is used up. `Ok(false)`: the
    /// core is paused.
    pub(super) fn read_opened(&mut self, io: &mut Io) -> Result<bool, LinkEnd> {
        let outcome = loop {
            let Some(link) = &mut self.link else {
                break Ok(false);
            };
            match link.open() {
                Ok(true) => {}
                Ok(false) => break Ok(true),
                Err(fault) => break Err(LinkEnd::of(&fault)),
            }
            let (buffer, position) = link.opened();
            match self.proxy.handle_input(io.now, buffer, position) {
                Ok(Flow::Done) => link.opened_done(),
                Ok(Flow::Deliver) => self.deliver(io),
                Ok(Flow::Paused) => {
                    // What this batch delivers may lift the pause.
                    self.deliver(io);
                    if self.proxy.is_paused() {
                        return Ok(false);
                    }
                }
                Ok(Flow::Closed(code)) => break Err(LinkEnd::Closed(code)),
                Err(error) => break Err(LinkEnd::Violation(error.to_string())),
            }
        };
        // What the peer sent before its end is delivered, whatever that end was.
        self.deliver(io);
        outcome
    }

    /// Composes records while the tunnel takes them. Returns whether the turn ended before the
    /// local sockets did.
    pub(super) fn send(&mut self, io: &mut Io) -> bool {
        let mut moved = 0;
        while moved < OUTPUT_MARK {
            match self.fill_and_flush(io) {
                Ok(0) => return false,
                Ok(size) => moved += size,
                // What the service said before that is read first: the tunnel may be over.
                Err(LinkFault::Io(failure)) => {
                    if let Some(link) = &mut self.link {
                        link.deafen(failure);
                    }
                    return true;
                }
                Err(fault) => {
                    self.end_link(io, LinkEnd::of(&fault));
                    return false;
                }
            }
        }
        self.proxy.wants_output()
    }

    /// Fills the output up to its mark and offers it to the socket. Returns the bytes that were
    /// composed or sent; 0 when there is nothing to do before the next event. What is composed for a link that has failed
    /// is thrown away: control messages that wait would keep it from being read.
    ///
    /// Sending alone is progress too: it may have made the room that composing lacked, and a
    /// socket that took everything reports no edge.
    pub(super) fn fill_and_flush(&mut self, io: &mut Io) -> Result<usize, LinkFault> {
        let Some(link) = &mut self.link else {
            return Ok(0);
        };
        let mut composed = 0;
        while link.has_room() && self.proxy.wants_output() {
            if link.is_deaf() {
                let area = link.area(&mut io.buffers);
                if self.proxy.compose(io.now, area, &mut NoReader) == 0 {
                    break;
                }
                continue;
            }
            if link.has_room_for(BULK_SIZE)
                && let Some(key) = self.proxy.bulk_ready()
            {
                let size = fill_bulk(&mut self.proxy, link, io, key, self.tunnel)?;
                composed += size;
                // Nothing read is no frame, but what it showed may be one.
                continue;
            }
            let area = link.area(&mut io.buffers);
            let size = self.proxy.compose(io.now, area, &mut Reader(io));
            if size == 0 {
                break;
            }
            link.seal(size)?;
            composed += size;
        }
        let sent = link.flush(io)?;
        Ok(if link.is_writable() {
            composed + sent
        } else {
            0
        })
    }

    /// Ends the WebSocket: says why where the peer can still hear it, cuts the connections.
    pub(super) fn end_link(&mut self, io: &mut Io, end: LinkEnd) {
        if self.link.is_none() {
            return;
        }
        if let LinkEnd::Closed(_) = &end {
            self.proxy.close(CloseCode::Normal, "");
        }
        if !matches!(end, LinkEnd::Lost(_)) {
            // Best effort: a peer that does not read learns nothing.
            let _ = self.fill_and_flush(io);
        }
        self.drop_link(io, end);
    }

    pub(super) fn drop_link(&mut self, io: &mut Io, end: LinkEnd) {
        let Some(mut link) = self.link.take() else {
            return;
        };
        if !matches!(end, LinkEnd::Lost(_)) {
            link.close_notify();
        }
        // Best effort: an alert says what was wrong, to a peer that may be gone.
        let _ = link.flush(io);
        io.end(link.socket);
        self.read_until = None;
        self.down_since = io.now;
        self.proxy.link_lost();
        self.act(io);
        self.tell(TunnelEvent::LinkEnded(end));
    }
}
