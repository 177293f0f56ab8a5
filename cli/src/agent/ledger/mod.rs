//! What an agent has to remember: tunnels that go on, and tokens it has acted on.
//!
//! It is plain state: no file and no clock. [`store`] keeps it on disk.

mod format;
pub(super) mod store;

use std::collections::VecDeque;
use std::fmt;

use adit_proto::notification::{Notification, Region};
use adit_proto::{AccessToken, ClientToken, ServiceId};
use aws_lc_rs::digest;

pub use self::format::fuzz_ledger;

/// Steady time: milliseconds by the clock of [`store`].
pub(super) type Millis = u64;

/// SHA-256 of an access token: names a tunnel without being of use to anybody.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(super) fn of(token: &AccessToken) -> Self {
        let mut hash = Self([0; 32]);
        let made = digest::digest(&digest::SHA256, token.expose().as_bytes());
        hash.0.copy_from_slice(made.as_ref());
        hash
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// A tunnel of this device, with all that it takes to connect to it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) access_token: AccessToken,
    /// Makes the access token good for another connection of this agent, and of nobody else.
    pub(super) client_token: ClientToken,
    pub(super) region: Region,
    pub(super) services: Vec<ServiceId>,
    /// No tunnel lives longer; then it is forgotten.
    pub(super) ends: Millis,
}

impl Record {
    pub(super) fn hash(&self) -> TokenHash {
        TokenHash::of(&self.access_token)
    }
}

/// A token that was acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    hash: TokenHash,
    /// Until when a repeat is ignored.
    until: Millis,
}

/// The tunnels of an agent, and the tokens of those that it had.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    /// At most as many as the operator allows.
    tunnels: Vec<Record>,
    /// The oldest first; at most [`SEEN_MAX`].
    seen: VecDeque<Seen>,
}

/// Why a notification starts no tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// Its token was acted on before.
    Repeated,
    /// There are as many tunnels as may be.
    Full,
}

impl Ledger {
    /// Takes a tunnel in. Nothing changes on a denial.
    ///
    /// Repeats are told by the token alone (control-plane specification, section 13.5): whatever else
    /// a message says, its token works once.
    pub(super) fn admit(
        &mut self,
        notification: Notification,
        client_token: ClientToken,
        tunnels_max: u32,
        now: Millis,
    ) -> Result<Record, Denial> {
        let hash = TokenHash::of(&notification.access_token);
        if self.has_seen_hash(hash, now) {
            return Err(Denial::Repeated);
        }
        if self.tunnels.len() >= tunnels_max as usize {
            return Err(Denial::Full);
        }
        self.remember(hash, now);
        let record = Record {
            access_token: notification.access_token,
            client_token,
            region: notification.region,
            services: notification.services,
            ends: now.saturating_add(LIFETIME_MAX),
        };
        self.tunnels.push(record.clone());
        Ok(record)
    }

    /// Whether a notification's token was acted on before.
    pub(super) fn has_seen(&self, notification: &Notification, now: Millis) -> bool {
        self.has_seen_hash(TokenHash::of(&notification.access_token), now)
    }

    /// Forgets a tunnel that is over; its token stays known.
    pub(super) fn end(&mut self, hash: TokenHash) {
        self.tunnels.retain(|tunnel| tunnel.hash() != hash);
    }

    /// The tunnels that go on.
    pub(super) fn tunnels(&self) -> &[Record] {
        &self.tunnels
    }

    /// Makes what was read from a file fit to go on with: what is over goes, and nothing has more time
    /// left than it could have been given, whatever the clock was then and is now.
    fn settle(&mut self, now: Millis) {
        let latest = now.saturating_add(LIFETIME_MAX);
        for tunnel in &mut self.tunnels {
            tunnel.ends = tunnel.ends.min(latest);
        }
        self.tunnels.retain(|tunnel| tunnel.ends > now);
        for seen in &mut self.seen {
            seen.until = seen.until.min(latest);
        }
        self.seen.retain(|seen| seen.until > now);
    }

    fn has_seen_hash(&self, hash: TokenHash, now: Millis) -> bool {
        let mut seen = self.seen.iter();
        seen.any(|seen| seen.hash == hash && seen.until > now)
            || self.tunnels.iter().any(|tunnel| tunnel.hash() == hash)
    }

    fn remember(&mut self, hash: TokenHash, now: Millis) {
        self.seen.retain(|seen| seen.until > now);
        while self.seen.len() >= SEEN_MAX {
            // A repeat of the one that goes is refused by the service: its client token is gone. That
            // of a live tunnel is known by the tunnel.
            self.seen.pop_front();
        }
        self.seen.push_back(Seen {
            hash,
            until: now.saturating_add(LIFETIME_MAX),
        });
    }
}

/// The longest life of a tunnel, and so of a token (control-plane specification, section 3.1).
pub(super) const LIFETIME_MAX: Millis = 12 * 60 * 60 * 1000;

