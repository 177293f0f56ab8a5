//! The queue of commands to a loop, with the waker that goes with it: nothing that was sent waits for ever, and
//! whoever asks a loop that ends hears that.

use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::thread;
use tokio::sync::oneshot;

use crate::schedules::in_many_orders;
use handle::Command;
use queue::{COMMANDS_PER_TURN, Commands, Inbox, commands};

/// In the place of std's.
mod atomic {
    pub(super) use shuttle::sync::atomic::{AtomicBool, Ordering};
}
#[path = "../../../engine/src/ring/pending.rs"]
mod pending;
#[path = "../../../engine/src/ring/commands.rs"]
mod queue;

/// As std's is documented: a receiver that goes takes what waits for it along, and later messages are refused.
/// Shuttle's keeps what waits.
mod channel {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use shuttle::sync::Mutex;

    pub(super) struct Sender<T>(Arc<Mutex<Option<VecDeque<T>>>>);

    pub(super) struct Receiver<T>(Arc<Mutex<Option<VecDeque<T>>>>);

    pub(super) fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let messages = Arc::new(Mutex::new(Some(VecDeque::new())));
        (Sender(Arc::clone(&messages)), Receiver(messages))
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            Self(Arc::clone(&self.0))
        }
    }

    impl<T> Sender<T> {
        pub(super) fn send(&self, message: T) -> Result<(), T> {
            match &mut *self.0.lock().unwrap() {
                Some(messages) => {
                    messages.push_back(message);
                    Ok(())
                }
                None => Err(message),
            }
        }
    }

    impl<T> Receiver<T> {
        pub(super) fn try_recv(&self) -> Result<T, ()> {
            let mut messages = self.0.lock().unwrap();
            messages.as_mut().and_then(VecDeque::pop_front).ok_or(())
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            let messages = self.0.lock().unwrap().take();
            drop(messages);
        }
    }
}

mod handle {
    use tokio::sync::oneshot;

    #[derive(Debug)]
    pub(super) enum Command {
        /// By whom, and the how manyth.
        Note(usize, usize),
        Ask(oneshot::Sender<()>),
        Stop,
    }
}

/// The product's, with the kernel's event taken apart into its edge.
mod waker {
    use std::cell::RefCell;
    use std::io;
    use std::os::fd::RawFd;
    use std::sync::Arc;

    use shuttle::sync::{Condvar, Mutex};

    use super::pending::Pending;

    /// Whether an edge was made that was not waited for; however many there were, they are one event.
    #[derive(Default)]
    pub(super) struct Edge {
        is_made: Mutex<bool>,
        made: Condvar,
    }

    impl Edge {
        /// Of the source that was made last: the loops of two models run on two threads of the system.
        pub(super) fn watched() -> Arc<Self> {
            EDGE.with_borrow(Arc::clone)
        }

        pub(super) fn wait(&self) {
            let is_made = self.is_made.lock().unwrap();
            let mut is_made = self.made.wait_while(is_made, |is_made| !*is_made).unwrap();
            *is_made = false;
        }
    }

    std::thread_local! {
        static EDGE: RefCell<Arc<Edge>> = RefCell::default();
    }

    #[derive(Clone)]
    pub(super) struct Waker(Arc<Shared>);

    pub(super) struct WakeSource(Arc<Shared>);

    struct Shared {
        pending: Pending,
        edge: Arc<Edge>,
    }

    impl WakeSource {
        pub(super) fn new() -> io::Result<Self> {
            let edge = Arc::new(Edge::default());
            EDGE.set(Arc::clone(&edge));
            let pending = Pending::new();
            Ok(Self(Arc::new(Shared { pending, edge })))
        }

        pub(super) fn fd(&self) -> RawFd {
            -1
        }

        pub(super) fn waker(&self) -> Waker {
            Waker(Arc::clone(&self.0))
        }

        pub(super) fn acknowledge(&self) -> bool {
            self.0.pending.acknowledge()
        }
    }

    impl Waker {
        pub(super) fn wake(&self) {
            if self.0.pending.announce() {
                *self.0.edge.is_made.lock().unwrap() = true;
                self.0.edge.made.notify_one();
            }
        }
    }
}

