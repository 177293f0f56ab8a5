//! Planted mistakes in what the relay passes on, message by message; and the numbers of a source that
//! has others than ours.

use super::bugs::Bug;
use super::gate::at;
use super::numbers::{self, Part, frames, parts};
use super::scene::Scene;
use adit_engine::tunnel::compose::End;
use adit_proto::ids::Mode;
use adit_proto::message::{DataHeader, Kind, MessageView};
use std::borrow::Cow;

/// Between the relay and what it writes to.
pub(super) struct Tamper {
    bug: Option<Bug>,
    ways: [Way; 2],
}

/// To one side.
#[derive(Default)]
struct Way {
    /// The start of a message whose rest is in a later frame.
    partial: Vec<u8>,
    links: u32,
    /// A repeat is still to be planted for its link.
    repeats: bool,
    /// A connection that was named before.
    named: u32,
}

/// What becomes of a message.
enum Change {
    Nothing,
    Lost,
    Swapped,
    Repeated,
    For(u32),
}

/// What passes to one side.
pub(super) struct Towards<'a> {
    bug: Option<Bug>,
    is_source: bool,
    way: &'a mut Way,
    scene: &'a mut Scene,
}

impl Tamper {
    /// Plants `bug` if it is one of these.
    #[must_use]
    pub(super) fn new(bug: Option<Bug>) -> Self {
        let of_messages = [
            Bug::LostData,
            Bug::SwappedData,
            Bug::RepeatedData,
            Bug::WrongConnection,
            Bug::LostReset,
            Bug::EagerReset,
            Bug::LostCredit,
        ];
        Self {
            bug: bug.filter(|bug| of_messages.contains(bug)),
            ways: Default::default(),
        }
    }

    /// A side has a new link.
    pub(super) fn connected(&mut self, mode: Mode) {
        let way = &mut self.ways[at(mode)];
        way.partial.clear();
        way.links += 1;
        way.repeats = way.links > 1;
    }

    /// What passes to this side now.
    pub(super) fn towards<'a>(&'a mut self, scene: &'a mut Scene, to: Mode) -> Towards<'a> {
        Towards {
            bug: self.bug,
            is_source: to == Mode::Source,
            way: &mut self.ways[at(to)],
            scene,
        }
    }
}

impl Towards<'_> {
    /// What becomes of frames that the relay has composed of its own messages.
    pub(super) fn renumber<'b>(&mut self, frames: &'b [u8]) -> Cow<'b, [u8]> {
        let numbers = self.scene.profile.numbers;
        match self.is_source && !numbers.is_ours() {
            true => {
                let partial = &mut self.way.partial;
                Cow::Owned(numbers.of_frames(numbers::Way::Down, None, frames, partial))
            }
            false => Cow::Borrowed(frames),
        }
    }

    /// What becomes of frames that the relay has made of what it forwards.
    pub(super) fn pass<'b>(&mut self, frames: &'b [u8]) -> Cow<'b, [u8]> {
        self.scene.moved += 1;
        let Some(bug) = self.bug else {
            return self.renumber(frames);
        };
        let parts = parts(frames, &mut self.way.partial);
        let changed = parts.into_iter().flat_map(|part| match part {
            Part::Control(frame) => frame.to_vec(),
            Part::Messages(messages) => self.change(bug, messages),
        });
        Cow::Owned(changed.collect())
    }

    fn change(&mut self, bug: Bug, mut messages: Vec<Vec<u8>>) -> Vec<u8> {
        let mut at = 0;
        while at < messages.len() {
            let change = self.choose(bug, &messages[at], messages.get(at + 1));
            at += 1;
            match change {
                Change::Nothing => {}
                Change::Lost => {
                    at -= 1;
                    messages.remove(at);
                }
                Change::Swapped => {
                    messages.swap(at - 1, at);
                    at += 1;
                }
                Change::Repeated => {
                    messages.insert(at, messages[at - 1].clone());
                    at += 1;
                }
                Change::For(other) => messages[at - 1] = readdressed(&messages[at - 1], other),
            }
        }
        let numbers = self.scene.profile.numbers;
        if self.is_source && !numbers.is_ours() {
            for message in &mut messages {
                *message = numbers.of_message(numbers::Way::Down, None, message);
            }
        }
        let framed = messages.iter();
        framed
            .flat_map(|message| frames(End::Server, message))
            .collect()
    }

    fn choose(&mut self, bug: Bug, message: &[u8], next: Option<&Vec<u8>>) -> Change {
        let Ok(view) = MessageView::parse(&message[2..]) else {
            return Change::Nothing;
        };
        let next = next.and_then(|next| MessageView::parse(&next[2..]).ok());
        let next = next.filter(|next| {
            (next.stream_id, next.service_id) == (view.stream_id, view.service_id)
                && (next.connection_id == view.connection_id || next.kind == Kind::StreamReset)
        });
        let next = next.map(|next| next.kind);
        let is_reset = |kind| matches!(kind, Kind::ConnectionReset | Kind::StreamReset);
        let is_data = view.kind == Kind::Data;
        match bug {
            Bug::LostData if is_data && self.scene.errs(bug, 50) => Change::Lost,
            Bug::LostReset if is_reset(view.kind) && self.scene.errs(bug, 300) => Change::Lost,
            Bug::LostCredit if view.kind == Kind::Credit && self.scene.errs(bug, 300) => {
                Change::Lost
            }
            Bug::SwappedData if is_data && next == Some(Kind::Data) => Change::Swapped,
            Bug::EagerReset if is_data && next.is_some_and(is_reset) => Change::Swapped,
            Bug::RepeatedData if is_data && std::mem::take(&mut self.way.repeats) => {
                Change::Repeated
            }
            Bug::WrongConnection if is_data && view.connection_id > 0 => {
                let other = std::mem::replace(&mut self.way.named, view.connection_id);
                let is_other = other > 0 && other != view.connection_id;
                match is_other && self.scene.errs(bug, 300) {
                    true => Change::For(other),
                    false => Change::Nothing,
                }
            }
            _ => Change::Nothing,
        }
    }
}

/// The same DATA for another connection.
fn readdressed(message: &[u8], connection_id: u32) -> Vec<u8> {
    let view = MessageView::parse(&message[2..]).expect("it was parsed before");
    let header = DataHeader {
        stream_id: view.stream_id,
        service_id: view.service_id,
        connection_id,
    };
    let mut bytes = vec![0; header.size(view.payload.len())];
    header.write(view.payload.len(), &mut bytes);
    bytes.extend_from_slice(view.payload);
    bytes
}
