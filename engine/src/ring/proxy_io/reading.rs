//! Up to when a link was read: who waits for silence must not take for it what only nobody has read.

use std::time::Instant;

/// How far a link was read, in time.
pub(super) struct Reading {
    /// Whatever had come by then was read.
    until: Instant,
    /// A moment after it, and how many bytes had come by then since the link began.
    mark: Option<(Instant, u64)>,
}

impl Reading {
    /// Of a link that begins now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            until: now,
            mark: None,
        }
    }

    /// Up to when it was read, if `read` bytes were. `come` tells how many have come so far.
    ///
    /// A link that always has more is never read to its end, so its marks follow each other: each
    /// is reached once what had come by then is read, which is as much as the kernel holds at most.
    pub(super) fn look(&mut self, now: Instant, read: u64, come: impl FnOnce() -> u64) -> Instant {
        if let Some((at, size)) = self.mark {
            if read < size {
                return self.until;
            }
            self.until = at;
        }
        let size = come();
        self.mark = Some((now, size));
        if read >= size {
            self.until = now;
        }
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_link_that_always_has_more_is_read_up_to_a_moment_all_the_same() {
        #[expect(clippy::disallowed_methods, reason = "any moment will do")]
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut reading = Reading::new(start);
        assert_eq!(reading.look(at(1), 100, || 100), at(1), "nothing waits");
        assert_eq!(reading.look(at(2), 100, || 300), at(1));
        assert_eq!(
            reading.look(at(3), 299, || 500),
            at(1),
            "a byte of it waits"
        );
        assert_eq!(reading.look(at(4), 300, || 600), at(2));
        assert_eq!(reading.look(at(5), 650, || 900), at(4));
        assert_eq!(reading.look(at(6), 900, || 900), at(6));
    }
}