/// What a loop does about commands, until it is told to stop. Returns the notes.
fn run(
    inbox: Inbox,
    edge: &waker::Edge,
    turn: fn(&Inbox, &mut dyn FnMut(Command)),
) -> Vec<(usize, usize)> {
    let (mut notes, mut is_stopping) = (Vec::new(), false);
    assert_eq!(inbox.fd(), -1);
    while !is_stopping {
        edge.wait();
        turn(&inbox, &mut |command| match command {
            Command::Note(sender, number) => notes.push((sender, number)),
            Command::Ask(reply) => {
                let _ = reply.send(());
            }
            Command::Stop => is_stopping = true,
        });
    }
    notes
}

/// The order of [`Inbox`]'s contract.
fn turn(inbox: &Inbox, obey: &mut dyn FnMut(Command)) {
    inbox.acknowledge();
    take(inbox, obey);
}

fn take(inbox: &Inbox, obey: &mut dyn FnMut(Command)) {
    for taken in 0.. {
        let Some(command) = inbox.take(taken) else {
            return;
        };
        obey(command);
    }
}

const SENDERS: usize = 3;
const NOTES_EACH: usize = 2;

/// Every command of every thread is obeyed, in the order of the thread, also where a turn has its fill: a loop that
/// waited with commands in its queue would be a deadlock.
pub fn every_command_is_obeyed() {
    in_many_orders(|| obey_all(turn));
}

/// Fails, which tests the model: who takes first, and acknowledges then, misses what comes between.
pub fn a_loop_that_takes_before_it_acknowledges() {
    in_many_orders(|| {
        obey_all(|inbox, obey| {
            take(inbox, obey);
            inbox.acknowledge();
        });
    });
}

fn obey_all(turn: fn(&Inbox, &mut dyn FnMut(Command))) {
    let (commands, inbox) = commands().unwrap();
    let edge = waker::Edge::watched();
    // With those of the threads, more than one turn takes.
    for number in 0..COMMANDS_PER_TURN - NOTES_EACH {
        commands.send(Command::Note(0, number));
    }
    let event_loop = thread::spawn(move || run(inbox, &edge, turn));
    let note = |sender: usize, commands: Commands| {
        move || (0..NOTES_EACH).for_each(|number| commands.send(Command::Note(sender, number)))
    };
    let senders: Vec<_> = (1..=SENDERS)
        .map(|sender| thread::spawn(note(sender, commands.clone())))
        .collect();
    for sender in senders {
        sender.join().unwrap();
    }
    commands.send(Command::Stop);
    let notes = event_loop.join().unwrap();
    for sender in 0..=SENDERS {
        let of_sender = notes.iter().filter(|(other, _)| *other == sender);
        let numbers: Vec<_> = of_sender.map(|(_, number)| *number).collect();
        let count = if sender == 0 {
            COMMANDS_PER_TURN - NOTES_EACH
        } else {
            NOTES_EACH
        };
        assert!(
            numbers.iter().copied().eq(0..count),
            "{sender}: {numbers:?}"
        );
    }
}

/// Whoever asks while the loop is told to stop has an answer, or hears that there will be none.
pub fn a_loop_that_stops_leaves_nobody_waiting() {
    in_many_orders(|| {
        let (commands, inbox) = commands().unwrap();
        let edge = waker::Edge::watched();
        let event_loop = thread::spawn(move || run(inbox, &edge, turn));
        let answered = Arc::new(shuttle::sync::Mutex::new(0));
        let ask = |commands: Commands| {
            let answered = Arc::clone(&answered);
            move || {
                let (reply, answer) = oneshot::channel();
                commands.send(Command::Ask(reply));
                if block_on(answer).is_ok() {
                    *answered.lock().unwrap() += 1;
                }
            }
        };
        let askers: Vec<_> = (0..SENDERS)
            .map(|_| thread::spawn(ask(commands.clone())))
            .collect();
        commands.send(Command::Stop);
        for asker in askers {
            asker.join().unwrap();
        }
        event_loop.join().unwrap();
        assert!(*answered.lock().unwrap() <= SENDERS);
    });
}
