//! A transfer being received, without IO.

use anyhow::{Result, bail, ensure};
use aws_lc_rs::digest;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

use super::{BLOCK_SIZE, Outcome, Transfer, running};

/// Checks a transfer as it comes, each byte at once, in pieces of any size.
pub struct Incoming {
    seed: u64,
    transfer: Option<Transfer>,
    expected: Option<ChaCha8Rng>,
    hash: digest::Context,
    /// Right seeded bytes.
    received: u64,
    part: Part,
    /// What has come of a part that is read as a whole.
    held: Vec<u8>,
    /// What the block under way is made of.
    block: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Header,
    Size,
    /// The seeded bytes of a block, so many of which have come.
    Bytes(usize),
    /// The running hash, and the size of the next block.
    HashAndSize,
    Trailer,
    End,
}

impl Incoming {
    /// At the start of a transfer that was made with `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            transfer: None,
            expected: None,
            hash: digest::Context::new(&digest::SHA256),
            received: 0,
            part: Part::Header,
            held: Vec::new(),
            block: Vec::new(),
        }
    }

    /// What its header says; `None` before that has come.
    #[must_use]
    pub fn transfer(&self) -> Option<Transfer> {
        self.transfer
    }

    /// How it stands: complete, or cut if nothing more comes.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match (self.part, self.transfer) {
            (Part::End, Some(transfer)) => Outcome::Complete(transfer),
            _ => Outcome::Cut {
                received: self.received,
            },
        }
    }

    /// Bytes that are missing of the part under way; 0 at the end of the transfer. More of what a
    /// connection has must not be read than this, where something else follows.
    #[must_use]
    pub fn wanted(&self) -> usize {
        match self.part {
            Part::Bytes(come) => self.block.len() - come,
            part => part.size() - self.held.len(),
        }
    }

    /// Takes what came, up to the end of the transfer, and returns how much that was.
    ///
    /// # Errors
    /// A byte, a hash or the trailer is wrong.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() && self.part != Part::End {
            let (piece, after) = rest.split_at(self.wanted().min(rest.len()));
            rest = after;
            if let Part::Bytes(come) = self.part {
                self.take_seeded(come, piece)?;
                continue;
            }
            self.held.extend_from_slice(piece);
            if self.wanted() == 0 {
                let held = std::mem::take(&mut self.held);
                self.take_part(&held)?;
                self.held = held;
                self.held.clear();
            }
        }
        Ok(bytes.len() - rest.len())
    }

    fn take_seeded(&mut self, come: usize, piece: &[u8]) -> Result<()> {
        let right = &self.block[come..come + piece.len()];
        if let Some(index) = (0..piece.len()).find(|&index| piece[index] != right[index]) {
            bail!(
                "the byte at offset {} is {:#04x} instead of {:#04x}",
                self.received + index as u64,
                piece[index],
                right[index]
            );
        }
        self.hash.update(piece);
        self.received += piece.len() as u64;
        self.part = match come + piece.len() {
            come if come < self.block.len() => Part::Bytes(come),
            _ => Part::HashAndSize,
        };
        Ok(())
    }

    fn take_part(&mut self, held: &[u8]) -> Result<()> {
        match self.part {
            Part::Header => {
                let number = |at: usize| held[at..].first_chunk().map(|x| u64::from_be_bytes(*x));
                let transfer = Transfer {
                    id: number(0).expect("16 bytes"),
                    length: number(8).expect("16 bytes"),
                    seed: self.seed,
                };
                self.expected = Some(transfer.bytes());
                self.transfer = Some(transfer);
                self.part = Part::Size;
                Ok(())
            }
            Part::Size => self.begin_block(held),
            Part::HashAndSize => {
                let (claimed, size) = held.split_at(8);
                let at = self.received;
                ensure!(claimed == running(&self.hash), "the hash at {at} is wrong");
                self.begin_block(size)
            }
            Part::Trailer => {
                let hash = self.hash.clone().finish();
                ensure!(held == hash.as_ref(), "the trailer is wrong");
                let (received, length) = (self.received, self.transfer.map(|x| x.length));
                ensure!(Some(received) == length, "only {received} bytes");
                self.part = Part::End;
                Ok(())
            }
            Part::Bytes(_) | Part::End => Ok(()),
        }
    }

    fn begin_block(&mut self, size: &[u8]) -> Result<()> {
        let size = u32::from_be_bytes(*size.first_chunk().expect("4 bytes")) as usize;
        ensure!(size <= BLOCK_SIZE, "a block of {size} bytes");
        self.block.resize(size, 0);
        if let Some(expected) = &mut self.expected {
            expected.fill_bytes(&mut self.block);
        }
        self.part = match size {
            0 => Part::Trailer,
            _ => Part::Bytes(0),
        };
        Ok(())
    }
}

impl Part {
    /// Of a part that is read as a whole, in bytes.
    const fn size(self) -> usize {
        match self {
            Self::Header => 16,
            Self::Size => 4,
            Self::HashAndSize => 12,
            Self::Trailer => 32,
            Self::Bytes(_) | Self::End => 0,
        }
    }
}
