//! One connection that carries verified round trips, one at a time, on a thread that waits for it.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use adit_verify::{Direction, Fault, Kind, Message, Reader, Track, Writer};
use thiserror::Error;

use crate::report::ErrorKind;

/// Why a round trip did not come back.
#[derive(Debug, Error)]
pub(super) enum ProbeError {
    /// The connection is gone, or never was.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A byte was wrong.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The far end found a wrong byte.
    #[error("the far end says: wrong at offset {0}")]
    Complaint(u64),
}

impl ProbeError {
    /// As reports count it.
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => ErrorKind::Refused,
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ErrorKind::Reset,
                io::ErrorKind::UnexpectedEof => ErrorKind::Closed,
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ErrorKind::TimedOut,
                _ => ErrorKind::Other,
            },
            Self::Fault(fault) if fault.is_cut() => ErrorKind::Closed,
            Self::Fault(_) | Self::Complaint(_) => ErrorKind::Mismatch,
        }
    }

    /// Whether a byte was wrong, rather than missing with its connection.
    pub(super) fn is_fault(&self) -> bool {
        self.kind() == ErrorKind::Mismatch
    }
}

/// A connection to a verifying server, through whatever is in between.
pub(super) struct Probe {
    stream: TcpStream,
    writer: Writer,
    reader: Reader,
    out: Vec<u8>,
    input: Vec<u8>,
}

