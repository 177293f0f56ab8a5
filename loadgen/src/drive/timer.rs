//! A clock that wakes on time: to the accuracy of the kernel's timers, where monoio's own tick milliseconds.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::TcpStream as StdStream;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Instant;

use monoio::net::TcpStream;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// Wakes the tasks of one worker. Cheap to clone.
///
/// One `timerfd` is set to the earliest time that anybody waits for. Each task waits for one time at once, so
/// there are no more entries than tasks, and those of waits that were dropped until their time comes.
#[derive(Clone)]
pub struct Timer(Rc<Inner>);

struct Inner {
    /// The descriptor that is set; the loop waits on a duplicate.
    fd: OwnedFd,
    waiting: RefCell<BinaryHeap<Reverse<Entry>>>,
    /// What the descriptor is set to.
    armed: Cell<Option<Instant>>,
    /// Whether waits are over before their time.
    is_hurried: Cell<bool>,
    /// Tells entries of the same time apart: first come, first woken.
    next: Cell<u64>,
}

struct Entry {
    at: Instant,
    number: u64,
    waker: Rc<RefCell<Option<Waker>>>,
}

impl Timer {
    /// Starts the timer of the loop that this is called in.
    ///
    /// # Errors
    /// The kernel gives no timer.
    pub fn start() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // monoio waits for readiness of streams only. Nothing of a socket is asked of this one.
        let ready = TcpStream::from_std(StdStream::from(fd.try_clone()?))?;
        let timer = Self(Rc::new(Inner {
            fd,
            waiting: RefCell::default(),
            armed: Cell::new(None),
            is_hurried: Cell::new(false),
            next: Cell::new(0),
        }));
        monoio::spawn(run(timer.clone(), ready));
        Ok(timer)
    }

    /// Waits until `at`, or until all are [`hurried`](Self::hurry). A time that has passed waits not at all.
    pub fn until(&self, at: Instant) -> impl Future<Output = ()> + use<> {
        self.wait(at, true)
    }

    /// Waits until `at`, whatever happens.
    pub fn strictly_until(&self, at: Instant) -> impl Future<Output = ()> + use<> {
        self.wait(at, false)
    }

    /// Ends all waits, and those to come: what they were for is off.
    pub fn hurry(&self) {
        self.0.is_hurried.set(true);
        for Reverse(entry) in self.0.waiting.take() {
            if let Some(waker) = entry.waker.take() {
                waker.wake();
            }
        }
    }

    fn wait(&self, at: Instant, can_hurry: bool) -> impl Future<Output = ()> + use<> {
        let timer = self.clone();
        let mut slot: Option<Rc<RefCell<Option<Waker>>>> = None;
        poll_fn(move |context| {
            if Instant::now() >= at || (can_hurry && timer.0.is_hurried.get()) {
                return Poll::Ready(());
            }
            match &slot {
                Some(slot) if slot.borrow().is_some() => {
                    *slot.borrow_mut() = Some(context.waker().clone());
                }
                _ => {
                    let waker = Rc::new(RefCell::new(Some(context.waker().clone())));
                    slot = Some(Rc::clone(&waker));
                    timer.enter(at, waker);
                }
            }
            Poll::Pending
        })
    }

    fn enter(&self, at: Instant, waker: Rc<RefCell<Option<Waker>>>) {
        let number = self.0.next.get();
        self.0.next.set(number + 1);
        let entry = Entry { at, number, waker };
        self.0.waiting.borrow_mut().push(Reverse(entry));
        self.arm();
    }

    /// Sets the descriptor, unless it is set to no later a time already.
    fn arm(&self) {
        let first = self.0.waiting.borrow().peek().map(|entry| entry.0.at);
        let Some(first) = first else { return };
        if self.0.armed.get().is_some_and(|armed| armed <= first) {
            return;
        }
        self.0.armed.set(Some(first));
        let wait = first.saturating_duration_since(Instant::now());
        let value = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                // Zero would stop it.
                tv_nsec: i64::from(wait.subsec_nanos().max(1)),
            },
        };
        timerfd_settime(&self.0.fd, TimerfdTimerFlags::empty(), &value)
            .expect("the descriptor is a timer, and the time is valid");
    }

    fn wake(&self) {
        self.0.armed.set(None);
        let now = Instant::now();
        loop {
            let mut waiting = self.0.waiting.borrow_mut();
            if waiting.peek().is_none_or(|entry| entry.0.at > now) {
                break;
            }
            let entry = waiting.pop().expect("it was there").0;
            drop(waiting);
            if let Some(waker) = entry.waker.take() {
                waker.wake();
            }
        }
        self.arm();
    }
}

async fn run(timer: Timer, ready: TcpStream) {
    // An error means that the loop is at its end.
    while ready.readable(false).await.is_ok() {
        let mut expirations = [0; 8];
        // "Try again" where it was set anew meanwhile.
        let _ = rustix::io::read(&timer.0.fd, &mut expirations);
        timer.wake();
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::args::IoChoice;
    use crate::drive::Loop;

    #[test]
    fn tasks_wake_in_the_order_of_their_times_and_none_too_early() {
        for choice in [IoChoice::Auto, IoChoice::Epoll] {
            Loop::build(choice).unwrap().block_on(async {
                let timer = Timer::start().unwrap();
                let start = Instant::now();
                let woken = Rc::new(RefCell::new(Vec::new()));
                let tasks: Vec<_> = [30, 10, 20, 10]
                    .into_iter()
                    .map(|milliseconds| {
                        let (timer, woken) = (timer.clone(), Rc::clone(&woken));
                        monoio::spawn(async move {
                            let at = start + Duration::from_millis(milliseconds);
                            timer.until(at).await;
                            assert!(Instant::now() >= at);
                            woken.borrow_mut().push(milliseconds);
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await;
                }
                assert_eq!(*woken.borrow(), [10, 10, 20, 30]);
                timer.until(start).await;
            });
        }
    }
}
