//! Who failed to get in, and how often: a source of failures is refused before it costs anything.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::tunnel::bucket::Bucket;

/// How many failed handshakes one address may have: an IPv4 address, or the 64 bits of an IPv6
/// network, which is what one subscriber has.
///
/// A failure is a handshake that does not come to a request in time, a malformed request, or one
/// that is refused for good (4xx). Over its limit an address is reset when it connects, before TLS
/// and before anything is allocated for it; clients take that for a fault that passes and come
/// again. Good clients that share the address of a bad one are let in as often as failures are
/// forgiven, and all of them again as soon as the failures stop.
///
/// Many addresses together have a limit as well. While it is exceeded, an address that has failed is
/// refused until all of its failures are forgiven, and one failure costs it all that it had saved up.
/// So some hundred addresses get in about as often as the limit of all says, and not as often as their
/// limits together. Addresses that have not failed notice nothing.
#[derive(Debug, Clone, Copy)]
pub struct FailureLimit {
    /// Failures forgiven in a second.
    pub per_second: NonZeroU32,
    /// Failures in a second of all addresses together.
    pub all_per_second: NonZeroU32,
    /// Seconds of `per_second` that are saved up, so many times as much may fail at once; of
    /// `all_per_second` it is one second.
    pub burst_seconds: u32,
    /// Whether loopback addresses are not counted: somebody on this machine is mostly what ends
    /// TLS for all the world, or an operator.
    pub spares_loopback: bool,
}

impl Default for FailureLimit {
    /// 10 a second, 100 at once: a token of 256 bits is not found that way, and ten TLS handshakes
    /// a second are under one percent of a core. Of all, 500 a second and at once.
    fn default() -> Self {
        Self {
            per_second: NonZeroU32::new(10).unwrap_or(NonZeroU32::MIN),
            all_per_second: NonZeroU32::new(500).unwrap_or(NonZeroU32::MIN),
            burst_seconds: 10,
            spares_loopback: true,
        }
    }
}

/// Addresses remembered at once, about 5 MiB. When all of them are over their limit's beginning,
/// further ones go uncounted: the bound of handshakes at once still holds.
const ADDRESSES_MAX: usize = 65_536;

/// The failures of the recent past.
pub(super) struct Failures {
    limit: Option<FailureLimit>,
    buckets: Mutex<Buckets>,
}

#[derive(Default)]
struct Buckets {
    by_source: HashMap<IpAddr, Bucket>,
    /// Of all together; `None` before the first failure.
    all: Option<Bucket>,
    /// When it is worth while to look for those that may be forgotten.
    sweep_at: Option<Instant>,
}

impl Failures {
    pub(super) fn new(limit: Option<FailureLimit>) -> Self {
        Self {
            limit,
            buckets: Mutex::default(),
        }
    }

    /// Whether a connection from `address` is to be refused. One that is not, from an address that has
    /// failed, counts as a failure of all from here on: most likely it will be one, and many more
    /// would come before that is known.
    pub(super) fn refuses(&self, address: SocketAddr, now: Instant) -> bool {
        let Some(limit) = self.limit else {
            return false;
        };
        with(&self.buckets, |buckets| {
            let bucket = buckets.by_source.get(&source_of(address.ip()));
            let Some(bucket) = bucket.filter(|bucket| !bucket.is_full(now)) else {
                return false;
            };
            bucket.over_until(now).is_some() || !buckets.take_of_all(limit, now)
        })
    }

    /// A handshake from `address` failed.
    pub(super) fn note(&self, address: SocketAddr, now: Instant) {
        let Some(limit) = self.limit else { return };
        let source = source_of(address.ip());
        if limit.spares_loopback && source.is_loopback() {
            return;
        }
        let burst = Duration::from_secs(limit.burst_seconds.into());
        with(&self.buckets, |buckets| {
            let has_room = buckets.by_source.contains_key(&source) || buckets.has_room(now);
            let bucket = buckets.by_source.get(&source);
            let has_failed = bucket.is_some_and(|bucket| !bucket.is_full(now));
            // The first failure counts here, further ones when they were let in.
            let is_one_too_many = !has_failed && !buckets.take_of_all(limit, now);
            if !has_room {
                return;
            }
            let saved_up = limit.per_second.get().saturating_mul(limit.burst_seconds);
            let cost = if is_one_too_many { saved_up } else { 1 };
            let bucket = buckets.by_source.entry(source);
            bucket
                .or_insert_with(|| Bucket::new(limit.per_second.into(), burst))
                .take(now, cost.into());
        });
    }
}

impl Buckets {
    /// Counts one failure of all; `false`, and it is not counted, when that is too many.
    fn take_of_all(&mut self, limit: FailureLimit, now: Instant) -> bool {
        let all = || Bucket::new(limit.all_per_second.into(), Duration::from_secs(1));
        let all = self.all.get_or_insert_with(all);
        let is_over = all.over_until(now).is_some();
        if !is_over {
            all.take(now, 1);
        }
        !is_over
    }

