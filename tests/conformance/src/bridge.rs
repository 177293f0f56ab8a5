//! One connection of the suite, carried to the program and back.

use std::sync::{Mutex, MutexGuard};

use adit_tests::frames::End;
use adit_tests::link::Stream;
use adit_tests::wire::{Route, v3};
use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::awaited::Awaited;
use crate::homeward::Homeward;
use crate::inward::Inward;

/// The service whose application echoes.
pub(crate) const SERVICE: &str = "ECHO";

/// What is asked for as subprotocol, which the suite does not know.
pub(crate) const PROTOCOL: &str = "aws.iot.securetunneling-3.0";

/// The one connection of this stream.
pub(crate) fn route(stream: i32) -> Route<'static> {
    v3(SERVICE, stream, 1)
}

/// Carries both directions until both are over. `suite` is what the suite is; the upgrade is done, and the stream of
/// `route` has been started. With `is_plain` text stays text.
///
/// # Errors
/// The program says what no tunnel does, or the echo is gone.
pub(crate) async fn carry(
    route: Route<'static>,
    suite: End,
    is_plain: bool,
    suite_side: TcpStream,
    program_side: impl Stream,
) -> Result<()> {
    let program = match suite {
        End::Client => End::Server,
        End::Server => End::Client,
    };
    suite_side.set_nodelay(true)?;
    let (suite_in, suite_out) = suite_side.into_split();
    let (program_in, program_out) = tokio::io::split(program_side);
    let awaited = Mutex::new(Awaited::default());
    tokio::try_join!(
        carry_inward(
            Inward::new(route, suite, is_plain),
            &awaited,
            suite_in,
            program_out
        ),
        carry_homeward(
            Homeward::new(route, program),
            &awaited,
            program_in,
            suite_out
        ),
    )?;
    Ok(())
}

/// The suite is read to its end even when the program is gone, so that it can read what that said last.
async fn carry_inward(
    mut inward: Inward,
    awaited: &Mutex<Awaited>,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> Result<()> {
    let mut received = vec![0; READ_SIZE];
    let mut is_gone = false;
    while let Some(size) = read(&mut from, &mut received).await {
        let change = inward.change(&mut received[..size], &mut lock(awaited));
        for record in change.iter() {
            is_gone = is_gone || to.write_all(record).await.is_err() || to.flush().await.is_err();
        }
    }
    // It may have ended before.
    let _ = to.shutdown().await;
    Ok(())
}

async fn carry_homeward(
    mut homeward: Homeward,
    awaited: &Mutex<Awaited>,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> Result<()> {
    let mut received = vec![0; READ_SIZE];
    while let Some(size) = read(&mut from, &mut received).await {
        let change = homeward.change(&mut received[..size], &mut lock(awaited))?;
        if to.write_all(&change).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
    Ok(())
}

/// Nothing more comes at the end; many cases end in a connection that is simply gone.
async fn read(from: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> Option<usize> {
    from.read(buffer).await.ok().filter(|size| *size > 0)
}

fn lock(awaited: &Mutex<Awaited>) -> MutexGuard<'_, Awaited> {
    awaited.lock().expect("nothing panics while it holds this")
}

const READ_SIZE: usize = 64 * 1024;
