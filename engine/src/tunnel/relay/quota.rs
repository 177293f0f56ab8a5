//! How much a tunnel may carry: over it, its sides are read later, and nothing is dropped.

use super::label::{Act, Label};
use crate::tunnel::bucket::Bucket;
use adit_proto::ids::Mode;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::{Duration, Instant};

/// What one tunnel may carry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Bytes received from both sides in a second, all streams together, pings and headers of
    /// frames included (specification 2.1 and 15). `None`: as many as come.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Connections that the source may start in a second. `None`: as many as it likes.
    pub connections_per_second: Option<NonZeroU32>,
}

/// What is saved up at most: as much as a second brings.
const BURST: Duration = Duration::from_secs(1);

/// What a tunnel has used of its quotas, as of the time it was last told.
#[derive(Default)]
pub(super) struct Quota {
    now: Option<Instant>,
    bytes: Option<Bucket>,
    starts: Option<Bucket>,
}

impl Quota {
    /// Sets other quotas; what was used of those that stay is remembered.
    pub(super) fn set(&mut self, quotas: Quotas) {
        renew(&mut self.bytes, quotas.bytes_per_second);
        renew(
            &mut self.starts,
            quotas.connections_per_second.map(NonZeroU64::from),
        );
    }

    pub(super) fn told(&mut self, now: Instant) {
        self.now = self.now.max(Some(now));
    }

    /// The time it was last told.
    pub(super) fn now(&self) -> Option<Instant> {
        self.now
    }

    #[inline]
    pub(super) fn received(&mut self, size: usize) {
        if let (Some(bucket), Some(now)) = (&mut self.bytes, self.now) {
            bucket.take(now, size as u64);
        }
    }

    #[inline]
    pub(super) fn said(&mut self, label: Label) {
        if let (Some(bucket), Some(now)) = (&mut self.starts, self.now)
            && matches!(label.act, Act::StreamStart | Act::ConnectionStart)
        {
            bucket.take(now, 1);
        }
    }

    /// Until when a side is not to be read. Only the source starts connections.
    #[inline]
    pub(super) fn over_until(&self, side: Mode) -> Option<Instant> {
        let now = self.now?;
        let starts = self.starts.as_ref().filter(|_| side == Mode::Source);
        let buckets = self.bytes.iter().chain(starts);
        buckets.filter_map(|bucket| bucket.over_until(now)).max()
    }
}

fn renew(bucket: &mut Option<Bucket>, rate: Option<NonZeroU64>) {
    if bucket.map(|bucket| bucket.rate()) != rate {
        *bucket = rate.map(|rate| Bucket::new(rate, BURST));
    }
}