    fn has_room(&mut self, now: Instant) -> bool {
        let is_full = self.by_source.len() >= ADDRESSES_MAX;
        if is_full && self.sweep_at.is_none_or(|at| at <= now) {
            self.by_source.retain(|_, bucket| !bucket.is_full(now));
            self.sweep_at = Some(now + SWEEP_PAUSE);
        }
        self.by_source.len() < ADDRESSES_MAX
    }
}

/// Least time between two looks through a full table.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// What is counted as one address: an IPv4 address, also where it comes as IPv6, or the first 64 bits of an
/// IPv6 one, which is what one subscriber has; a loopback address is itself.
pub fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()
        }
        address => address,
    }
}

/// Nothing can panic while the lock is held, so a poisoned one is sound.
fn with<T>(buckets: &Mutex<Buckets>, work: impl FnOnce(&mut Buckets) -> T) -> T {
    work(&mut buckets.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn at(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 1)
    }

    fn failures() -> Failures {
        Failures::new(Some(FailureLimit::default()))
    }

    #[test]
    fn an_address_is_refused_after_its_burst_and_soon_forgiven() {
        let (failures, now) = (failures(), Instant::now());
        let (bad, good) = (at("192.0.2.1"), at("192.0.2.2"));
        for _ in 0..100 {
            assert!(!failures.refuses(bad, now));
            failures.note(bad, now);
        }
        assert!(!failures.refuses(bad, now));
        failures.note(bad, now);
        assert!(failures.refuses(bad, now) && !failures.refuses(good, now));
        assert!(!failures.refuses(bad, now + Duration::from_millis(100)));
    }

    /// Handshakes that were let in within a minute, of addresses that each come 200 times a second and
    /// whose failures are known so much later.
    fn let_in(addresses: &[SocketAddr], known_after: Duration) -> usize {
        let (failures, start) = (failures(), Instant::now());
        let (mut under_way, mut count) = (VecDeque::new(), 0);
        for step in 0..60_000 {
            let now = start + Duration::from_millis(step);
            while under_way.front().is_some_and(|(known, _)| *known <= now) {
                let (_, address) = under_way.pop_front().unwrap();
                failures.note(address, now);
            }
            for address in addresses.iter().skip(step as usize % 5).step_by(5) {
                if !failures.refuses(*address, now) {
                    under_way.push_back((now + known_after, *address));
                    count += 1;
                }
            }
        }
        let end = start + Duration::from_secs(60);
        assert!(!failures.refuses(at("192.0.2.1"), end), "it has not failed");
        let quiet = end + Duration::from_secs(21);
        let is_refused = |address: &&SocketAddr| failures.refuses(**address, quiet);
        assert_eq!(addresses.iter().filter(is_refused).count(), 0);
        count
    }

    #[test]
    fn many_addresses_together_are_held_to_the_limit_of_all() {
        let addresses: Vec<_> = (1..=250).map(|n| at(&format!("198.51.100.{n}"))).collect();
        // 10 a second of each would be 150,000 and more, the limit of all alone 30,500.
        for (milliseconds, most) in [(0, 33_000), (5, 35_000), (20, 40_000), (100, 70_000)] {
            let count = let_in(&addresses, Duration::from_millis(milliseconds));
            assert!(count < most, "{count} at {milliseconds} ms");
            assert!(count > 20_000, "{count} at {milliseconds} ms: too strict");
        }
    }

    #[test]
    fn an_ipv6_network_is_one_and_an_ipv4_address_is_one_in_both_forms() {
        assert_eq!(
            source_of("2001:db8::1".parse().unwrap()),
            source_of("2001:db8::2:3".parse().unwrap())
        );
        assert_ne!(
            source_of("2001:db8::1".parse().unwrap()),
            source_of("2001:db8:0:1::1".parse().unwrap())
        );
        assert_eq!(
            source_of("::ffff:192.0.2.1".parse().unwrap()),
            source_of("192.0.2.1".parse().unwrap())
        );
    }

    #[test]
    fn loopback_is_spared_and_no_limit_refuses_nobody() {
        let now = Instant::now();
        let unlimited = Failures::new(None);
        for (failures, address) in [
            (&failures(), at("127.0.0.1")),
            (&failures(), at("::1")),
            (&failures(), at("::ffff:127.0.0.1")),
            (&unlimited, at("192.0.2.1")),
        ] {
            for _ in 0..1000 {
                failures.note(address, now);
            }
            assert!(!failures.refuses(address, now));
        }
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_is_forgiven() {
        let (failures, now) = (failures(), Instant::now());
        for number in 0..ADDRESSES_MAX as u32 + 1000 {
            let address = IpAddr::from(0x0b00_0000_u32.wrapping_add(number).to_be_bytes());
            failures.note(SocketAddr::new(address, 1), now);
        }
        let count = || with(&failures.buckets, |buckets| buckets.by_source.len());
        assert_eq!(count(), ADDRESSES_MAX);
        failures.note(at("192.0.2.1"), now + Duration::from_secs(60));
        assert_eq!(count(), 1);
    }
}
