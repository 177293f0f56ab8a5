//! Who may send next: deficit round robin with a list for those that were quiet.
//!
//! Connections that become ready after being idle are served before those that have been
//! sending, once for each round (the two lists of FQ-CoDel, RFC 8290 §4.1): a keystroke passes a
//! bulk transfer, and a bulk transfer is never starved by many keystrokes.

use super::key::ConnectionKey;
use super::limits::{MIN_READ_ROOM, QUANTUM};
use std::collections::VecDeque;

/// A connection's place in the schedule; lives in the connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turn {
    place: Place,
    /// Bytes it may still send before the next one is served.
    deficit: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Idle,
    New,
    Old,
    /// Drained, but still in the old list: becoming ready now does not make it new again, else a
    /// stream of small writes could starve the old list.
    Resting,
}

/// The two lists. Each connection is in at most one of them, at most once. One that ended is
/// named until its turn comes or `forget_ended` sweeps it out.
#[derive(Default)]
pub struct Schedule {
    new: VecDeque<ConnectionKey>,
    old: VecDeque<ConnectionKey>,
}

/// Where the schedule finds the turns of connections.
pub trait Turns {
    /// The turn of a connection; `None` when it is gone.
    fn turn(&mut self, key: ConnectionKey) -> Option<&mut Turn>;
}

impl Schedule {
    /// Marks a connection as having something to send.
    pub fn ready(&mut self, key: ConnectionKey, turn: &mut Turn) {
        match turn.place {
            Place::Idle => {
                *turn = Turn {
                    place: Place::New,
                    deficit: QUANTUM,
                };
                self.new.push_back(key);
            }
            Place::Resting => turn.place = Place::Old,
            Place::New | Place::Old => {}
        }
    }

    /// Entries of both lists, those of connections that ended included.
    pub(crate) fn size(&self) -> usize {
        self.new.len() + self.old.len()
    }

    /// Whether somebody may be waiting. A `true` may turn out stale: `next` decides.
    pub fn is_waiting(&self) -> bool {
        !self.new.is_empty() || !self.old.is_empty()
    }

    /// The connection to serve now, and the bytes it may send. It stays in front until
    /// `sent`, `drained` or `remove` moves it.
    pub fn next(&mut self, turns: &mut impl Turns) -> Option<(ConnectionKey, u32)> {
        loop {
            let list = if self.new.is_empty() {
                &mut self.old
            } else {
                &mut self.new
            };
            let key = *list.front()?;
            let Some(turn) = turns.turn(key) else {
                list.pop_front();
                continue;
            };
            match turn.place {
                // A rest too small to be worth a message waits for the next round.
                Place::New | Place::Old if turn.deficit as usize >= MIN_READ_ROOM => {
                    return Some((key, turn.deficit));
                }
                Place::New | Place::Old => {
                    list.pop_front();
                    // A rest too small to be worth a message is added to the next turn.
                    *turn = Turn {
                        place: Place::Old,
                        deficit: turn.deficit + QUANTUM,
                    };
                    self.old.push_back(key);
                }
                Place::Resting => {
                    list.pop_front();
                    *turn = Turn::default();
                }
                // `drained` takes idle connections out of both lists.
                Place::Idle => {
                    list.pop_front();
                }
            }
        }
    }

    /// The connection to serve now, if it alone is waiting.
    pub fn only(&self, turns: &mut impl Turns) -> Option<ConnectionKey> {
        let key = match (self.new.front(), self.old.front()) {
            (Some(key), None) if self.new.len() == 1 => *key,
            (None, Some(key)) if self.old.len() == 1 => *key,
            _ => return None,
        };
        let turn = turns.turn(key)?;
        matches!(turn.place, Place::New | Place::Old).then_some(key)
    }

    /// Keeps the lists bounded while nothing is served: `open` connections exist, and at most as
    /// many that ended, and a few, stay named. A sweep costs less than the ends since the last.
    pub fn forget_ended(&mut self, open: usize, turns: &mut impl Turns) {
        if self.new.len() + self.old.len() > 2 * open + ENDED_MAX {
            self.new.retain(|key| turns.turn(*key).is_some());
            self.old.retain(|key| turns.turn(*key).is_some());
        }
    }

    /// Records that the front connection sent `count` bytes and may have more.
    pub fn sent(&mut self, turn: &mut Turn, count: usize) {
        turn.deficit = turn.deficit.saturating_sub(count as u32);
    }

    /// Records that the front connection has nothing more for now.
    pub fn drained(&mut self, key: ConnectionKey, turn: &mut Turn) {
        if self.new.front() == Some(&key) && turn.place == Place::New {
            self.new.pop_front();
            // Rest at the end of the old list for one round, as RFC 8290 §4.2 asks.
            turn.place = Place::Resting;
            turn.deficit = QUANTUM;
            if self.old.is_empty() {
                *turn = Turn::default();
            } else {
                self.old.push_back(key);
            }
        } else if self.old.front() == Some(&key) && turn.place == Place::Old {
            self.old.pop_front();
            *turn = Turn::default();
        } else if turn.place != Place::Idle {
            // Not in front (it ended elsewhere): it leaves when its turn comes.
            turn.place = Place::Resting;
        }
    }
}

