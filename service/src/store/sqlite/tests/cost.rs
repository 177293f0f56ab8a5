//! What operations cost with many tunnels stored; see store/cost.rs.

use super::*;
use crate::store::cost::{Cold, fill, warm};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reading_costs_with_many_tunnels() {
    let rig = Rig::new();
    let store = Arc::new(rig.start());
    let stored = fill(&store, rig.now()).await;
    warm(&*store, rig.now(), stored).await;
    drop(store);
    let mut cold = Cold::default();
    for _ in 0..40 {
        let store = rig.start();
        cold.ask(&store, rig.now(), stored).await;
    }
    cold.print();
}
