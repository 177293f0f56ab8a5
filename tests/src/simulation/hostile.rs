//! A peer with a good token that says anything: messages in any order with ids of others, and
//! sometimes what is no message at all.

use super::dice::Dice;
use super::link::LinkId;
use super::pipe::Got;
use super::queue::Queue;
use super::scene::Scene;
use adit_proto::message::{Control, Credit, DataHeader, Kind, encode_service_ids};
use adit_proto::websocket::{CloseCode, FrameHeader, Opcode, mask, write_close, write_control};

/// One hostile session.
pub(super) struct Hostile {
    /// Its link.
    pub(super) link: LinkId,
    out: Queue,
    acts_left: usize,
}

impl Hostile {
    /// A session over `link`.
    #[must_use]
    pub(super) fn new(link: LinkId, dice: &mut Dice) -> Self {
        Self {
            link,
            out: Queue::default(),
            acts_left: 5 + dice.below(300),
        }
    }

    /// Reads something, says something. False: it is over.
    pub(super) fn act(&mut self, scene: &mut Scene) -> bool {
        let now = scene.now;
        let max = scene.read_size();
        let got = scene.link(self.link).down.read(now, max);
        self.acts_left = self.acts_left.saturating_sub(1);
        if matches!(got, Got::Ended | Got::Reset) || self.acts_left == 0 {
            let link = scene.link(self.link);
            link.up.finish();
            return false;
        }
        if self.out.size() < 100_000 {
            let names = scene.profile.services.iter();
            let names: Vec<String> = names.map(|name| name.as_str().to_owned()).collect();
            let bytes = speak(&mut scene.dice, &names);
            self.out.push(&bytes);
        }
        let Scene { links, dice, .. } = scene;
        if let Some(link) = links.get_mut(&self.link) {
            let count = link.up.write(now, dice, self.out.waiting());
            self.out.consume(count);
            scene.moved += count as u64;
        }
        true
    }
}

fn speak(dice: &mut Dice, names: &[String]) -> Vec<u8> {
    let mut content = Vec::new();
    match dice.below(200) {
        0 => {
            content.resize(1 + dice.below(60), 0);
            dice.fill(&mut content);
            return content;
        }
        1 => {
            content.resize(1 + dice.below(60), 0);
            dice.fill(&mut content);
        }
        2 => {
            let mut bytes = Vec::new();
            write_close(CloseCode::GoingAway, "", Some(KEY), &mut bytes);
            return bytes;
        }
        3..=8 => {
            let mut bytes = Vec::new();
            let opcode = dice.pick(&[Opcode::Ping, Opcode::Pong]);
            write_control(opcode, b"hello", Some(KEY), &mut bytes);
            return bytes;
        }
        _ => {
            for _ in 0..1 + dice.below(4) {
                say(dice, names, &mut content);
            }
        }
    }
    frame(&content)
}

fn say(dice: &mut Dice, names: &[String], out: &mut Vec<u8>) {
    let service_id = match (dice.below(40), names) {
        (0, _) | (_, []) => "",
        (1, _) => "nobody's",
        (_, names) => &names[dice.below(names.len())],
    };
    let stream_id = match dice.below(60) {
        0 => -1,
        1 => 0,
        _ => 1 + dice.below(4) as i32,
    };
    let connection_id = match dice.below(20) {
        0 => 0,
        _ => 1 + dice.below(8) as u32,
    };
    match dice.below(22) {
        20 => Credit::ANNOUNCEMENT.encode(out),
        21 => {
            let limit = [0, dice.size(1 << 20) as u64, u64::MAX];
            Credit {
                stream_id,
                service_id,
                connection_id,
                limit: dice.pick(&limit),
            }
            .encode(out);
        }
        0..=8 => {
            let header = DataHeader {
                stream_id,
                service_id,
                connection_id,
            };
            let mut payload = vec![0; dice.size(2_000)];
            dice.fill(&mut payload);
            let start = out.len();
            out.resize(start + header.size(payload.len()), 0);
            header.write(payload.len(), &mut out[start..]);
            out.extend(payload);
        }
        9 if dice.chance(100) => encode_service_ids([].iter(), false, out),
        kind => {
            let kind = draw_kind(dice, kind);
            let connection_id = match kind {
                Kind::StreamReset => 0,
                _ => connection_id,
            };
            Control {
                kind,
                stream_id,
                service_id,
                connection_id,
            }
            .encode(out);
        }
    }
}

fn draw_kind(dice: &mut Dice, of_twenty: usize) -> Kind {
    match of_twenty {
        9..=12 => Kind::StreamStart,
        13..=15 => Kind::ConnectionStart,
        16 | 17 => Kind::ConnectionReset,
        18 => Kind::StreamReset,
        _ if dice.chance(100) => dice.pick(&[Kind::SessionReset, Kind::Unknown(77)]),
        _ => Kind::ConnectionReset,
    }
}

fn frame(content: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        fin: true,
        opcode: Opcode::Binary,
        mask: Some(KEY),
        payload_size: content.len() as u64,
    };
    let mut bytes = vec![0; header.size()];
    header.write(&mut bytes);
    let start = bytes.len();
    bytes.extend_from_slice(content);
    mask(KEY, 0, &mut bytes[start..]);
    bytes
}

const KEY: [u8; 4] = [0x5a, 0x13, 0xc7, 0x88];
