//! The journal beside `adit.db` (`adit.db-wal`), looked at before SQLite takes it in.
//!
//! SQLite reads it up to the first frame whose checksum is wrong, and drops what is behind without a word. After a
//! loss of power that is the one transaction that was not committed, since each is on disk before the next begins
//! (`synchronous = FULL`). Behind damage it is changes that were acknowledged: then the file is refused.
//!
//! ```text
//! header   32 bytes: magic, version, page size, number, 2 salts, 2 sums over the first 24
//! frame    24 bytes: page, pages of the database if it ends a transaction, 2 salts, 2 sums over everything so far
//!          and one page
//! ```
//!
//! What cannot be told from a loss of power is accepted as one: a journal that was cut off, and damage to its very
//! last transaction. Source: "WAL-mode File Format", section 4 of SQLite's file format.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

/// Whether changes are behind something that SQLite would stop at.
///
/// # Errors
/// The file cannot be read. One that is not there has nothing behind anything.
pub(super) fn is_damaged(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Ok(file) => look(&mut BufReader::new(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn look(journal: &mut impl Read) -> io::Result<bool> {
    let mut header = [0; HEADER_SIZE];
    if !fill(journal, &mut header)? {
        return Ok(false);
    }
    let mut frame = vec![0; FRAME_HEADER_SIZE];
    let Some(mut computed) = Sums::of_header(&header) else {
        // It is on disk before any frame is written.
        return fill(journal, &mut frame);
    };
    frame.resize(FRAME_HEADER_SIZE + word(&header, 8) as usize, 0);
    let round = salts(&header, 16);
    // Where SQLite stops, everything before it is sound.
    let mut is_sound = true;
    let mut has_ended = false;
    let mut stored = computed.clone();
    while fill(journal, &mut frame)? {
        let salts = salts(&frame, 8);
        computed.take_in(&frame);
        stored.take_in(&frame);
        let said = [word(&frame, 16), word(&frame, 20)];
        // Behind damage to the content of a frame its stored sums are right; behind damage to those, the computed.
        let is_next = [computed.sums, stored.sums].contains(&said);
        if is_sound && salts == round && computed.sums == said {
            continue;
        }
        // One transaction may be torn. What goes on behind its end is another one; what was left lying there by
        // a commit that failed does not go on.
        if !is_sound && has_ended && is_next && is_of(round, salts) {
            return Ok(true);
        }
        is_sound = false;
        has_ended = is_of(round, salts) && word(&frame, 4) != 0;
        stored.sums = said;
    }
    Ok(false)
}

/// What frames are summed up to.
#[derive(Clone)]
struct Sums {
    is_big_endian: bool,
    sums: [u32; 2],
}

impl Sums {
    /// `None` where the header does not have the sums that it says.
    fn of_header(header: &[u8; HEADER_SIZE]) -> Option<Self> {
        let magic = word(header, 0);
        let mut sums = Self {
            is_big_endian: magic & 1 == 1,
            sums: [0; 2],
        };
        sums.add(&header[..24]);
        let page_size = word(header, 8);
        let is_sound = magic & !1 == MAGIC
            && sums.sums == [word(header, 24), word(header, 28)]
            && page_size.is_power_of_two()
            && (512..=65_536).contains(&page_size);
        is_sound.then_some(sums)
    }

    fn take_in(&mut self, frame: &[u8]) {
        self.add(&frame[..8]);
        self.add(&frame[FRAME_HEADER_SIZE..]);
    }

    fn add(&mut self, bytes: &[u8]) {
        let [mut first, mut second] = self.sums;
        for pair in bytes.chunks_exact(8) {
            first = first.wrapping_add(self.read(pair)).wrapping_add(second);
            second = second
                .wrapping_add(self.read(&pair[4..]))
                .wrapping_add(first);
        }
        self.sums = [first, second];
    }

    fn read(&self, bytes: &[u8]) -> u32 {
        match self.is_big_endian {
            true => word(bytes, 0),
            false => word(bytes, 0).swap_bytes(),
        }
    }
}

/// Whether a frame was written in this round of the journal, be one of its salts damaged. Of the rounds before, whose
/// frames are behind those of this one, neither is the same: the first salt counts rounds, the second is of chance.
fn is_of(round: u64, salts: u64) -> bool {
    let differs = round ^ salts;
    differs >> 32 == 0 || differs & u64::from(u32::MAX) == 0
}

fn salts(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) << 32 | u64::from(word(bytes, at + 4))
}

/// The number at an offset; big-endian, as all numbers of the file are.
fn word(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes[at..].first_chunk().expect("it is within the header");
    u32::from_be_bytes(*bytes)
}

/// Reads a whole buffer. `false`: there is not as much.
fn fill(journal: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match journal.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

const HEADER_SIZE: usize = 32;

const FRAME_HEADER_SIZE: usize = 24;

/// Its lowest bit says that sums are over big-endian numbers.
const MAGIC: u32 = 0x377f_0682;

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    /// Of two rounds: some frames of the first one are behind those of the second.
    fn two_rounds() -> Vec<u8> {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("db");
        let connection = Connection::open(&path).unwrap();
        let write = |count| {
            for _ in 0..count {
                let insert = "INSERT INTO it VALUES (randomblob(5000))";
                connection.execute_batch(insert).unwrap();
            }
        };
        let begin = "PRAGMA journal_mode = WAL; CREATE TABLE it (bytes);";
        connection.execute_batch(begin).unwrap();
        write(9);
        let restart = "PRAGMA wal_checkpoint(RESTART)";
        connection.query_row(restart, [], |_| Ok(())).unwrap();
        write(2);
        std::fs::read(parent.path().join("db-wal")).unwrap()
    }

    #[test]
    fn what_is_left_of_the_round_before_is_no_damage_however_alike_its_salts_are() {
        let mut journal = two_rounds();
        let (round, page) = (salts(&journal, 16), word(&journal, 8) as usize);
        let mut older = 0;
        for bit in 0..32 {
            // The first salt counts rounds, the second is of chance: it may differ in one bit alone.
            let alike = round.wrapping_sub(1 << 32) ^ (1 << bit);
            let frames = journal[HEADER_SIZE..].chunks_exact_mut(FRAME_HEADER_SIZE + page);
            for frame in frames.filter(|frame| salts(frame, 8) != round) {
                frame[8..16].copy_from_slice(&alike.to_be_bytes());
                older += 1;
            }
            assert!(!look(&mut journal.as_slice()).unwrap(), "bit {bit}");
        }
        assert!(older >= 10 * 32, "{older} frames");
    }
}
