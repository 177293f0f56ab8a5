//! As much as goes through.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use adit_verify::{Kind, MESSAGE_SIZE_MIN};
use monoio::task::JoinHandle;

use super::Sessions;
use crate::args::Direction;
use crate::drive::{Receiver, Sender, Session, Trouble, Turn, Worker};
use crate::report::{ErrorKind, StreamSlot};

/// Two tasks for each connection.
pub(super) fn spawn(
    worker: &Rc<Worker>,
    direction: Direction,
    sessions: Sessions,
) -> Vec<JoinHandle<()>> {
    let spawn = |(index, session)| {
        let stream = Stream::new(worker, index);
        monoio::spawn(stream.run(session, direction, |_| {}))
    };
    sessions.into_iter().map(spawn).collect()
}

/// One connection full of bytes.
pub(super) struct Stream {
    worker: Rc<Worker>,
    slot: StreamSlot,
    /// Verified at the far end, as its receipts say.
    up: u64,
    /// Verified here.
    down: u64,
}

/// What a stream has carried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// When it was noted.
    pub(super) now: Instant,
    /// Bytes since the last, both directions.
    pub(super) bytes: u64,
}

/// A reader that stops reading, until the time is up.
#[derive(Debug)]
pub(super) struct Pause {
    /// From when on.
    pub(super) from: Instant,
    /// Whether it has come to that.
    pub(super) is_taken: bool,
}

/// What came of a stall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stalled {
    /// Whether there was one: the connection lasted until then.
    pub(super) has_stalled: bool,
    /// Whether the target cut it for that.
    pub(super) was_cut: bool,
}

impl Pause {
    fn is_due(&self) -> bool {
        !self.is_taken && Instant::now() >= self.from
    }
}

impl Stream {
    pub(super) fn new(worker: &Rc<Worker>, index: usize) -> Self {
        Self {
            worker: Rc::clone(worker),
            slot: worker.recorder.stream(index as u32),
            up: 0,
            down: 0,
        }
    }

    /// Carries bytes until the time is up, then ends in order, all bytes verified. Tells of what was carried in time.
    pub(super) async fn run(
        mut self,
        session: Session,
        direction: Direction,
        tell: impl Fn(Progress) + 'static,
    ) {
        // Why bytes did not come says more than why none could be sent any more.
        if let Err(trouble) = self.carry(session, direction, tell, None).await {
            self.worker.blame(&trouble);
        }
    }

    /// Reads bulk, and stalls. The target may cut it for that, as one with bounds does, but not before.
    pub(super) async fn stall(
        mut self,
        session: Session,
        tell: impl Fn(Progress) + 'static,
        from: Instant,
    ) -> Stalled {
        let mut pause = Pause {
            from,
            is_taken: false,
        };
        let carried = self
            .carry(session, Direction::Down, tell, Some(&mut pause))
            .await;
        let has_stalled = pause.is_taken;
        let was_cut = match carried {
            Ok(()) => false,
            Err(trouble) => {
                let is_cut = matches!(trouble.kind(), ErrorKind::Reset | ErrorKind::Closed);
                if !(has_stalled && is_cut) {
                    self.worker.blame(&trouble);
                }
                has_stalled && is_cut
            }
        };
        Stalled {
            has_stalled,
            was_cut,
        }
    }

    async fn carry(
        &mut self,
        session: Session,
        direction: Direction,
        tell: impl Fn(Progress),
        pause: Option<&mut Pause>,
    ) -> Result<(), Trouble> {
        let (sender, receiver) = session.split();
        let has_failed = Rc::new(Cell::new(false));
        let sending = send(
            Rc::clone(&self.worker),
            sender,
            direction,
            Rc::clone(&has_failed),
        );
        let sending = monoio::spawn(sending);
        let received = self.receive(receiver, tell, pause).await;
        has_failed.set(received.is_err());
        let sent = sending.await;
        self.worker.recorder.closed();
        received.and(sent)
    }

    async fn receive(
        &mut self,
        mut receiver: Receiver,
        tell: impl Fn(Progress),
        mut pause: Option<&mut Pause>,
    ) -> Result<(), Trouble> {
        (self.up, self.down) = (0, receiver.offset());
        let mut has_ended = false;
        loop {
            let mut acknowledged = self.up;
            while let Some(message) = receiver.buffered()? {
                match message.kind {
                    Kind::Receipt => acknowledged = message.numbers[0],
                    Kind::End => has_ended = true,
                    _ => {}
                }
            }
            self.note(acknowledged, receiver.offset(), &tell);
            if has_ended {
                break;
            }
            if let Some(pause) = pause.as_mut().filter(|it| it.is_due()) {
                pause.is_taken = true;
                self.worker.timer.until(self.worker.end()).await;
            }
            receiver.read().await?;
        }
        receiver.leave().await
    }

    /// What comes after the time is up is verified, but not counted.
    fn note(&mut self, up: u64, down: u64, tell: &impl Fn(Progress)) {
        let (new_up, new_down) = (up - self.up, down - self.down);
        (self.up, self.down) = (up, down);
        let now = Instant::now();
        if now < self.worker.end() {
            self.worker.recorder.bytes(new_up, new_down);
            self.worker.recorder.share(self.slot, new_up, new_down);
            tell(Progress {
                now,
                bytes: new_up + new_down,
            });
        }
    }
}

async fn send(
    worker: Rc<Worker>,
    mut sender: Sender,
    direction: Direction,
    has_failed: Rc<Cell<bool>>,
) -> Result<(), Trouble> {
    worker.timer.until(worker.start).await;
    if direction != Direction::Up {
        sender.pour(BODY_SIZE);
        sender.send().await?;
    }
    if direction == Direction::Down {
        worker.timer.until(worker.end()).await;
    } else {
        let mut turn = Turn::default();
        while Instant::now() < worker.end() && !has_failed.get() {
            for _ in 0..MESSAGES_AT_ONCE {
                sender.seeded(Kind::Data, 0, BODY_SIZE + MESSAGE_SIZE_MIN);
            }
            sender.send().await?;
            turn.moved(MESSAGES_AT_ONCE * BODY_SIZE).await;
        }
    }
    if direction != Direction::Up {
        sender.stop();
    }
    sender.end();
    sender.send().await
}

/// Whole segments of the pool, so that no digest is computed.
const BODY_SIZE: usize = 64 * 1024;

/// 128 KiB are written at a time.
const MESSAGES_AT_ONCE: usize = 2;
