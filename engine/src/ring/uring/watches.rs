//! Which descriptor is watched under which token, and under which name the kernel knows it.

use std::os::fd::RawFd;

use crate::ring::backend::Ready;
use crate::ring::token::Token;

/// The table of watches: one place per descriptor number, since a number is watched at most once
/// and the kernel hands out the lowest free one. 28 bytes a place, 20,000 descriptors 0.6 MiB.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_fd: Vec<Watch>,
}

/// One place of the table.
///
/// ```text
///             watch            armed
/// Unwatched ---------> Queued -------> Armed
///     ^                 |  ^             |
///     |      forget     |  | kernel ended the poll
///     +-----------------+--+-------------+-----> Failed (only forget leads out)
/// ```
#[derive(Clone, Copy, Debug)]
struct Watch {
    token: Token,
    /// Counts the watches that this number has had. Wraps at 65_536; a completion is reaped
    /// within a few turns, and each of the others would need a turn of its own.
    generation: u16,
    state: State,
    /// A read gave less than it was asked for, and none has shown since that this was all.
    is_doubtful: bool,
    /// Its name was given out by `doubt` and did not come back to `settle`.
    is_listed: bool,
    /// The wait that last reported this watch, and where in its batch.
    reported: (u32, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unwatched,
    /// Waits for its poll to be submitted, the first time or again.
    Queued,
    /// The kernel has the poll and has not said that it is over.
    Armed,
    /// The kernel will not poll this descriptor.
    Failed,
}

impl Watches {
    /// Begins a watch, to be armed. `None` if the number is watched already.
    pub(super) fn insert(&mut self, fd: RawFd, token: Token) -> Option<PollName> {
        let index = usize::try_from(fd).ok()?;
        if index >= self.by_fd.len() {
            self.by_fd.resize(index + 1, Watch::EMPTY);
        }
        let watch = &mut self.by_fd[index];
        if watch.state != State::Unwatched {
            return None;
        }
        *watch = Watch {
            token,
            generation: watch.generation.wrapping_add(1),
            state: State::Queued,
            is_doubtful: false,
            is_listed: false,
            reported: watch.reported,
        };
        Some(PollName::new(fd, watch.generation))
    }

    /// Ends the watch of `fd`. The name of its poll, if the kernel has one that must be cancelled.
    pub(super) fn remove(&mut self, fd: RawFd, token: Token) -> Option<PollName> {
        let watch = self.by_fd.get_mut(usize::try_from(fd).ok()?)?;
        if watch.state == State::Unwatched || watch.token != token {
            return None;
        }
        let was_armed = watch.state == State::Armed;
        watch.state = State::Unwatched;
        was_armed.then(|| PollName::new(fd, watch.generation))
    }

    /// Marks the poll as handed to the kernel; false if the watch is over by now.
    pub(super) fn arm(&mut self, name: PollName) -> bool {
        let Some(watch) = self.named(name) else {
            return false;
        };
        let is_queued = watch.state == State::Queued;
        if is_queued {
            watch.state = State::Armed;
        }
        is_queued
    }

    /// What became of the poll that a completion names: the kernel keeps it (`Keep`), ended it
    /// (`Requeue`) or refuses it (`Fail`). False when that watch is over, so the completion is late.
    pub(super) fn complete(&mut self, name: PollName, outcome: Outcome) -> bool {
        let Some(watch) = self.named(name) else {
            return false;
        };
        match outcome {
            Outcome::Keep => {}
            Outcome::Requeue => watch.state = State::Queued,
            Outcome::Fail => watch.state = State::Failed,
        }
        true
    }

    /// Adds the readiness in `bits` to the batch of wait number `wait`; a descriptor that has
    /// several completions in one batch gets one event.
    pub(super) fn report(&mut self, name: PollName, bits: u32, wait: u32, batch: &mut Vec<Ready>) {
        let Some(watch) = self.named(name) else {
            return;
        };
        let event = Ready::from_bits(watch.token, bits);
        if watch.reported.0 == wait
            && let Some(earlier) = batch.get_mut(watch.reported.1 as usize)
            && earlier.token == watch.token
        {
            earlier.readable |= event.readable;
            earlier.writable |= event.writable;
            earlier.hangup |= event.hangup;
            earlier.gone |= event.gone;
            earlier.urgent |= event.urgent;
        } else {
            watch.reported = (wait, batch.len() as u32);
            batch.push(event);
        }
    }

