//! One end of a tunnel at work: what it reads, what it owes, and nothing piling up between the two.

use std::cell::RefCell;

use adit_proto::message::MessageView;
use anyhow::Result;
use tokio::sync::Notify;

use super::incoming::Arrival;
use super::link::{LinkReader, LinkWriter};

/// What an end does with messages. No IO in here.
pub(super) trait End {
    /// Takes a message that came.
    fn take(&mut self, message: MessageView<'_>) -> Result<()>;

    /// Appends messages that are owed, up to about [`COMPOSE_MARK`] bytes.
    fn compose(&mut self, out: &mut Vec<u8>);

    /// Whether more may be read: what is owed does not pile up.
    fn may_read(&self) -> bool;

    /// Whether all has been said.
    fn is_over(&self) -> bool;
}

/// Bytes composed at a time.
pub(super) const COMPOSE_MARK: usize = 64 * 1024;

/// Pings that wait to be answered; a service that sends more without a pause gets no answer to
/// the oldest.
const PONGS_MAX: usize = 16;

/// An end with what its reading, its writing and its clock share. Belongs to one thread.
pub(super) struct Session<E> {
    end: RefCell<E>,
    /// Something may be owed.
    owes: Notify,
    /// More may be read.
    room: Notify,
    pongs: RefCell<Vec<Vec<u8>>>,
}

impl<E: End> Session<E> {
    pub(super) fn new(end: E) -> Self {
        Self {
            end: RefCell::new(end),
            owes: Notify::new(),
            room: Notify::new(),
            pongs: RefCell::default(),
        }
    }

    /// Has something done to the end from outside; what it then owes is sent.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut E) -> T) -> T {
        let done = act(&mut self.end.borrow_mut());
        self.owes.notify_one();
        done
    }

    /// Runs until the end has said all, or the link ends before: then how is told.
    pub(super) async fn run(
        &self,
        mut reader: LinkReader,
        mut writer: LinkWriter,
    ) -> Result<Option<String>> {
        tokio::select! {
            ended = self.read(&mut reader) => ended.map(Some),
            said = self.write(&mut writer) => said.map(|()| None),
        }
    }

    pub(super) fn into_end(self) -> E {
        self.end.into_inner()
    }

    async fn read(&self, reader: &mut LinkReader) -> Result<String> {
        loop {
            while !self.end.borrow().may_read() {
                self.room.notified().await;
            }
            let take = |message: MessageView<'_>| self.end.borrow_mut().take(message);
            match reader.next(take).await? {
                Arrival::Messages => {}
                Arrival::Ping(payload) => {
                    let mut pongs = self.pongs.borrow_mut();
                    if pongs.len() == PONGS_MAX {
                        pongs.remove(0);
                    }
                    pongs.push(payload);
                }
                Arrival::Pong => {}
                Arrival::Ended(how) => return Ok(how),
            }
            self.owes.notify_one();
        }
    }

    async fn write(&self, writer: &mut LinkWriter) -> Result<()> {
        let mut out = Vec::new();
        loop {
            let pongs = std::mem::take(&mut *self.pongs.borrow_mut());
            for pong in pongs {
                writer.pong(pong).await?;
            }
            out.clear();
            self.end.borrow_mut().compose(&mut out);
            self.room.notify_one();
            if !out.is_empty() {
                writer.send(&mut out).await?;
            } else if self.end.borrow().is_over() {
                return writer.close().await;
            } else {
                self.owes.notified().await;
            }
        }
    }
}
