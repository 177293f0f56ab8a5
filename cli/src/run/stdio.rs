//! Standard input and output as the one connection of a source (`--source stdio:`), for SSH's
//! `ProxyCommand`.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;

use tokio::sync::oneshot;

/// Bytes moved at once.
const CHUNK_SIZE: usize = 64 * 1024;

/// Two threads that copy between standard input, output and a socket: a terminal or a pipe may
/// block, and nobody else may wait for it.
pub(super) struct Stdio {
    ended: oneshot::Receiver<()>,
}

impl Stdio {
    /// Starts the threads; the socket is the tunnel's end.
    pub(super) fn start() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        let writer = ours.try_clone()?;
        thread::Builder::new()
            .name("adit-stdin".into())
            .spawn(move || {
                // A failed copy ends like the input does: the application has seen all there is.
                let _ = copy(&mut io::stdin().lock(), &mut &writer);
                let _ = writer.shutdown(Shutdown::Write);
            })?;
        let (report, ended) = oneshot::channel();
        thread::Builder::new()
            .name("adit-stdout".into())
            .spawn(move || {
                let _ = copy(&mut &ours, &mut io::stdout().lock());
                let _ = report.send(());
            })?;
        Ok((Self { ended }, theirs.into()))
    }

    /// Completes when all that came through the tunnel was written out and it ended.
    pub(super) async fn ended(self) {
        let _ = self.ended.await;
    }
}

fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_SIZE];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                to.write_all(&chunk[..count])?;
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
