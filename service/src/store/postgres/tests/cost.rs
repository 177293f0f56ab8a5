//! What operations cost with many tunnels stored; see store/cost.rs.

use super::*;
use crate::store::cost::{Cold, fill, warm};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reading_costs_with_many_tunnels() {
    let Some(database) = Database::new() else {
        return;
    };
    let clock = ManualClock::new();
    // What is measured is reading: how fast it is filled does not matter.
    database.url().await;
    let hasty = format!(
        "ALTER DATABASE {} SET synchronous_commit = off",
        database.name()
    );
    database.run(&hasty).await;
    let store = Arc::new(database.node(&clock).await);
    let stored = fill(&store, clock.now()).await;
    // As the server's own upkeep does it before long.
    database.run("ANALYZE").await;
    warm(&*store, clock.now(), stored).await;
    store.shut_down().await;
    let mut cold = Cold::default();
    for _ in 0..40 {
        let store = database.node(&clock).await;
        cold.ask(&store, clock.now(), stored).await;
        store.shut_down().await;
    }
    cold.print();
}
