//! What operations cost with many tunnels stored: a measurement, not a test.

use std::time::Instant;

use tokio::task::JoinSet;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --release -p adit-service -- --ignored --nocapture with_100_000"]
#[expect(clippy::disallowed_methods, reason = "it measures time")]
async fn what_reading_costs_with_100_000_tunnels() {
    const TUNNELS: usize = 100_000;
    let rig = Rig::new();
    let store = Arc::new(rig.start());
    let start = Instant::now();
    for batch in 0..TUNNELS / 1_000 {
        let mut opens = JoinSet::new();
        for number in 0..1_000 {
            let (store, now) = (Arc::clone(&store), rig.now());
            let (_, mut new) = prepare(&format!("t-{batch}-{number}"));
            let thing = format!("press-{}", number % 100);
            new.config = Some(crate::store::conformance::config(Some(&thing), &["SSH"]));
            opens.spawn(async move { store.open_tunnel(now, new).await.unwrap() });
        }
        opens.join_all().await;
    }
    eprintln!("opened in {:?}", start.elapsed());
    let count = 100.try_into().unwrap();
    let thing = crate::tunnels::ThingName::new("press-7");
    for (what, thing, after) in [
        ("the first page", None, None),
        ("a page in the middle", None, Some(TUNNELS as u64 / 2)),
        ("a page of a thing", thing, Some(TUNNELS as u64 / 2)),
    ] {
        let request = ListRequest {
            thing,
            after: after.map(crate::tunnels::Cursor::from_bits),
            count,
        };
        let start = Instant::now();
        let page = store.list(rig.now(), request).await.unwrap();
        eprintln!(
            "{what}: {:?}, {} tunnels",
            start.elapsed(),
            page.tunnels.len()
        );
    }
    let start = Instant::now();
    store.is_open(rig.now(), "t-50-500").await.unwrap();
    eprintln!("describe: {:?}", start.elapsed());
}
