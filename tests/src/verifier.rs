//! Transfers that prove themselves: no wrong byte, no silent cut.
//!
//! A transfer is one track of [`adit_verify`], the load generator's format: a greeting with seed, id and length, messages
//! of up to 16 KiB with a running hash each, and a trailer. [`Outgoing`] and [`Incoming`] are a transfer without IO;
//! [`Transfer`] sends and receives with them.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use adit_verify::{Fault, Kind, MESSAGE_SIZE_MIN, Reader, Writer};
use anyhow::{Context, Result, bail};
use aws_lc_rs::digest;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// What is sent: which bytes, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Tells transfers of one test apart: bytes of another are wrong bytes. Below 2^64 - 1.
    pub id: u64,
    /// The number of seeded bytes, below 2^64 - 1.
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
        receive_rest(from, Incoming::new(seed)).await
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
        // What came wrong comes first: an end that was found out may have broken the other direction.
        let received = received?;
        sent?;
        self.is_answered_by(received.complete()?)?;
        is_silent_after(self.answered(), &mut read).await
    }

    /// Makes sure that what came is what answers this one.
    ///
    /// # Errors
    /// It is another.
    pub fn is_answered_by(&self, received: Self) -> Result<()> {
        if received == self.answered() {
            return Ok(());
        }
        Err(Stray(format!("{received} for {self}")).into())
    }

    /// How it begins: enough for its receiver to know which it is.
    #[must_use]
    pub fn greeting(&self) -> Vec<u8> {
        Outgoing::new(*self).waiting().to_vec()
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
        let mut outgoing = Outgoing::new(*self);
        write_body(&mut outgoing, to).await?;
        write_rest(&mut outgoing, to).await
    }
}

/// Sends all but the trailer.
async fn write_body(outgoing: &mut Outgoing, to: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
    while !outgoing.is_at_trailer() {
        write_part(outgoing, to).await?;
    }
    Ok(to.flush().await?)
}

async fn write_rest(outgoing: &mut Outgoing, to: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
    while !outgoing.waiting().is_empty() {
        write_part(outgoing, to).await?;
    }
    Ok(to.flush().await?)
}

async fn write_part(outgoing: &mut Outgoing, to: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
    let waiting = outgoing.waiting();
    let count = waiting.len();
    to.write_all(waiting).await?;
    outgoing.sent(count);
    Ok(())
}

/// The other end of [`Transfer::exchange`]: answers a transfer while it still comes in. The trailer of the answer
/// waits until all of it has come and is right, so that an exchange is whole where both directions are.
///
/// # Errors
/// Either direction fails. A peer that never begins is no error.
pub async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), seed: u64) -> Result<()> {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut incoming = Incoming::new(seed);
    while incoming.transfer().is_none() {
        if !receive_part(&mut read, &mut incoming).await? {
            return Ok(());
        }
    }
    let asked = incoming.transfer().expect("its header was read");
    let mut reply = Outgoing::new(asked.answered());
    let (sent, received) = tokio::join!(
        write_body(&mut reply, &mut write),
        receive_rest(&mut read, incoming)
    );
    received?.complete()?;
    sent?;
    is_silent_after(asked, &mut read).await?;
    write_rest(&mut reply, &mut write).await
}

/// Whether a transfer failed by something that is wrong, and not by an end or a cut: what no kill, no cut and no
/// restart excuses.
#[must_use]
pub fn is_wrong(error: &anyhow::Error) -> bool {
    error.is::<Fault>() || error.is::<Stray>()
}

/// A transfer that is right in itself, and not the one that belongs here.
#[derive(Debug)]
struct Stray(String);

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Stray {}

/// `count` bytes that follow from `seed`, for tests without a whole transfer.
#[must_use]
pub fn seeded_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// SHA-256 in hexadecimal, as `sha256sum` prints it.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, bytes);
    let digits = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// A transfer being sent: the bytes of one message at a time.
pub struct Outgoing {
    writer: Writer,
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
        let Transfer { id, length, seed } = transfer;
        let mut made = Vec::new();
        Self {
            writer: Writer::greet_with_length(seed, id, length, &mut made),
            left: length,
            has_trailer: false,
            made,
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

    /// Whether all was sent but the trailer.
    fn is_at_trailer(&self) -> bool {
        self.sent == self.made.len() && self.left == 0 && !self.has_trailer
    }

    fn make(&mut self) {
        if self.has_trailer {
            return;
        }
        let size = self.left.min(BODY_SIZE as u64) as usize;
        if size == 0 {
            self.has_trailer = true;
            return self.writer.end(&mut self.made);
        }
        let whole = size + MESSAGE_SIZE_MIN;
        self.writer.seeded(Kind::Data, 0, whole, &mut self.made);
        self.left -= size as u64;
    }
}

/// A transfer being received: each byte is checked at once, in pieces of any size.
pub struct Incoming {
    reader: Reader,
}

impl Incoming {
    /// At the start of a transfer that was made with `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            reader: Reader::awaiting_greeting_of(seed),
        }
    }

    /// What its greeting says; `None` before that has come.
    #[must_use]
    pub fn transfer(&self) -> Option<Transfer> {
        let track = self.reader.track()?;
        Some(Transfer {
            id: track.stream,
            length: self.reader.length()?,
            seed: track.seed,
        })
    }

    /// How it stands: complete, or cut if nothing more comes.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self.transfer().filter(|_| self.reader.has_ended()) {
            Some(transfer) => Outcome::Complete(transfer),
            None => Outcome::Cut {
                received: self.reader.seeded(),
            },
        }
    }

    /// Bytes that are missing of the part under way; 0 at the end of the transfer. More of what a
    /// connection has must not be read than this, where something else follows.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.reader.wanted()
    }

    /// Takes what came, up to the end of the transfer, and returns how much that was.
    ///
    /// # Errors
    /// A byte, a hash or the trailer is wrong.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.reader.has_ended() {
            self.reader.next(&mut rest)?;
        }
        Ok(bytes.len() - rest.len())
    }
}