    /// Notes that a read of `fd` gave less than it was asked for. Its name, to be given to
    /// [`settle`](Self::settle) later, unless that is to come anyway.
    pub(super) fn doubt(&mut self, fd: RawFd) -> Option<PollName> {
        let watch = self.watched(fd)?;
        watch.is_doubtful = true;
        let is_news = !std::mem::replace(&mut watch.is_listed, true);
        is_news.then(|| PollName::new(fd, watch.generation))
    }

    /// Notes that `fd` has nothing more.
    pub(super) fn believe(&mut self, fd: RawFd) {
        if let Some(watch) = self.watched(fd) {
            watch.is_doubtful = false;
        }
    }

    /// Whether there is still a doubt, which ends here.
    pub(super) fn settle(&mut self, name: PollName) -> bool {
        self.named(name).is_some_and(|watch| {
            watch.is_listed = false;
            std::mem::take(&mut watch.is_doubtful)
        })
    }

    fn watched(&mut self, fd: RawFd) -> Option<&mut Watch> {
        let watch = self.by_fd.get_mut(usize::try_from(fd).ok()?)?;
        (watch.state != State::Unwatched).then_some(watch)
    }

    /// Gives every live watch a new name to be armed under. Returns the pairs (old name if it was
    /// armed, new name); for when the kernel has lost completions.
    pub(super) fn rename_all(&mut self) -> impl Iterator<Item = (Option<PollName>, PollName)> {
        self.by_fd.iter_mut().enumerate().filter_map(|(fd, watch)| {
            let old = PollName::new(fd as RawFd, watch.generation);
            let was_armed = match watch.state {
                State::Unwatched | State::Failed => return None,
                State::Queued => false,
                State::Armed => true,
            };
            watch.generation = watch.generation.wrapping_add(1);
            watch.state = State::Queued;
            // Arming reports the state anew, and the old name is settled by nobody.
            (watch.is_doubtful, watch.is_listed) = (false, false);
            let new = PollName::new(fd as RawFd, watch.generation);
            Some((was_armed.then_some(old), new))
        })
    }

    /// The polls that the kernel holds.
    pub(super) fn armed(&self) -> impl Iterator<Item = PollName> {
        self.by_fd
            .iter()
            .enumerate()
            .filter(|(_, watch)| watch.state == State::Armed)
            .map(|(fd, watch)| PollName::new(fd as RawFd, watch.generation))
    }

    fn named(&mut self, name: PollName) -> Option<&mut Watch> {
        let watch = self.by_fd.get_mut(usize::try_from(name.fd()).ok()?)?;
        (watch.state != State::Unwatched && watch.generation == name.generation()).then_some(watch)
    }
}

impl Watch {
    const EMPTY: Watch = Watch {
        token: Token::new(0, 0, 0),
        generation: 0,
        state: State::Unwatched,
        is_doubtful: false,
        is_listed: false,
        reported: (0, 0),
    };
}

/// What a completion says about the poll it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Keep,
    Requeue,
    Fail,
}

/// A poll's `user_data`: the descriptor it was armed for and how often that number had been
/// watched. Names of our own rather than the loop's token, because from a name the descriptor
/// must be found (to arm it again) without a search, and because a late completion must be told
/// from a current one even if the loop reuses its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PollName(Token);

impl PollName {
    fn new(fd: RawFd, generation: u16) -> Self {
        PollName(Token::new(OP_POLL, generation, fd as u32))
    }

    /// Reads a completion's `user_data`; `None` for a cancellation's.
    pub(super) fn from_user_data(user_data: u64) -> Option<Self> {
        Token::from_bits(user_data)
            .filter(|token| token.op() == OP_POLL)
            .map(PollName)
    }

    pub(super) fn user_data(self) -> u64 {
        self.0.to_bits()
    }

    /// The `user_data` of the request that cancels this poll.
    pub(super) fn cancel_user_data(self) -> u64 {
        Token::new(OP_CANCEL, self.0.generation(), self.0.index()).to_bits()
    }

    pub(super) fn fd(self) -> RawFd {
        self.0.index() as RawFd
    }

    fn generation(self) -> u16 {
        self.0.generation()
    }
}

