//! What a snapshot costs: the numbers in the documentation of [`MemoryStore`] come from here.

use std::time::Instant;

use super::*;
use crate::store::snapshot_file::encode;
use crate::tunnels::Tunnels;

#[test]
#[ignore = "a measurement: cargo test --release -p adit-service -- --ignored --nocapture what_a_snap"]
#[expect(clippy::disallowed_methods, reason = "it measures time")]
fn what_a_snapshot_costs() {
    for count in [1_000, 10_000] {
        let rig = Rig::new();
        let dir = DataDir::open(rig.parent.path()).unwrap();
        let mut tunnels = Tunnels::new(Limits::default());
        for number in 0..count {
            let (_, mut new) = prepare(&uuid::Uuid::new_v4().to_string());
            new.tags = tags(&[("owner", "operations"), ("ticket", "4711")]);
            new.config = Some(DestinationConfig {
                thing: ThingName::new(&format!("device-{number:06}")),
                services: ["SSH"].map(|name| name.parse().unwrap()).into(),
            });
            tunnels.open(rig.now(), new).unwrap();
        }
        let mut times: Vec<_> = (0..21)
            .map(|_| {
                let start = Instant::now();
                let copy = tunnels.clone();
                let copied = start.elapsed();
                let bytes = encode(&copy, rig.now(), 1);
                let encoded = start.elapsed();
                save(&dir, &bytes).unwrap();
                let written = start.elapsed();
                (encoded, written - encoded, copied, bytes.len())
            })
            .collect();
        times.sort();
        let (encoded, _, copied, size) = times[10];
        times.sort_by_key(|time| time.1);
        let disk = (times[10].1, times[20].1);
        eprintln!(
            "{count}: {size} bytes; copy {copied:?}, copy and encode {encoded:?}; \
             write {:?} (worst of 21 {:?})",
            disk.0, disk.1
        );
        let start = Instant::now();
        load(&dir, Limits::default(), rig.now()).unwrap();
        eprintln!("{count}: loaded in {:?}", start.elapsed());
    }
}
