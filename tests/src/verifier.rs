//! Transfers that prove themselves: no wrong byte, no silent cut.
//!
//! ```text
//! header   id u64 · length u64
//! block*   size u32, 1..=16384 · size seeded bytes · running hash, 8 bytes
//! trailer  size u32 = 0 · SHA-256 of all seeded bytes, 32 bytes
//! ```
//!
//! All numbers are big endian. The bytes follow from seed and id, so the first wrong one
//! is named with its offset; the hashes hold for a receiver that knows neither.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::digest;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The most seeded bytes of one block.
const BLOCK_SIZE: usize = 16 * 1024;

/// What is sent: which bytes, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Tells transfers of one test apart: bytes of another are wrong bytes.
    pub id: u64,
    /// The number of seeded bytes.
    pub length: u64,
    /// The test's seed.
    pub seed: u64,
}

/// How a transfer arrived. A wrong byte is neither: it is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it, with its trailer.
    Complete(Transfer),
    /// The connection ended before the trailer, after this many right bytes. The end was
    /// noticed, so this is no silent cut.
    Cut {
        /// The seeded bytes that had arrived.
        received: u64,
    },
}

impl Outcome {
    /// The transfer, which must have come to its end.
    ///
    /// # Errors
    /// It was cut.
    pub fn complete(self) -> Result<Transfer> {
        match self {
            Self::Complete(transfer) => Ok(transfer),
            Self::Cut { received } => bail!("cut after {received} bytes"),
        }
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, length, seed } = self;
        write!(f, "transfer {id} of {length} bytes, seed {seed}")
    }
}

impl Transfer {
    /// Sends the transfer; the connection stays open.
    ///
    /// # Errors
    /// The connection fails.
    pub async fn send(&self, to: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
        self.write(to).await.with_context(|| format!("send {self}"))
    }

    /// Receives a transfer made with `seed` and checks every byte of it.
    ///
    /// # Errors
    /// A byte, a hash or the trailer is wrong.
    pub async fn receive(from: &mut (impl AsyncRead + Unpin), seed: u64) -> Result<Outcome> {
        let (Some(id), Some(length)) = (number(from).await?, number(from).await?) else {
            return Ok(Outcome::Cut { received: 0 });
        };
        let transfer = Self { id, length, seed };
        transfer
            .receive_rest(from)
            .await
            .with_context(|| format!("receive {transfer}"))
    }

    /// Sends this transfer and receives the peer's at the same time; the peer runs
    /// [`answer`].
    ///
    /// # Errors
    /// Either fails, is cut, or the peer's is not the expected one.
    pub async fn exchange(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<()> {
        let (mut read, mut write) = tokio::io::split(stream);
        let (sent, received) =
            tokio::join!(self.send(&mut write), Self::receive(&mut read, !self.seed));
        sent?;
        let received = received?.complete()?;
        ensure!(received == self.answered(), "{received} for {self}");
        Ok(())
    }

    /// The transfer that answers this one: the same size, other bytes.
    #[must_use]
    pub fn answered(&self) -> Self {
        Self {
            seed: !self.seed,
            ..*self
        }
    }

    async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
        to.write_u64(self.id).await?;
        to.write_u64(self.length).await?;
        let mut bytes = self.bytes();
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut left = self.length;
        let mut block = vec![0; BLOCK_SIZE];
        while left > 0 {
            let size = left.min(BLOCK_SIZE as u64) as usize;
            bytes.fill_bytes(&mut block[..size]);
            hash.update(&block[..size]);
            let framed = [
                &(size as u32).to_be_bytes(),
                &block[..size],
                &running(&hash),
            ];
            to.write_all(&framed.concat()).await?;
            left -= size as u64;
        }
        let trailer = [&0_u32.to_be_bytes(), hash.finish().as_ref()].concat();
        to.write_all(&trailer).await?;
        to.flush().await?;
        Ok(())
    }

    async fn receive_rest(&self, from: &mut (impl AsyncRead + Unpin)) -> Result<Outcome> {
        let mut expected = self.bytes();
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut received = 0;
        while let Some(size) = block_size(from).await? {
            if size == 0 {
                return self.receive_trailer(from, hash, received).await;
            }
            ensure!(size <= BLOCK_SIZE, "a block of {size} bytes");
            let mut block = vec![0; size + 8];
            if !filled(from, &mut block).await? {
                break;
            }
            let (bytes, claimed) = block.split_at(size);
            compare(bytes, &mut expected, received)?;
            hash.update(bytes);
            received += size as u64;
            ensure!(claimed == running(&hash), "the hash at {received} is wrong");
        }
        Ok(Outcome::Cut { received })
    }