/// Tokens that are remembered: 85 an hour for twelve hours. Their file has 90 KiB then.
const SEEN_MAX: usize = 1_024;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::agent) fn notification(token: &str) -> Notification {
        let payload = format!(
            r#"{{"clientAccessToken":"{token}","clientMode":"destination","region":"eu-west-1","services":["SSH"]}}"#
        );
        Notification::parse(payload.as_bytes()).unwrap()
    }

    pub(in crate::agent) fn client_token() -> ClientToken {
        ClientToken::strict("c".repeat(36)).unwrap()
    }

    fn admit(ledger: &mut Ledger, token: &str, now: Millis) -> Result<Record, Denial> {
        ledger.admit(notification(token), client_token(), 20, now)
    }

    const HOUR: Millis = 3_600_000;

    #[test]
    fn ten_thousand_replays_start_nothing() {
        let mut ledger = Ledger::default();
        for token in ["a", "b", "c"] {
            admit(&mut ledger, token, 0).unwrap();
        }
        let c = TokenHash::of(&notification("c").access_token);
        ledger.end(c);
        for count in 0..10_000 {
            let token = ["a", "b", "c"][count % 3];
            assert_eq!(admit(&mut ledger, token, 5), Err(Denial::Repeated));
        }
        assert_eq!(ledger.tunnels().len(), 2);
        assert_eq!(ledger.seen.len(), 3);
    }

    #[test]
    fn ten_thousand_forgeries_start_no_more_than_may_be() {
        let mut ledger = Ledger::default();
        let started = (0..10_000)
            .filter(|count| admit(&mut ledger, &format!("forged-{count}"), 0).is_ok())
            .count();
        assert_eq!(started, 20);
        assert_eq!((ledger.tunnels().len(), ledger.seen.len()), (20, 20));
    }

    #[test]
    fn a_repeat_is_told_by_its_token_alone() {
        let mut ledger = Ledger::default();
        admit(&mut ledger, "a", 0).unwrap();
        let mut other = notification("a");
        other.services = vec!["VNC".parse().unwrap()];
        other.region = "us-east-1".parse().unwrap();
        let denied = ledger.admit(other, client_token(), 20, 1);
        assert_eq!(denied, Err(Denial::Repeated));
    }

    #[test]
    fn a_place_that_is_free_again_can_be_taken() {
        let mut ledger = Ledger::default();
        let first = ledger
            .admit(notification("a"), client_token(), 1, 0)
            .unwrap();
        let denied = ledger.admit(notification("b"), client_token(), 1, 0);
        assert_eq!(denied, Err(Denial::Full));
        ledger.end(first.hash());
        // What was refused was not acted on, so it may come again.
        ledger
            .admit(notification("b"), client_token(), 1, 0)
            .unwrap();
    }

    #[test]
    fn a_token_is_remembered_for_twelve_hours() {
        let mut ledger = Ledger::default();
        let record = admit(&mut ledger, "a", 0).unwrap();
        assert_eq!(record.ends, 12 * HOUR);
        ledger.end(record.hash());
        assert_eq!(
            admit(&mut ledger, "a", 12 * HOUR - 1),
            Err(Denial::Repeated)
        );
        admit(&mut ledger, "a", 12 * HOUR).unwrap();
        assert_eq!(ledger.seen.len(), 1, "what is over is not kept");
    }

    #[test]
    fn tokens_are_bounded_and_that_of_a_live_tunnel_is_never_forgotten() {
        let mut ledger = Ledger::default();
        admit(&mut ledger, "live", 0).unwrap();
        for count in 0..SEEN_MAX * 2 {
            let record = admit(&mut ledger, &format!("t{count}"), 0).unwrap();
            ledger.end(record.hash());
        }
        assert_eq!(ledger.seen.len(), SEEN_MAX);
        assert_eq!(admit(&mut ledger, "live", 0), Err(Denial::Repeated));
    }

    #[test]
    fn clock_jumps_make_nothing_immortal_and_end_nothing_that_has_time() {
        let year = 365 * 24 * HOUR;
        let mut ledger = Ledger::default();
        admit(&mut ledger, "a", year).unwrap();
        ledger.settle(year + HOUR);
        assert_eq!(ledger.tunnels()[0].ends, year + 12 * HOUR);
        // The clock was a year ahead when this was written.
        ledger.settle(0);
        assert_eq!(ledger.tunnels()[0].ends, 12 * HOUR);
        ledger.settle(12 * HOUR);
        assert_eq!((ledger.tunnels().len(), ledger.seen.len()), (0, 0));
    }

    #[test]
    fn neither_token_nor_hash_can_be_read_from_a_log() {
        let mut ledger = Ledger::default();
        admit(&mut ledger, "very-secret", 0).unwrap();
        let shown = format!("{ledger:?}");
        assert!(
            !shown.contains("very-secret") && !shown.contains("ccc"),
            "{shown}"
        );
    }
}
