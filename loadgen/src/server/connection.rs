//! Carries the bytes of one [`Responder`].

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use adit_verify::Fault;
use monoio::io::{
    AsyncWriteRent, CancelHandle, Canceller, OwnedReadHalf, OwnedWriteHalf, Splitable,
};
use monoio::net::TcpStream;
use thiserror::Error;

use super::Responder;
use crate::drive::{Bell, Input, Turn, write_all};

/// Why a connection was given up.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What the two tasks of a connection share.
#[derive(Default)]
struct Shared {
    responder: RefCell<Responder>,
    /// Something may be owed.
    owes: Bell,
    /// More may be read.
    has_room: Bell,
    /// Nothing more comes: once nothing is owed, nothing will be.
    is_heard_out: Cell<bool>,
}

/// Serves one connection to its end. Gives back the stream's id, once it was known.
pub(super) async fn serve(stream: TcpStream) -> (Option<u64>, Result<(), Trouble>) {
    let (read, write) = stream.into_split();
    let shared = Rc::new(Shared::default());
    let canceller = Canceller::new();
    let cancel = canceller.handle();
    let writing = monoio::spawn(send(Rc::clone(&shared), write, cancel.clone()));
    let mut received = receive(&shared, read, &cancel).await;
    shared.is_heard_out.set(true);
    shared.owes.ring();
    if matches!(
        received,
        Err(Trouble::Io(_)) | Err(Trouble::Fault(Fault::Cut { .. }))
    ) {
        // Nobody reads any more.
        let _ = canceller.cancel();
    }
    let sent = writing.await;
    if received.is_ok() {
        received = sent.map_err(Trouble::Io);
    }
    let stream = shared.responder.borrow().stream();
    (stream, received)
}

async fn receive(
    shared: &Shared,
    mut stream: OwnedReadHalf<TcpStream>,
    cancel: &CancelHandle,
) -> Result<(), Trouble> {
    let mut input = Input::default();
    loop {
        while !shared.responder.borrow().can_receive() {
            shared.has_room.heard().await;
        }
        if !input.read(&mut stream, cancel).await? {
            return Ok(shared.responder.borrow().finish()?);
        }
        let outcome = shared.responder.borrow_mut().receive(input.rest());
        input.leave(0);
        shared.owes.ring();
        if let Err(fault) = outcome {
            discard(&mut input, &mut stream, cancel).await;
            return Err(fault.into());
        }
    }
}

/// Reads to the peer's end, within bounds: to close over unread bytes would send a reset, which destroys the complaint
/// on its way.
async fn discard(input: &mut Input, stream: &mut OwnedReadHalf<TcpStream>, cancel: &CancelHandle) {
    let mut left = DISCARDED_MAX;
    while let Ok(true) = input.read(stream, cancel).await {
        left = left.saturating_sub(input.rest().len());
        input.leave(0);
        if left == 0 {
            return;
        }
    }
}

async fn send(
    shared: Rc<Shared>,
    mut stream: OwnedWriteHalf<TcpStream>,
    cancel: CancelHandle,
) -> io::Result<()> {
    let mut out = Vec::new();
    let mut turn = Turn::default();
    loop {
        shared.responder.borrow_mut().fill(&mut out, OUTPUT_MARK);
        shared.has_room.ring();
        if !out.is_empty() {
            let size = out.len();
            out = write_all(&mut stream, out, &cancel).await?;
            turn.moved(size).await;
            if out.capacity() > OUTPUT_MARK && !shared.responder.borrow().is_pouring() {
                out = Vec::new();
            }
        } else if shared.responder.borrow().has_ended() || shared.is_heard_out.get() {
            // The peer has said all, or is told that it was misheard, or has gone.
            return stream.shutdown().await;
        } else {
            shared.owes.heard().await;
        }
    }
}

/// Bytes that are read, and not looked at, after a wrong one.
const DISCARDED_MAX: usize = 64 << 20;

/// Answers are made and sent so many bytes at a time.
const OUTPUT_MARK: usize = 128 * 1024;