const OP_POLL: u8 = 1;
const OP_CANCEL: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Token = Token::new(7, 8, 9);
    const OTHER: Token = Token::new(7, 9, 9);
    const IN: u32 = libc::EPOLLIN as u32;
    const OUT: u32 = libc::EPOLLOUT as u32;

    #[test]
    fn a_number_is_watched_once_at_a_time() {
        let mut watches = Watches::default();
        assert!(watches.insert(5, TOKEN).is_some());
        assert!(watches.insert(5, OTHER).is_none());
        assert_eq!(watches.remove(5, TOKEN), None, "never armed");
        assert!(watches.insert(5, OTHER).is_some());
        assert!(watches.insert(-1, TOKEN).is_none());
    }

    #[test]
    fn a_watch_is_in_doubt_until_it_is_settled_or_read_to_its_end() {
        let mut watches = Watches::default();
        assert_eq!(watches.doubt(5), None, "not watched");
        watches.insert(5, TOKEN).expect("a free number");
        let name = watches.doubt(5).expect("the first doubt");
        assert_eq!(watches.doubt(5), None);
        assert!(watches.settle(name));
        assert_eq!(watches.doubt(5), Some(name));
        watches.believe(5);
        assert!(!watches.settle(name), "a read has shown that it was all");
        assert_eq!(watches.doubt(5), Some(name));
        watches.remove(5, TOKEN);
        watches.insert(5, OTHER).expect("free again");
        assert!(!watches.settle(name), "another watch");
        assert!(watches.doubt(5).is_some());
    }

    #[test]
    fn a_late_completion_does_not_reach_the_next_watch_of_the_number() {
        let mut watches = Watches::default();
        let old = watches.insert(5, TOKEN).expect("free");
        assert!(watches.arm(old));
        assert_eq!(watches.remove(5, TOKEN), Some(old));
        let new = watches.insert(5, TOKEN).expect("free again");
        assert!(watches.arm(new));

        assert!(!watches.complete(old, Outcome::Requeue));
        let mut batch = Vec::new();
        watches.report(old, IN, 1, &mut batch);
        assert_eq!(batch, []);
        assert_eq!(watches.armed().collect::<Vec<_>>(), [new]);
    }

    #[test]
    fn forgetting_under_another_token_changes_nothing() {
        let mut watches = Watches::default();
        let name = watches.insert(5, TOKEN).expect("free");
        assert!(watches.arm(name));
        assert_eq!(watches.remove(5, OTHER), None);
        assert_eq!(watches.remove(6, TOKEN), None);
        assert_eq!(watches.remove(-1, TOKEN), None);
        assert!(watches.complete(name, Outcome::Keep));
    }

    #[test]
    fn a_watch_that_ended_before_it_was_armed_is_not_armed() {
        let mut watches = Watches::default();
        let name = watches.insert(5, TOKEN).expect("free");
        watches.remove(5, TOKEN);
        assert!(!watches.arm(name));
    }

    #[test]
    fn completions_of_one_wait_are_one_event() {
        let mut watches = Watches::default();
        let name = watches.insert(5, TOKEN).expect("free");
        let second = watches.insert(6, OTHER).expect("free");
        watches.arm(name);
        watches.arm(second);
        let mut batch = Vec::new();
        watches.report(name, IN, 1, &mut batch);
        watches.report(second, IN, 1, &mut batch);
        watches.report(name, OUT, 1, &mut batch);
        assert_eq!(
            batch,
            [
                Ready::from_bits(TOKEN, IN | OUT),
                Ready::from_bits(OTHER, IN)
            ]
        );

        let mut next = Vec::new();
        watches.report(name, OUT, 2, &mut next);
        assert_eq!(next, [Ready::from_bits(TOKEN, OUT)]);
    }

    #[test]
    fn after_lost_completions_every_poll_is_replaced() {
        let mut watches = Watches::default();
        let armed = watches.insert(5, TOKEN).expect("free");
        watches.arm(armed);
        let queued = watches.insert(6, OTHER).expect("free");
        let failed = watches.insert(7, OTHER).expect("free");
        watches.arm(failed);
        watches.complete(failed, Outcome::Fail);

        let renamed: Vec<_> = watches.rename_all().collect();
        assert_eq!(renamed.len(), 2);
        assert_eq!(renamed[0].0, Some(armed));
        assert_eq!(renamed[1].0, None);
        assert!(!watches.arm(armed) && !watches.arm(queued), "old names");
        assert!(watches.arm(renamed[0].1) && watches.arm(renamed[1].1));
    }

    #[test]
    fn names_and_cancellations_are_told_apart() {
        let mut watches = Watches::default();
        let name = watches.insert(19_999, TOKEN).expect("free");
        assert_eq!(PollName::from_user_data(name.user_data()), Some(name));
        assert_eq!(PollName::from_user_data(name.cancel_user_data()), None);
        assert_eq!(name.fd(), 19_999);
    }
}
