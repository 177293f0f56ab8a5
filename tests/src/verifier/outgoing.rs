//! A transfer being sent, without IO.

use aws_lc_rs::digest;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

use super::{BLOCK_SIZE, Transfer, running};

/// The bytes of a transfer, made as they are wanted; memory for one block.
pub struct Outgoing {
    bytes: ChaCha8Rng,
    hash: digest::Context,
    /// Seeded bytes that are not in `made` yet.
    left: u64,
    has_trailer: bool,
    made: Vec<u8>,
    /// How much of `made` was sent.
    sent: usize,
}

impl Outgoing {
    /// At the start of `transfer`.
    #[must_use]
    pub fn new(transfer: Transfer) -> Self {
        let header = [transfer.id.to_be_bytes(), transfer.length.to_be_bytes()];
        Self {
            bytes: transfer.bytes(),
            hash: digest::Context::new(&digest::SHA256),
            left: transfer.length,
            has_trailer: false,
            made: header.concat(),
            sent: 0,
        }
    }

    /// What is to be sent next; empty when all of the transfer was.
    pub fn waiting(&mut self) -> &[u8] {
        if self.sent == self.made.len() {
            self.sent = 0;
            self.made.clear();
            self.make();
        }
        &self.made[self.sent..]
    }

    /// So many bytes of what waits were sent.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
    }

    fn make(&mut self) {
        if self.has_trailer {
            return;
        }
        let size = self.left.min(BLOCK_SIZE as u64) as usize;
        self.made.extend((size as u32).to_be_bytes());
        if size == 0 {
            self.has_trailer = true;
            return self.made.extend(self.hash.clone().finish().as_ref());
        }
        let start = self.made.len();
        self.made.resize(start + size, 0);
        self.bytes.fill_bytes(&mut self.made[start..]);
        self.hash.update(&self.made[start..]);
        self.made.extend(running(&self.hash));
        self.left -= size as u64;
    }
}
