//! One connection to the echo, of which every byte is known beforehand.

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::device::DEVICE_ENDS;

/// Bytes written or read at a time; no divisor of any buffer on the way.
const PIECE_SIZE: usize = 40_000;

/// What is sent, must come back, and who ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    /// The bytes follow from it: those of another connection are wrong ones.
    pub(super) seed: u64,
    /// In bytes, behind the announcement of 8.
    pub(super) size: u64,
    /// Whether the device is to end the connection, or else we do.
    pub(super) device_ends: bool,
}

impl Transfer {
    /// Sends and receives at the same time, and compares.
    pub(super) async fn run(self, stream: impl AsyncRead + AsyncWrite) -> Result<()> {
        let (mut from, mut to) = tokio::io::split(stream);
        tokio::try_join!(self.send(&mut to), self.receive(&mut from))?;
        if self.device_ends {
            let end = from.read(&mut [0]).await.context("wait for its end")?;
            ensure!(end == 0, "more came back than was sent");
        }
        Ok(())
    }

    fn announcement(self) -> u64 {
        self.size | if self.device_ends { DEVICE_ENDS } else { 0 }
    }

    async fn send(self, to: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
        to.write_u64(self.announcement()).await?;
        let mut bytes = SeededBytes(self.seed);
        let mut piece = vec![0; PIECE_SIZE];
        let mut left = self.size;
        while left > 0 {
            let size = left.min(PIECE_SIZE as u64) as usize;
            bytes.fill(&mut piece[..size]);
            to.write_all(&piece[..size]).await.context("send")?;
            left -= size as u64;
        }
        to.flush().await.context("send")
    }

    async fn receive(self, from: &mut (impl AsyncRead + Unpin)) -> Result<()> {
        let announced = from.read_u64().await.context("cut before its first byte")?;
        ensure!(
            announced == self.announcement(),
            "its first 8 bytes are wrong"
        );
        let mut expected = SeededBytes(self.seed);
        let (mut piece, mut right) = (vec![0; PIECE_SIZE], vec![0; PIECE_SIZE]);
        let mut received = 0;
        while received < self.size {
            let room = (self.size - received).min(PIECE_SIZE as u64) as usize;
            let size = from.read(&mut piece[..room]).await.context("receive")?;
            if size == 0 {
                bail!("cut after {received} of {} bytes", self.size);
            }
            expected.fill(&mut right[..size]);
            if let Some(at) = (0..size).find(|&at| piece[at] != right[at]) {
                bail!("the byte at offset {} is wrong", received + at as u64);
            }
            received += size as u64;
        }
        Ok(())
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014), a byte at a time: fast, and no byte is like its neighbours.
struct SeededBytes(u64);

impl SeededBytes {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            *byte = (mixed >> 56) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSFER: Transfer = Transfer {
        seed: 7,
        size: 100_000,
        device_ends: true,
    };

    /// An echo that changes what it was sent before it sends it back and ends.
    async fn against(transfer: Transfer, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let (here, mut there) = tokio::io::duplex(1_000_000);
        let echo = async {
            let mut bytes = vec![0; transfer.size as usize + 8];
            there.read_exact(&mut bytes).await.unwrap();
            change(&mut bytes);
            there.write_all(&bytes).await.unwrap();
            drop(there);
        };
        tokio::join!(transfer.run(here), echo).0
    }

    #[tokio::test]
    async fn the_same_bytes_are_right() {
        against(TRANSFER, |_| ()).await.unwrap();
        for size in [0, 1, PIECE_SIZE as u64] {
            against(Transfer { size, ..TRANSFER }, |_| ())
                .await
                .unwrap();
        }
    }

    #[tokio::test]
    async fn a_wrong_byte_is_named() {
        for (at, said) in [(0, "first 8"), (8, "offset 0 "), (99_999, "offset 99991 ")] {
            let error = against(TRANSFER, |bytes| bytes[at] ^= 1).await.unwrap_err();
            assert!(format!("{error:#}").contains(said), "{error:#}");
        }
    }

    #[tokio::test]
    async fn missing_and_surplus_bytes_are_noticed() {
        let cut = against(TRANSFER, |bytes| bytes.truncate(90_008)).await;
        assert_eq!(
            cut.unwrap_err().to_string(),
            "cut after 90000 of 100000 bytes"
        );
        against(TRANSFER, Vec::clear).await.unwrap_err();
        let surplus = against(TRANSFER, |bytes| bytes.push(0)).await;
        assert!(surplus.unwrap_err().to_string().contains("more"));
    }

    #[test]
    fn bytes_of_different_seeds_differ() {
        let [mut one, mut other] = [[0; 64]; 2];
        SeededBytes(1).fill(&mut one);
        SeededBytes(2).fill(&mut other);
        assert_ne!(one, other);
    }
}