/// The most seeded bytes of one message.
const BODY_SIZE: usize = 16 * 1024;

/// How long it is looked for what follows a trailer. What a fault repeats mostly comes along with it.
const SILENCE: Duration = Duration::from_millis(1);

async fn receive_rest(
    from: &mut (impl AsyncRead + Unpin),
    mut incoming: Incoming,
) -> Result<Outcome> {
    while incoming.wanted() > 0 {
        let more = receive_part(from, &mut incoming).await;
        let is_more = more.with_context(|| match incoming.transfer() {
            Some(transfer) => format!("receive {transfer}"),
            None => "receive a transfer".to_owned(),
        })?;
        if !is_more {
            break;
        }
    }
    Ok(incoming.outcome())
}

/// Reads on in the part under way; what came is checked, however little it is. False when the connection has ended or
/// was reset.
async fn receive_part(
    from: &mut (impl AsyncRead + Unpin),
    incoming: &mut Incoming,
) -> Result<bool> {
    let mut bytes = vec![0; incoming.wanted().min(BODY_SIZE)];
    let count = match from.read(&mut bytes).await {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
        count => count?,
    };
    incoming.take(&bytes[..count])?;
    Ok(count > 0)
}

/// Nothing may follow a trailer: whoever sent it waits for an answer, or has given one.
async fn is_silent_after(transfer: Transfer, from: &mut (impl AsyncRead + Unpin)) -> Result<()> {
    match timeout(SILENCE, from.read(&mut [0; 64])).await {
        Ok(Ok(count @ 1..)) => {
            Err(Stray(format!("{count} bytes behind the trailer of {transfer}")).into())
        }
        // An end, of either kind, has no bytes; so has silence.
        _ => Ok(()),
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
    async fn pieces_of_any_size_are_the_same_transfer() {
        let bytes = [sent().await, vec![1, 2, 3]].concat();
        for size in [1, 7, 4096, bytes.len()] {
            let mut incoming = Incoming::new(1);
            let taken = bytes
                .chunks(size)
                .map(|piece| incoming.take(piece).unwrap());
            assert_eq!(taken.sum::<usize>(), bytes.len() - 3, "{size}");
            assert_eq!(incoming.outcome(), Outcome::Complete(TRANSFER), "{size}");
        }
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
            // In the size of a message a wrong byte may show itself as a cut.
            let is_noticed = !matches!(outcome, Ok(Outcome::Complete(TRANSFER)));
            assert!(is_noticed, "flipped at {offset}");
        }
    }

    /// What was under way when something was killed is checked as everything else.
    #[tokio::test]
    async fn a_wrong_byte_in_front_of_a_cut_is_no_cut() {
        let bytes = sent().await;
        for offset in (1_000..16_000).step_by(997) {
            let mut wrong = bytes[..offset + 1].to_vec();
            wrong[offset] ^= 1;
            let outcome = Transfer::receive(&mut wrong.as_slice(), 1).await;
            assert!(is_wrong(&outcome.unwrap_err()), "flipped at {offset}");
        }
    }

    #[tokio::test]
    async fn bytes_behind_a_trailer_are_wrong_in_either_direction() {
        let tail = |bytes: &[u8]| bytes[bytes.len() - 8..].to_vec();
        let mut bytes = sent().await;
        bytes.extend(tail(&bytes));
        let (answering, reply) = answered(&bytes).await;
        assert!(is_wrong(&answering.unwrap_err()));
        assert!(matches!(reply, Outcome::Cut { .. }), "{reply:?}");

        let mut bytes = Vec::new();
        TRANSFER.answered().send(&mut bytes).await.unwrap();
        bytes.extend(tail(&bytes));
        let (mut here, mut there) = tokio::io::duplex(100_000);
        there.write_all(&bytes).await.unwrap();
        let outcome = TRANSFER.exchange(&mut here).await;
        assert!(is_wrong(&outcome.unwrap_err()));
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

    /// `bytes` in place of [`TRANSFER`] to whoever answers it.
    async fn answered(bytes: &[u8]) -> (Result<()>, Outcome) {
        let (here, mut there) = tokio::io::duplex(100_000);
        let (mut read, mut write) = tokio::io::split(here);
        let answering = tokio::spawn(async move { answer(&mut there, 1).await });
        write.write_all(bytes).await.unwrap();
        write.shutdown().await.unwrap();
        let reply = Transfer::receive(&mut read, !1).await.unwrap();
        (answering.await.unwrap(), reply)
    }

    #[tokio::test]
    async fn whoever_answers_does_not_end_well_before_all_has_come() {
        let bytes = sent().await;
        let (answering, reply) = answered(&bytes).await;
        answering.unwrap();
        assert_eq!(reply, Outcome::Complete(TRANSFER.answered()));

        let (answering, reply) = answered(&bytes[..bytes.len() - 1]).await;
        assert!(!is_wrong(&answering.unwrap_err()), "a cut is no wrong byte");
        assert!(matches!(reply, Outcome::Cut { .. }), "{reply:?}");

        let mut wrong = bytes;
        *wrong.last_mut().unwrap() ^= 1;
        let (answering, reply) = answered(&wrong).await;
        assert!(is_wrong(&answering.unwrap_err()), "a wrong trailer");
        assert!(matches!(reply, Outcome::Cut { .. }), "{reply:?}");
    }
}
