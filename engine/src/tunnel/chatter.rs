//! Frames that carry nothing, within bounds.

use super::bucket::Bucket;
use super::error::PeerError;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Control frames and empty ones that a peer may send in a second, for ever.
///
/// A proxy of ours pings at most every 10 ms, the reference every 20 s unless it is told otherwise. Libraries that stream
/// a message end it with an empty fragment, as often as they like: that one is not counted where the message carried bytes.
pub(crate) const IDLE_FRAMES_PER_SECOND: u64 = 1_000;

/// As many more at once, saved up while it sends fewer: what a peer that pings every 5 s says in five days in which it is
/// not read, for a relay reads nobody whose other side takes nothing.
pub(crate) const IDLE_FRAMES_SAVED: u64 = 100_000;

/// The frames of one peer that carry nothing for the tunnel: pings, pongs, empty frames and fragments, but for
/// the end of a message that carried bytes.
///
/// The sender pays next to nothing for them and they are of no use to anybody, so beyond a budget they end the
/// WebSocket. What carries bytes is not counted, however small its frames: 65,537 of them make a message, and that is
/// work for its sender as well; [`Quotas`](super::relay::Quotas) bound it.
pub(crate) struct Chatter(Bucket);

impl Default for Chatter {
    fn default() -> Self {
        let saved = Duration::from_secs(IDLE_FRAMES_SAVED / IDLE_FRAMES_PER_SECOND);
        let rate = NonZeroU64::new(IDLE_FRAMES_PER_SECOND).expect("it is not zero");
        Self(Bucket::new(rate, saved))
    }
}

impl Chatter {
    /// So many more came.
    ///
    /// # Errors
    /// [`PeerError::Chatter`]: too many.
    #[cold]
    pub(crate) fn heard(&mut self, now: Instant, frames: u32) -> Result<(), PeerError> {
        self.0.take(now, frames.into());
        match self.0.over_until(now) {
            None => Ok(()),
            Some(_) => Err(PeerError::Chatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: u32 = IDLE_FRAMES_SAVED as u32;
    const PER_SECOND: u32 = IDLE_FRAMES_PER_SECOND as u32;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "some instant to start from")]
    fn what_is_saved_up_is_said_at_once_and_then_the_rate_holds() {
        let mut now = Instant::now();
        let mut chatter = Chatter::default();
        assert_eq!(chatter.heard(now, SAVED), Ok(()));
        for _ in 0..1_000 {
            now += Duration::from_secs(1);
            assert_eq!(chatter.heard(now, PER_SECOND), Ok(()));
        }
        assert_eq!(chatter.heard(now, 1), Err(PeerError::Chatter));
    }
}
