//! One connection to the far end, seen from the generator.

use std::net::{IpAddr, SocketAddr};

use adit_verify::{Direction, Kind, MESSAGE_SIZE_MIN, Message, Reader, Track, Writer};
use monoio::io::{CancelHandle, OwnedReadHalf, OwnedWriteHalf, Splitable};
use monoio::net::TcpStream;

use super::{Input, SocketOptions, Trouble, write_all};

/// A connection whose two tracks are being written and checked.
pub struct Session {
    sender: Sender,
    receiver: Receiver,
}

/// The half that writes.
pub struct Sender {
    stream: OwnedWriteHalf<TcpStream>,
    writer: Writer,
    /// Messages not yet sent; at first the greeting, which goes out with the first of them.
    out: Vec<u8>,
    cancel: CancelHandle,
}

/// The half that reads and verifies.
pub struct Receiver {
    stream: OwnedReadHalf<TcpStream>,
    reader: Reader,
    input: Input,
    cancel: CancelHandle,
}

impl Session {
    /// Connects. Nothing is sent yet.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn open(
        options: &SocketOptions,
        target: SocketAddr,
        source: Option<IpAddr>,
        (seed, stream): (u64, u64),
        cancel: CancelHandle,
    ) -> Result<Self, Trouble> {
        let dialled = options.dial(target, source).await;
        let (read, write) = dialled.map_err(Trouble::Dial)?.into_split();
        let mut out = Vec::new();
        let writer = Writer::greet(seed, stream, &mut out);
        let track = Track {
            seed,
            stream,
            direction: Direction::Down,
        };
        Ok(Self {
            sender: Sender {
                stream: write,
                writer,
                out,
                cancel: cancel.clone(),
            },
            receiver: Receiver {
                stream: read,
                reader: Reader::new(track),
                input: Input::default(),
                cancel,
            },
        })
    }

    /// What gives the connection up from now on.
    pub fn set_cancel(&mut self, cancel: &CancelHandle) {
        self.sender.cancel = cancel.clone();
        self.receiver.cancel = cancel.clone();
    }

    /// One round trip: `size` bytes there, `reply` bytes back, each within what a message may have.
    ///
    /// # Errors
    /// The connection failed, or a byte was wrong: it cannot be used again.
    pub async fn ask(&mut self, size: usize, reply: usize) -> Result<(), Trouble> {
        self.sender.seeded(Kind::Ask, reply as u32, size);
        self.answered(reply).await
    }

    /// The last round trip: the trailer goes with the question, and the far end's comes with the answer. To be
    /// [left](Self::leave) then.
    ///
    /// # Errors
    /// Those of [`ask`](Self::ask), or the far end's trailer did not come, or does not fit.
    pub async fn ask_last(&mut self, size: usize, reply: usize) -> Result<(), Trouble> {
        self.sender.seeded(Kind::Ask, reply as u32, size);
        self.sender.end();
        self.answered(reply).await?;
        self.receiver.trailer().await
    }

    async fn answered(&mut self, reply: usize) -> Result<(), Trouble> {
        self.sender.send().await?;
        let answer = self.receiver.message().await?;
        if (answer.kind, answer.size) == (Kind::Reply, reply) {
            return Ok(());
        }
        Err(Trouble::Unexpected {
            kind: answer.kind,
            size: answer.size,
            expected: reply,
        })
    }

    /// Gives buffers back, until the connection is used again.
    pub fn rest(&mut self) {
        self.sender.out = Vec::new();
        self.receiver.input.shed();
    }

    /// Ends both tracks in order.
    ///
    /// # Errors
    /// The far end's trailer did not come, or does not fit, or something came behind it.
    pub async fn close(mut self) -> Result<(), Trouble> {
        self.sender.end();
        self.sender.send().await?;
        self.receiver.trailer().await?;
        self.leave().await
    }

    /// Both tracks have ended: sees to it that nothing comes behind the trailer.
    ///
    /// # Errors
    /// Something does.
    pub async fn leave(self) -> Result<(), Trouble> {
        // This ends our direction: a far end that waits for that ends its own then.
        drop(self.sender);
        self.receiver.leave().await
    }

    /// Both halves, for tasks of their own.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}

impl Sender {
    /// Adds a message with a seeded body to what is to be sent.
    pub fn seeded(&mut self, kind: Kind, ask: u32, size: usize) {
        self.writer.seeded(kind, ask, size, &mut self.out);
    }

    /// Asks for bulk, in messages of so many seeded bytes.
    pub fn pour(&mut self, body: usize) {
        self.writer
            .numbers(Kind::Pour, 0, [body as u64, 0], &mut self.out);
    }

    /// Asks for no more of it.
    pub fn stop(&mut self) {
        self.seeded(Kind::Stop, 0, MESSAGE_SIZE_MIN);
    }

    /// Adds the trailer.
    pub fn end(&mut self) {
        self.writer.end(&mut self.out);
    }

    /// Sends all that was added.
    ///
    /// # Errors
    /// The connection failed, or was given up.
    pub async fn send(&mut self) -> Result<(), Trouble> {
        let out = std::mem::take(&mut self.out);
        self.out = write_all(&mut self.stream, out, &self.cancel)
            .await
            .map_err(Trouble::of)?;
        Ok(())
    }
}

impl Receiver {
    /// The next message of those that are in the buffer already. Receipts are among them.
    ///
    /// # Errors
    /// A byte was wrong, or the far end says so of ours.
    pub fn buffered(&mut self) -> Result<Option<Message>, Trouble> {
        let mut rest = self.input.rest();
        let message = self.reader.next(&mut rest)?;
        let left = rest.len();
        self.input.leave(left);
        match message {
            Some(message) if message.kind == Kind::Complaint => Err(Trouble::Complaint {
                offset: message.numbers[0],
            }),
            message => Ok(message),
        }
    }

    /// Reads once. Call it when nothing is [`buffered`](Self::buffered).
    ///
    /// # Errors
    /// The connection failed, ended before its time, or was given up.
    pub async fn read(&mut self) -> Result<(), Trouble> {
        let read = self.input.read(&mut self.stream, &self.cancel).await;
        if !read.map_err(Trouble::of)? {
            self.reader.finish()?;
        }
        Ok(())
    }

    /// Reads on behind the trailer, to the end of the connection. However it ends, or is given up, nothing is lost any
    /// more.
    ///
    /// # Errors
    /// A byte came.
    pub async fn leave(mut self) -> Result<(), Trouble> {
        loop {
            self.buffered()?;
            let read = self.input.read(&mut self.stream, &self.cancel).await;
            if !matches!(read, Ok(true)) {
                return Ok(());
            }
        }
    }

    /// Bytes that have come and were right.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.reader.offset()
    }

    /// The next message that is no receipt.
    async fn message(&mut self) -> Result<Message, Trouble> {
        loop {
            match self.buffered()? {
                Some(message) if message.kind == Kind::Receipt => {}
                Some(message) => return Ok(message),
                None => self.read().await?,
            }
        }
    }

    async fn trailer(&mut self) -> Result<(), Trouble> {
        let message = self.message().await?;
        match message.kind {
            Kind::End => Ok(()),
            kind => Err(Trouble::Unexpected {
                kind,
                size: message.size,
                expected: 0,
            }),
        }
    }
}