    async fn receive_trailer(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        hash: digest::Context,
        received: u64,
    ) -> Result<Outcome> {
        let mut trailer = [0; 32];
        if !filled(from, &mut trailer).await? {
            return Ok(Outcome::Cut { received });
        }
        ensure!(trailer == hash.finish().as_ref(), "the trailer is wrong");
        ensure!(received == self.length, "only {received} bytes");
        Ok(Outcome::Complete(*self))
    }

    fn bytes(&self) -> ChaCha8Rng {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_be_bytes());
        seed[8..16].copy_from_slice(&self.id.to_be_bytes());
        ChaCha8Rng::from_seed(seed)
    }
}

/// The other end of [`Transfer::exchange`]: answers a transfer while it still comes in.
///
/// # Errors
/// Either direction fails. A peer that never begins is no error.
pub async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), seed: u64) -> Result<()> {
    let (mut read, mut write) = tokio::io::split(stream);
    let (Some(id), Some(length)) = (number(&mut read).await?, number(&mut read).await?) else {
        return Ok(());
    };
    let transfer = Transfer { id, length, seed };
    let reply = transfer.answered();
    let (sent, received) = tokio::join!(reply.send(&mut write), transfer.receive_rest(&mut read));
    received?.complete()?;
    sent
}

/// `count` bytes that follow from `seed`, for tests without a whole transfer.
#[must_use]
pub fn seeded_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let transfer = Transfer {
        id: 0,
        length: count as u64,
        seed,
    };
    transfer.bytes().fill_bytes(&mut bytes);
    bytes
}

/// SHA-256 in hexadecimal, as `sha256sum` prints it.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, bytes);
    let digits = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

fn running(hash: &digest::Context) -> [u8; 8] {
    let hash = hash.clone().finish();
    *hash
        .as_ref()
        .first_chunk()
        .expect("a SHA-256 has more than eight bytes")
}

fn compare(bytes: &[u8], expected: &mut ChaCha8Rng, offset: u64) -> Result<()> {
    let mut right = vec![0; bytes.len()];
    expected.fill_bytes(&mut right);
    if let Some(index) = (0..bytes.len()).find(|&index| bytes[index] != right[index]) {
        bail!(
            "the byte at offset {} is {:#04x} instead of {:#04x}",
            offset + index as u64,
            bytes[index],
            right[index]
        );
    }
    Ok(())
}

async fn number(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<u64>> {
    let mut bytes = [0; 8];
    let is_whole = filled(from, &mut bytes).await?;
    Ok(is_whole.then(|| u64::from_be_bytes(bytes)))
}

async fn block_size(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<usize>> {
    let mut bytes = [0; 4];
    let is_whole = filled(from, &mut bytes).await?;
    Ok(is_whole.then(|| u32::from_be_bytes(bytes) as usize))
}

/// False when the connection ended or was reset before all came.
async fn filled(from: &mut (impl AsyncRead + Unpin), bytes: &mut [u8]) -> Result<bool> {
    use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};
    match from.read_exact(bytes).await {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), UnexpectedEof | ConnectionReset) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSFER: Transfer = Transfer {
        id: 7,
        length: 40_000,
        seed: 1,
    };

    async fn sent() -> Vec<u8> {
        let mut bytes = Vec::new();
        TRANSFER.send(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn a_transfer_arrives_complete() {
        let bytes = sent().await;
        let outcome = Transfer::receive(&mut bytes.as_slice(), 1).await.unwrap();
        assert_eq!(outcome, Outcome::Complete(TRANSFER));
    }

    #[tokio::test]
    async fn a_cut_anywhere_is_noticed() {
        let bytes = sent().await;
        for size in (0..bytes.len()).step_by(997).chain([bytes.len() - 1]) {
            let outcome = Transfer::receive(&mut &bytes[..size], 1).await.unwrap();
            assert!(matches!(outcome, Outcome::Cut { .. }), "cut at {size}");
        }
    }

    #[tokio::test]
    async fn a_wrong_byte_anywhere_is_noticed() {
        let bytes = sent().await;
        for offset in (0..bytes.len()).step_by(997) {
            let mut wrong = bytes.clone();
            wrong[offset] ^= 1;
            let outcome = Transfer::receive(&mut wrong.as_slice(), 1).await;
            // In the header's length a wrong byte shows itself as a cut.
            let is_noticed = !matches!(outcome, Ok(Outcome::Complete(TRANSFER)));
            assert!(is_noticed, "flipped at {offset}");
        }
    }

    #[tokio::test]
    async fn bytes_of_another_transfer_are_wrong_bytes() {
        let bytes = sent().await;
        Transfer::receive(&mut bytes.as_slice(), 2)
            .await
            .unwrap_err();
    }

    #[tokio::test]
    async fn both_directions_run_at_once() {
        let (mut here, mut there) = tokio::io::duplex(1000);
        let (asked, answered) = tokio::join!(TRANSFER.exchange(&mut here), answer(&mut there, 1));
        asked.unwrap();
        answered.unwrap();
    }
}
