//! Who sends next.
//!
//! Held fixed: all connections stay ready and send the same size. Their turns are found through a
//! hash map by key, which is about what the slots of a proxy cost.

use crate::Case;
use crate::proxy::{Local, running};
use adit_engine::tunnel::key::ConnectionKey;
use adit_engine::tunnel::schedule::{Schedule, Turn, Turns};
use adit_proto::ids::Mode;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;

/// Turns given in one run.
const TURNS: usize = 2_000;

/// One, and very many.
pub fn cases() -> Vec<Case> {
    [1, 64, 1_000].into_iter().map(turns).collect()
}

fn turns(connections: usize) -> Case {
    let name = format!("schedule/next/{connections}_conn/16_KiB");
    Case::new(name, TURNS, 0, move || {
        let keys = running(Mode::Source, connections, Local::Silent).keys;
        let mut table = Table::default();
        table
            .0
            .extend(keys.iter().map(|key| (*key, Turn::default())));
        let mut schedule = Schedule::default();
        for key in keys {
            let turn = table.turn(key).expect("it is in the table");
            schedule.ready(key, turn);
        }
        move || {
            for _ in 0..TURNS {
                let (key, deficit) = schedule.next(&mut table).expect("all are ready");
                let turn = table.turn(key).expect("it is in the table");
                schedule.sent(turn, black_box(deficit) as usize);
            }
        }
    })
}

#[derive(Default)]
struct Table(HashMap<ConnectionKey, Turn, BuildHasherDefault<Mix>>);

impl Turns for Table {
    fn turn(&mut self, key: ConnectionKey) -> Option<&mut Turn> {
        self.0.get_mut(&key)
    }
}

/// Fast, and the same in every process: a seeded hasher would make counts differ.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.0 = (self.0.rotate_left(5) ^ u64::from(word)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}
