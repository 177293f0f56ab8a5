//! Masking: XOR with a key of four bytes, over and over (RFC 6455 §5.3).

use std::ops::Range;

/// Masks or unmasks `data`, whose first byte is byte `phase` of its frame's payload.
#[inline]
pub fn mask(key: [u8; 4], phase: usize, data: &mut [u8]) {
    let word = key_word(key, phase);
    let (blocks, rest) = data.as_chunks_mut::<BLOCK_SIZE>();
    for block in blocks {
        *block = xor_block(block, word);
    }
    xor_short(word, rest);
}

/// Moves `buffer[from]` to where it starts at `to`, and masks it on the way, from phase 0.
///
/// The two places may overlap. One pass over the bytes instead of two: they are in the cache once.
///
/// # Panics
/// When `to` is behind `from.start`, or `from` is not inside `buffer`.
#[inline]
pub fn move_masked(buffer: &mut [u8], from: Range<usize>, to: usize, key: [u8; 4]) {
    assert!(to <= from.start, "only moves towards the front");
    let distance = from.start - to;
    // From where the first byte goes to where the last one comes from.
    let window = &mut buffer[to..from.end];
    let size = window.len() - distance;
    let word = key_word(key, 0);
    let mut done = 0;
    // A block is read whole before it is written, and what is written lies in front of what is still
    // to be read: to + done + BLOCK_SIZE <= from.start + done + BLOCK_SIZE.
    while let Some(source) = window.get(done + distance..)
        && let Some((block, _)) = source.split_first_chunk::<BLOCK_SIZE>()
    {
        let masked = xor_block(block, word);
        window[done..done + BLOCK_SIZE].copy_from_slice(&masked);
        done += BLOCK_SIZE;
    }
    // BLOCK_SIZE is a multiple of the key's size, so the phase is 0 again.
    window.copy_within(done + distance.., done);
    xor_short(word, &mut window[done..size]);
}

/// Bytes handled at a time: four words, enough to hide the loop's own cost.
const BLOCK_SIZE: usize = 32;

/// The key twice, turned so that the first byte of the word masks byte `phase`.
#[inline]
fn key_word(key: [u8; 4], phase: usize) -> u64 {
    let turn = 8 * (phase as u32 & 3);
    let half = u64::from(u32::from_le_bytes(key).rotate_right(turn));
    half << 32 | half
}

/// The key is a little-endian word here and the data is read the same way, so it works on any machine.
#[inline]
fn xor_block(block: &[u8; BLOCK_SIZE], word: u64) -> [u8; BLOCK_SIZE] {
    let mut masked = [0; BLOCK_SIZE];
    let (words, _) = block.as_chunks::<8>();
    let (out, _) = masked.as_chunks_mut::<8>();
    for (out, bytes) in out.iter_mut().zip(words) {
        *out = (u64::from_le_bytes(*bytes) ^ word).to_le_bytes();
    }
    masked
}

/// Fewer bytes than a block.
#[inline]
fn xor_short(word: u64, data: &mut [u8]) {
    let (words, rest) = data.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_le_bytes(*bytes) ^ word).to_le_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(word.to_le_bytes()) {
        *byte ^= key;
    }
}
