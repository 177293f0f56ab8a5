//! Standard input and output as the one connection of a source (`--source stdio:`), for SSH's
//! `ProxyCommand`.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use adit_engine::tunnel::proxy::Counters;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::oneshot;

/// Bytes moved at once.
const CHUNK_SIZE: usize = 64 * 1024;

/// Two threads that copy between standard input, output and a socket: a terminal or a pipe may
/// block, and nobody else may wait for it.
pub(super) struct Stdio {
    output: oneshot::Receiver<Result<(), CopyError>>,
    /// How the output ended, once it has.
    written: Option<Result<(), CopyError>>,
    /// Why the input could not be read to its end. Nobody waits for it: it may never end.
    unread: Arc<Mutex<Option<io::Error>>>,
}

/// Why the bytes that were written may not be all there were.
#[derive(Debug, thiserror::Error)]
pub(super) enum StdioError {
    /// The input failed; the connection was ended there.
    #[error("standard input cannot be read: {0}")]
    Input(io::Error),
    /// Whoever read the output has gone, which is often how a user ends it.
    #[error("nobody reads standard output any more")]
    NoReader,
    /// The output failed.
    #[error("standard output cannot be written: {0}")]
    Output(io::Error),
    /// The link was lost, or the other side, or patience with whoever reads.
    #[error(
        "the connection was cut after {received} bytes had come through it: the link or the other \
         side of the tunnel was lost, or standard output was not read in time"
    )]
    Cut {
        /// Payload that had come.
        received: u64,
    },
    /// The same before anything came.
    #[error("the connection was cut before anything came through it")]
    Absent,
    /// There was none.
    #[error("no connection was made before the tunnel ended")]
    NeverOpened,
}

impl StdioError {
    /// What to do about it, where that is known.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Absent => Some(
                "is the destination of this tunnel connected, and does the application behind it run?",
            ),
            Self::Input(_)
            | Self::NoReader
            | Self::Output(_)
            | Self::Cut { .. }
            | Self::NeverOpened => None,
        }
    }
}

impl Stdio {
    /// Starts the threads; the socket is the tunnel's end.
    pub(super) fn start() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        let writer = ours.try_clone()?;
        let unread = Arc::new(Mutex::new(None));
        let fault = Arc::clone(&unread);
        thread::Builder::new()
            .name("adit-stdin".into())
            .spawn(move || {
                // What the tunnel does not take any more is no news: its end is told elsewhere.
                if let Err(CopyError::Read(error)) =
                    copy(&mut Patient(io::stdin().as_fd()), &mut &writer)
                {
                    *fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                }
                let _ = writer.shutdown(Shutdown::Write);
            })?;
        let (report, output) = oneshot::channel();
        thread::Builder::new()
            .name("adit-stdout".into())
            .spawn(move || {
                let written = copy(&mut &ours, &mut Patient(io::stdout().as_fd()));
                // What cannot be written need not be carried on.
                let _ = ours.shutdown(Shutdown::Both);
                let _ = report.send(written);
            })?;
        let stdio = Self {
            output,
            written: None,
            unread,
        };
        Ok((stdio, theirs.into()))
    }

    /// Completes when all that came through the tunnel was written out and it ended, or when it
    /// cannot be written.
    pub(super) async fn ended(&mut self) {
        if self.written.is_none() {
            let written = (&mut self.output).await;
            // A thread that is gone without a word has panicked.
            let gone = || Err(CopyError::Write(io::Error::other("its thread has ended")));
            self.written = Some(written.unwrap_or_else(|_| gone()));
        }
    }

    /// Whether everything was carried, after the end; `counters` are the proxy's.
    pub(super) fn verdict(self, counters: &Counters) -> Result<(), StdioError> {
        let is_broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        match self.written {
            Some(Err(CopyError::Write(error))) if is_broken(&error) => {
                return Err(StdioError::NoReader);
            }
            Some(Err(CopyError::Write(error))) => return Err(StdioError::Output(error)),
            // The socket was closed with unread input in it; the counters know why.
            Some(Ok(()) | Err(CopyError::Read(_))) | None => {}
        }
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = unread.take() {
            return Err(StdioError::Input(error));
        }
        match (counters.connections, counters.cut) {
            (0, _) => Err(StdioError::NeverOpened),
            (_, 0) => Ok(()),
            _ if counters.bytes_received == 0 => Err(StdioError::Absent),
            _ => Err(StdioError::Cut {
                received: counters.bytes_received,
            }),
        }
    }
}

/// Which end of a copy failed.
#[derive(Debug)]
enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

fn copy(from: &mut dyn Read, to: &mut dyn Write) -> Result<(), CopyError> {
    let mut chunk = vec![0; CHUNK_SIZE];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                to.write_all(&chunk[..count]).map_err(CopyError::Write)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CopyError::Read(error)),
        }
    }
}

/// Reads and writes a file that need not be a blocking one: that is a matter of the open file, which this program
/// shares with whoever started it, and which others may change at any time.
struct Patient<'a>(BorrowedFd<'a>);

impl Patient<'_> {
    /// Until something can be done, or has gone wrong.
    fn wait(&self, what: PollFlags) -> io::Result<()> {
        match poll(&mut [PollFd::from_borrowed_fd(self.0, what)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(self.0, &mut *buffer) {
                Err(Errno::AGAIN) => self.wait(PollFlags::IN)?,
                read => return Ok(read?),
            }
        }
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(self.0, bytes) {
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                written => return Ok(written?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What ssh shares with its ProxyCommand, or a shell with its jobs, may have been made non-blocking.
    #[test]
    fn files_that_do_not_block_are_waited_for() -> Result<(), Box<dyn std::error::Error>> {
        let (mut user, input) = UnixStream::pair()?;
        let (output, mut reader) = UnixStream::pair()?;
        input.set_nonblocking(true)?;
        output.set_nonblocking(true)?;
        let copying =
            thread::spawn(move || copy(&mut Patient(input.as_fd()), &mut Patient(output.as_fd())));
        // More than the sockets hold, so that both ends have to be waited for.
        let sent: Vec<u8> = (0..4 << 20).map(|at: u32| (at % 251) as u8).collect();
        let typed = sent.clone();
        let typing = thread::spawn(move || user.write_all(&typed));
        let mut received = Vec::new();
        reader.read_to_end(&mut received)?;
        assert!(typing.join().is_ok_and(|typed| typed.is_ok()));
        assert!(matches!(copying.join(), Ok(Ok(()))));
        assert!(received == sent);
        Ok(())
    }
}
