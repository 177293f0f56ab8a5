//! What the passing of time does.

use adit_proto::TunnelId;

use super::Tunnels;
use super::types::Expired;
use crate::clock::Now;

impl Tunnels {
    /// Closes tunnels whose lifetime is over and forgets closed ones that were kept long enough; at
    /// most 1,024 of each in one call, so that nobody waits long for the table.
    pub fn expire(&mut self, now: Now) -> Expired {
        let mut ended = Vec::new();
        let known = self.records.len();
        for _ in 0..BATCH {
            match self.ending.first() {
                Some((ends, id)) if *ends <= now.instant => ended.push(id.clone()),
                Some(_) | None => break,
            }
            self.close_record(now, &ended[ended.len() - 1]);
        }
        for _ in 0..BATCH {
            let Some((purge, id)) = self.purging.first().cloned() else {
                break;
            };
            if purge > now.instant {
                break;
            }
            self.remove(&id);
        }
        self.forget_surplus();
        let first = |set: &std::collections::BTreeSet<(_, _)>| set.first().map(|(at, _)| *at);
        let next = [first(&self.ending), first(&self.purging)];
        Expired {
            ended,
            forgotten: known - self.records.len(),
            next: next.into_iter().flatten().min(),
        }
    }

    /// Closes these tunnels, because their lifetime is over.
    pub(crate) fn end(&mut self, now: Now, ended: &[TunnelId]) {
        ended.iter().for_each(|id| self.close_record(now, id));
        self.forget_surplus();
    }
}

/// Records that one step takes, before others get their turn.
const BATCH: usize = 1_024;
