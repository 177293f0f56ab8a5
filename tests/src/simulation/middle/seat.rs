//! A side that is connected to the relay.

use super::super::input::Input;
use super::super::link::LinkId;
use super::super::queue::Queue;
use super::super::tamper::Towards;
use adit_engine::tunnel::limits::MAX_RECORD_PLAINTEXT;
use adit_engine::tunnel::relay::{Composer, Frames, Relay};
use std::ops::Range;

/// A frame of the relay, at most.
pub(super) const FRAME: usize = MAX_RECORD_PLAINTEXT;

/// A side that is connected: its link, and the frame being composed for it.
pub(super) struct Seat {
    pub(super) link: LinkId,
    pub(super) session: u64,
    pub(super) is_hostile: bool,
    pub(super) input: Option<Input>,
    /// What its link has not taken.
    pub(super) out: Queue,
    composer: Composer,
    area: Vec<u8>,
}

impl Seat {
    /// One that nothing was read from.
    #[must_use]
    pub(super) fn new(link: LinkId, session: u64, is_hostile: bool) -> Self {
        Self {
            link,
            session,
            is_hostile,
            input: None,
            out: Queue::default(),
            composer: Composer::default(),
            area: vec![0; FRAME],
        }
    }

    /// Takes what the relay forwards out of `buffer`.
    pub(super) fn forward(&mut self, relay: &Relay, buffer: &mut [u8], way: &mut Towards<'_>) {
        let (composer, mut output) = self.parts(way);
        composer.forward(relay, buffer, &mut output);
    }

    /// Ends the frame being composed.
    pub(super) fn finish(&mut self, way: &mut Towards<'_>) {
        let (composer, mut output) = self.parts(way);
        composer.finish(&mut output);
    }

    fn parts<'a, 'b>(&'a mut self, way: &'a mut Towards<'b>) -> (&'a mut Composer, Output<'a, 'b>) {
        let output = Output {
            out: &mut self.out,
            area: &mut self.area,
            way,
        };
        (&mut self.composer, output)
    }
}

/// Where frames go.
struct Output<'a, 'b> {
    out: &'a mut Queue,
    area: &'a mut Vec<u8>,
    way: &'a mut Towards<'b>,
}

impl Frames for Output<'_, '_> {
    fn area(&mut self, _: bool) -> Option<&mut [u8]> {
        Some(self.area)
    }

    fn seal(&mut self, size: usize) {
        self.out.push(&self.way.pass(&self.area[..size]));
    }

    fn seal_from(&mut self, buffer: &mut [u8], frame: Range<usize>) {
        self.out.push(&self.way.pass(&buffer[frame]));
    }

    fn can_carry(&self) -> bool {
        true
    }
}