impl Probe {
    /// Connects; `stream` is the connection's number in the run. Nothing may take longer than
    /// `patience`.
    pub(super) fn connect(
        target: SocketAddr,
        seed: u64,
        stream: u64,
        patience: Duration,
    ) -> Result<Self, ProbeError> {
        let connection = TcpStream::connect_timeout(&target, patience)?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(patience))?;
        connection.set_write_timeout(Some(patience))?;
        let mut out = Vec::new();
        Ok(Self {
            stream: connection,
            writer: Writer::greet(seed, stream, &mut out),
            reader: Reader::new(Track {
                seed,
                stream,
                direction: Direction::Down,
            }),
            out,
            input: vec![0; INPUT_SIZE],
        })
    }

    /// Sends `size` bytes and waits for `reply` bytes; every one is checked, at both ends.
    pub(super) fn round_trip(&mut self, size: usize, reply: usize) -> Result<(), ProbeError> {
        let bytes = u32::try_from(reply).unwrap_or(u32::MAX);
        self.writer.seeded(Kind::Ask, bytes, size, &mut self.out);
        self.send()?;
        self.await_message(Kind::Reply)
    }

    /// Ends the connection in order: both trailers tell of the same bytes, and nothing comes behind the far end's, until
    /// the connection ends or [`END_PATIENCE`] is over.
    pub(super) fn end(mut self) -> Result<(), ProbeError> {
        self.writer.end(&mut self.out);
        self.send()?;
        self.await_message(Kind::End)?;
        self.leave()
    }

    /// Reads on behind the trailer. However the connection ends, or does not, nothing is lost any more.
    fn leave(mut self) -> Result<(), ProbeError> {
        // A far end that waits for that ends its own direction then.
        let _ = self.stream.shutdown(Shutdown::Write);
        let until = Instant::now() + END_PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
                return Ok(());
            }
            match self.stream.read(&mut self.input) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return Ok(()),
                Ok(size) => {
                    self.reader.next(&mut &self.input[..size])?;
                }
            }
        }
    }

    fn send(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Waits for a message of this kind; receipts before it are let pass.
    fn await_message(&mut self, kind: Kind) -> Result<(), ProbeError> {
        loop {
            let size = self.stream.read(&mut self.input)?;
            if size == 0 {
                self.reader.finish()?;
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let mut rest = &self.input[..size];
            let mut has_come = false;
            while let Some(message) = self.reader.next(&mut rest)? {
                has_come |= is(&message, kind)?;
            }
            if has_come {
                return Ok(());
            }
        }
    }
}

fn is(message: &Message, kind: Kind) -> Result<bool, ProbeError> {
    match message.kind {
        Kind::Complaint => Err(ProbeError::Complaint(message.numbers[0])),
        other => Ok(other == kind),
    }
}

/// How long the end of a connection is waited for behind the far end's trailer.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Bytes read at once.
const INPUT_SIZE: usize = 64 * 1024;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::args::IoChoice;
    use crate::server::{ServeSettings, Server};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn server() -> SocketAddr {
        let settings = ServeSettings {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            threads: 1,
            congestion: None,
            io: IoChoice::Auto,
        };
        Server::start(&settings).unwrap().address
    }

    #[test]
    fn round_trips_and_an_orderly_end() {
        let mut probe = Probe::connect(server(), 1, 9, PATIENCE).unwrap();
        for (size, reply) in [(64, 64), (1 << 20, 40), (40, 1 << 20), (100_000, 3_000)] {
            probe.round_trip(size, reply).unwrap();
        }
        probe.end().unwrap();
    }

    /// Something in front of a server that says one byte more, so long after the server's last one; `None`: it never
    /// does, and keeps the connection open.
    pub(in crate::tunnels) fn talkative(after: Option<Duration>) -> SocketAddr {
        let target = server();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let between = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut far = TcpStream::connect(target).unwrap();
                let up = (client.try_clone().unwrap(), far.try_clone().unwrap());
                thread::spawn(move || carry(up, None, false));
                thread::spawn(move || {
                    // To its end.
                    io::copy(&mut far, &mut client).unwrap();
                    match after {
                        Some(after) => {
                            thread::sleep(after);
                            let _ = client.write_all(&[0]);
                        }
                        None => thread::park(),
                    }
                });
            }
        });
        between
    }

    #[test]
    fn a_byte_behind_the_trailer_is_a_fault_whenever_it_comes() {
        for after in [Duration::ZERO, Duration::from_millis(300)] {
            let mut probe = Probe::connect(talkative(Some(after)), 1, 9, PATIENCE).unwrap();
            probe.round_trip(1_000, 1_000).unwrap();
            let fault = probe.end().unwrap_err();
            assert!(fault.is_fault(), "{after:?}: {fault}");
        }
    }

    #[test]
    fn a_connection_that_does_not_end_behind_its_trailer_is_waited_for_a_while() {
        let mut probe = Probe::connect(talkative(None), 1, 9, PATIENCE).unwrap();
        probe.round_trip(1_000, 1_000).unwrap();
        let begun = Instant::now();
        probe.end().unwrap();
        let waited = begun.elapsed();
        assert!(waited >= END_PATIENCE && waited < PATIENCE, "{waited:?}");
    }

    /// Something between the two that changes one byte, in one direction or the other.
    #[test]
    fn a_changed_byte_is_a_fault_and_a_cut_is_none() {
        for (changes_up, at, cuts) in [(true, 100, false), (false, 100, false), (false, 100, true)]
        {
            let target = server();
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let between = listener.local_addr().unwrap();
            thread::spawn(move || {
                let (client, _) = listener.accept().unwrap();
                let far = TcpStream::connect(target).unwrap();
                let pair = |from: &TcpStream, to: &TcpStream| {
                    (from.try_clone().unwrap(), to.try_clone().unwrap())
                };
                let (up, down) = (pair(&client, &far), pair(&far, &client));
                thread::spawn(move || carry(up, changes_up.then_some(at), false));
                carry(down, (!changes_up).then_some(at), cuts);
            });
            let mut probe = Probe::connect(between, 1, 9, PATIENCE).unwrap();
            let fault = probe.round_trip(1_000, 1_000).unwrap_err();
            assert_eq!(fault.is_fault(), !cuts, "{fault}");
        }
    }

    fn carry((mut from, mut to): (TcpStream, TcpStream), at: Option<usize>, cuts: bool) {
        let mut seen = 0;
        let mut buffer = [0; 50];
        while let Ok(size @ 1..) = from.read(&mut buffer) {
            if let Some(index) = at
                .and_then(|it| it.checked_sub(seen))
                .filter(|it| *it < size)
            {
                if cuts {
                    let _ = to.shutdown(Shutdown::Both);
                    return;
                }
                buffer[index] ^= 1;
            }
            seen += size;
            if to.write_all(&buffer[..size]).is_err() {
                return;
            }
        }
    }
}
