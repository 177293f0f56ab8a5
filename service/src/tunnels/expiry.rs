//! What the passing of time does.

use super::Tunnels;
use super::types::Expired;
use crate::clock::Now;

impl Tunnels {
    /// Closes tunnels whose lifetime is over and forgets closed ones that were kept long enough; at
    /// most 1,024 of each in one call, so that nobody waits long for the table.
    pub fn expire(&mut self, now: Now) -> Expired {
        let mut ended = Vec::new();
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
            next: next.into_iter().flatten().min(),
        }
    }
}

/// One record costs about a microsecond.
const BATCH: usize = 1_024;
