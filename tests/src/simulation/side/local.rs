//! A proxy's local sockets: accepted, dialled, read and written, as the product's driver does.

use super::super::application::Manner;
use super::super::bugs::Bug;
use super::super::scene::Scene;
use super::super::socket::Use;
use super::super::verdict::Cause;
use super::Side;
use adit_engine::tunnel::key::ConnectionKey;
use adit_engine::tunnel::send::LocalReader;
use anyhow::{Result, ensure};
use std::io::{self, IoSlice};

impl Side {
    /// An application connects (source). False: it is not taken now.
    ///
    /// # Errors
    /// The core does what it must not.
    pub(in super::super) fn accept(
        &mut self,
        scene: &mut Scene,
        service: u32,
        manner: Option<Manner>,
    ) -> Result<bool> {
        if self.proxy.is_outbox_full() || self.proxy.keeps_waiting(service) {
            return Ok(false);
        }
        let is_welcome = self.proxy.unwelcome(service).is_none();
        let socket = scene.next_socket();
        let key = self.proxy.accepted(scene.now, service, socket);
        ensure!(
            key.is_some() == is_welcome,
            "it says that it would, and does not"
        );
        self.refused = self.proxy.counters().refused;
        if let Some(key) = key {
            scene.add_end(socket, self.mode, service, key, manner);
            self.proxy.readable(key, scene.profile.people.reads_short);
        }
        self.carry_out(scene, Cause::Accept)?;
        Ok(key.is_some())
    }

    /// A dial has come to its end (destination).
    ///
    /// # Errors
    /// The core does what it must not.
    pub(in super::super) fn finish_dial(&mut self, scene: &mut Scene) -> Result<()> {
        if self.dials.is_empty() {
            return Ok(());
        }
        let (key, service) = self.dials.remove(scene.dice.below(self.dials.len()));
        scene.moved += 1;
        if !scene.is_polite && scene.dice.chance(scene.profile.people.refused) {
            scene.refusals += 1;
            self.proxy.dial_failed(key);
            return self.carry_out(scene, Cause::Other);
        }
        let socket = scene.next_socket();
        if self.proxy.dialled(scene.now, key, socket) {
            scene.add_end(socket, self.mode, service, key, None);
            self.flush(scene, socket, key)?;
            self.proxy.readable(key, scene.profile.people.reads_short);
        }
        self.carry_out(scene, Cause::Other)
    }

    /// Tells the core of what has changed at local sockets, of some or of all of them.
    ///
    /// # Errors
    /// The core does what it must not.
    pub(in super::super) fn events(&mut self, scene: &mut Scene) -> Result<()> {
        let mode = self.mode;
        let changed = scene.ends.iter().filter(|(_, end)| {
            let socket = &end.socket;
            end.mode == mode && end.is_open() && (socket.readable || socket.writable || socket.gone)
        });
        let changed: Vec<u32> = changed.map(|(id, _)| *id).collect();
        for id in changed {
            if !scene.is_polite && scene.dice.chance(300) {
                continue;
            }
            let end = scene.ends.get_mut(&id).expect("it was just there");
            let key = end.key;
            let socket = &mut end.socket;
            let has_ended = socket.app() != Use::Open;
            let gone = std::mem::take(&mut socket.gone);
            let readable = std::mem::take(&mut socket.readable);
            let writable = std::mem::take(&mut socket.writable);
            scene.moved += 1;
            if gone {
                self.proxy.gone(key);
                self.carry_out(scene, Cause::Local)?;
            }
            if readable {
                // An end in the same edge hides behind the bytes in front of it.
                let is_short = scene.profile.people.reads_short || has_ended;
                self.proxy.readable(key, is_short);
            }
            if writable && !scene.errs(Bug::StuckWindow, 300) {
                self.flush(scene, id, key)?;
            }
        }
        Ok(())
    }

    pub(super) fn deliver(&mut self, scene: &mut Scene, buffer: &[u8]) -> Result<()> {
        let deliveries: Vec<_> = self.proxy.deliveries().collect();
        for delivery in deliveries {
            let mut parts = [IoSlice::new(&[]); 64];
            let count = self
                .proxy
                .delivery_parts(delivery.index, buffer, &mut parts);
            let parts = &parts[..count];
            let size: usize = parts.iter().map(|part| part.len()).sum();
            ensure!(
                (count, size) == (delivery.parts, delivery.size),
                "parts of a delivery"
            );
            let result = offer(scene, delivery.io, parts);
            self.proxy
                .delivered(scene.now, delivery.index, buffer, result);
        }
        self.proxy.clear_deliveries();
        self.carry_out(scene, Cause::Input)
    }

    pub(super) fn flush(
        &mut self,
        scene: &mut Scene,
        socket: u32,
        key: ConnectionKey,
    ) -> Result<()> {
        while scene.ends[&socket].is_open()
            && let Some(io) = self.proxy.writable(key)
        {
            ensure!(io == socket, "the socket of another connection");
            let mut parts = [IoSlice::new(&[]); 8];
            let count = self.proxy.queued_parts(key, &mut parts);
            let offered: usize = parts[..count].iter().map(|part| part.len()).sum();
            ensure!(offered > 0, "bytes wait");
            let result = offer(scene, io, &parts[..count]);
            let is_short = result.as_ref().map_or(true, |taken| *taken < offered);
            self.proxy.flushed(scene.now, key, result);
            self.carry_out(scene, Cause::Local)?;
            if is_short {
                break;
            }
        }
        Ok(())
    }
}

fn offer(scene: &mut Scene, socket: u32, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let now = scene.now;
    let lies = scene.errs(Bug::ShortWrite, 100);
    let end = scene.ends.get_mut(&socket).expect("the number of a socket");
    let taken = end.socket.send(parts)?;
    end.taken_at = now;
    scene.moved += taken as u64;
    let offered: usize = parts.iter().map(|part| part.len()).sum();
    Ok(if lies { offered } else { taken })
}

/// Local sockets as the core reads them.
pub(super) struct Reader<'a>(pub(super) &'a mut Scene);

impl LocalReader for Reader<'_> {
    fn receive(&mut self, io: u32, into: &mut [u8]) -> io::Result<usize> {
        let Self(scene) = self;
        let is_short = scene.profile.people.reads_short && scene.dice.chance(300);
        let forgets = scene.errs(Bug::ForgottenHalfClose, 500);
        let now = scene.now;
        let end = scene.ends.get_mut(&io).expect("the number of a socket");
        let result = end.socket.receive(into, is_short);
        if matches!(result, Ok(0)) {
            if forgets {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            end.ended_at.get_or_insert(now);
        }
        result
    }
}
