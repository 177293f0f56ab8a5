//! What the time of a refusal tells (threat T-06): a measurement for a release, of which an ordinary run
//! does a small part, so that it keeps working. `tests/release control-plane timing` runs it in full, with
//! optimisation, on a quiet machine.
//!
//! Two kinds of guesses are tried in random order, and Welch's t of their times is printed: of all
//! samples, and of those below the 90th percentile of both kinds together, which leaves out what the
//! machine did meanwhile. Below 4.5, either way, the kinds are not told apart: with `ADIT_JUDGE=1` more
//! is a failure. A routing key is no secret, so that the last comparison only shows what a difference
//! looks like.

use std::time::Instant;

use super::*;
use crate::store::{SqliteStore, Store};
use crate::testing::{Random, asked, judges, seed};

#[tokio::test]
async fn what_the_time_of_a_refusal_tells() {
    measure("memory", MemoryStore::new(Limits::default())).await;
    let dir = tempfile::tempdir().unwrap();
    let dir = Arc::new(crate::data_dir::DataDir::open(dir.path()).unwrap());
    let store = SqliteStore::open(dir, Limits::default(), Clock::system().now()).unwrap();
    measure("SQLite", store).await;
}

async fn measure<S: Store>(name: &str, store: S) {
    let (count, mut random) = (asked("ADIT_SAMPLES", 1_000), Random(seed()));
    let (store, clock) = (Arc::new(store), Clock::system());
    let (opened, new) = crate::store::conformance::prepare("t");
    store.open_tunnel(clock.now(), new).await.unwrap();
    let (told, _heard) = news();
    let gate = Gate::new(store, Arc::new(Links::default()), told, clock);
    let good = opened.source.expose();
    let changed = |index: usize| {
        let mut token = good.as_bytes().to_vec();
        token[index] = if token[index] == b'A' { b'B' } else { b'A' };
        String::from_utf8(token).unwrap()
    };
    for (what, kinds, is_secret) in [
        ("the same guess twice", [changed(59), changed(59)], true),
        (
            "first or last character of the secret wrong",
            [changed(17), changed(59)],
            true,
        ),
        (
            "no such tunnel, or a wrong secret",
            [changed(0), changed(59)],
            false,
        ),
    ] {
        let samples = sample(&gate, &kinds, count, &mut random).await;
        let [one, other] = samples.each_ref().map(|samples| Moments::of(samples));
        let cut = cut(&samples);
        let [one_cut, other_cut] = cut.each_ref().map(|samples| Moments::of(samples));
        eprintln!(
            "{name}: {what}: {:.0} and {:.0} ns, t = {:.2}; below the 90th percentile {:.0} and {:.0} ns, \
             t = {:.2}; {count} samples each",
            one.mean,
            other.mean,
            one.welch(&other),
            one_cut.mean,
            other_cut.mean,
            one_cut.welch(&other_cut)
        );
        let told = one_cut.welch(&other_cut).abs() >= TOLD_APART;
        assert!(!(judges() && is_secret && told), "{name}: {what}");
    }
}

#[expect(clippy::disallowed_methods, reason = "it measures time")]
async fn sample<S: Store>(
    gate: &Gate<S>,
    kinds: &[String; 2],
    count: usize,
    random: &mut Random,
) -> [Vec<f64>; 2] {
    let mut samples = [Vec::with_capacity(count), Vec::with_capacity(count)];
    while samples.iter().any(|samples| samples.len() < count) {
        let kind = random.below(2);
        // Made anew, and so in the same place: two that were kept differ by where they lie, which takes up to
        // 1 ns here and tells even the same guess from itself.
        let request = upgrade_request(Mode::Source, &kinds[kind], A);
        let start = Instant::now();
        let refused = gate.admit(&request, PEER, "channel").await;
        let took = start.elapsed();
        assert!(refused.is_err());
        if samples[kind].len() < count {
            samples[kind].push(took.as_nanos() as f64);
        }
    }
    samples
}

/// The samples below the 90th percentile of all.
fn cut(samples: &[Vec<f64>; 2]) -> [Vec<f64>; 2] {
    let mut all = samples.concat();
    all.sort_by(f64::total_cmp);
    let most = all[all.len() * 9 / 10];
    let kept = |samples: &Vec<f64>| samples.iter().copied().filter(|&s| s < most).collect();
    samples.each_ref().map(kept)
}

/// Welch's t from which on two kinds differ, as is usual for leaks by time.
const TOLD_APART: f64 = 4.5;

struct Moments {
    mean: f64,
    /// Variance of the mean.
    variance: f64,
}

impl Moments {
    fn of(samples: &[f64]) -> Self {
        let count = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / count;
        let squares: f64 = samples.iter().map(|s| (s - mean).powi(2)).sum();
        Self {
            mean,
            variance: squares / (count - 1.0) / count,
        }
    }

    fn welch(&self, other: &Self) -> f64 {
        (self.mean - other.mean) / (self.variance + other.variance).sqrt()
    }
}