/// Ended connections that the lists may name beside one for each open one.
const ENDED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    struct Lab {
        schedule: Schedule,
        turns: Vec<Turn>,
    }

    impl Turns for Vec<Turn> {
        fn turn(&mut self, key: ConnectionKey) -> Option<&mut Turn> {
            self.get_mut(key.index as usize)
        }
    }

    fn key(index: usize) -> ConnectionKey {
        ConnectionKey {
            index: index as u32,
            generation: 0,
        }
    }

    impl Lab {
        fn new(count: usize) -> Self {
            Self {
                schedule: Schedule::default(),
                turns: vec![Turn::default(); count],
            }
        }

        fn ready(&mut self, index: usize) {
            self.schedule.ready(key(index), &mut self.turns[index]);
        }

        fn drained(&mut self, index: usize) {
            self.schedule.drained(key(index), &mut self.turns[index]);
        }

        /// Serves one read of at most `size(connection)` bytes; returns who was served, how much.
        fn serve(&mut self, size: impl Fn(usize) -> usize) -> Option<(usize, usize)> {
            let (key, deficit) = self.schedule.next(&mut self.turns)?;
            let index = key.index as usize;
            let count = size(index).min(deficit as usize);
            self.schedule.sent(&mut self.turns[index], count);
            Some((index, count))
        }
    }

    #[test]
    fn bulk_senders_share_equally_whatever_their_read_sizes() {
        let mut lab = Lab::new(3);
        (0..3).for_each(|index| lab.ready(index));
        let mut bytes = [0usize; 3];
        for _ in 0..3000 {
            let (index, count) = lab
                .serve(|index| 1000 + 5000 * index)
                .expect("all are ready");
            bytes[index] += count;
        }
        let (least, most) = (bytes.iter().min().unwrap(), bytes.iter().max().unwrap());
        assert!(most - least <= 2 * QUANTUM as usize, "{bytes:?}");
    }

    #[test]
    fn a_quiet_connection_passes_bulk() {
        let mut lab = Lab::new(3);
        lab.ready(0);
        lab.ready(1);
        for _ in 0..10 {
            lab.serve(|_| 4096);
        }
        lab.ready(2);
        assert_eq!(lab.serve(|_| 10), Some((2, 10)));
    }

    #[test]
    fn one_connection_is_alone_until_another_waits_and_again_when_that_is_served() {
        let mut lab = Lab::new(2);
        let only = |lab: &mut Lab| lab.schedule.only(&mut lab.turns);
        assert_eq!(only(&mut lab), None);
        lab.ready(0);
        assert_eq!(only(&mut lab), Some(key(0)));
        // More than its turn, since nobody is kept waiting.
        let turn = &mut lab.turns[0];
        lab.schedule.sent(turn, 5 * QUANTUM as usize);
        assert_eq!(only(&mut lab), Some(key(0)));
        lab.ready(1);
        assert_eq!(only(&mut lab), None);
        assert_eq!(lab.serve(|_| 10), Some((1, 10)), "it is the other's turn");
        lab.drained(1);
        assert_eq!(lab.serve(|_| 10), Some((0, 10)));
        // The other one rests at the end of the list until its turn has come.
        lab.serve(|_| QUANTUM as usize);
        lab.serve(|_| 10);
        assert_eq!(only(&mut lab), Some(key(0)));
        lab.drained(0);
        assert_eq!(only(&mut lab), None);
    }

    #[test]
    fn many_small_writers_do_not_starve_bulk() {
        let mut lab = Lab::new(11);
        lab.ready(0);
        let mut bulk = 0;
        for _ in 0..2200 {
            let (index, _) = lab
                .serve(|index| if index == 0 { 16_384 } else { 10 })
                .expect("bulk is ready");
            if index == 0 {
                bulk += 1;
            } else {
                lab.drained(index);
            }
            // Each small writer is ready again at once.
            (1..11).for_each(|index| lab.ready(index));
        }
        // Each of the ten may pass it twice a round: once as new, once from its rest.
        assert!(
            bulk >= 2200 / 22,
            "bulk was served {bulk} times in 2,200 turns"
        );
    }

    #[test]
    fn a_drained_connection_is_not_served() {
        let mut lab = Lab::new(2);
        lab.ready(0);
        lab.ready(1);
        assert_eq!(lab.serve(|_| 5), Some((0, 5)));
        lab.drained(0);
        assert_eq!(lab.serve(|_| 5), Some((1, 5)));
        lab.drained(1);
        assert_eq!(lab.serve(|_| 5), None);
        assert!(!lab.schedule.is_waiting());
    }
}
