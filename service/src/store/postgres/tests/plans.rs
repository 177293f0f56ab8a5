//! What reading costs does not grow with the table: every statement is answered from an index.

use super::*;

#[tokio::test]
async fn every_statement_of_the_hot_paths_uses_an_index() {
    let Some(database) = Database::new() else {
        return;
    };
    let store = database.node(&ManualClock::new()).await;
    let mut client = store.pool.get().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    // On a table as small as this one, it would rather read all of it.
    let plain = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off";
    transaction.batch_execute(plain).await.unwrap();
    for sql in [
        tunnels::BY_ID,
        tunnels::BY_ROUTING_KEY,
        tunnels::LIST,
        tunnels::LIST_OF_THING,
        tunnels::OPEN_OF,
        tunnels::DUE,
        tunnels::PURGE,
        tunnels::NEXT_DEADLINE,
    ] {
        let mut explain = format!("EXPLAIN {sql}");
        for place in ["$1", "$2", "$3"] {
            explain = explain.replace(place, "'1'");
        }
        let rows = transaction.query(&explain, &[]).await.unwrap();
        let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let plan = lines.join("\n");
        assert!(plan.contains("Index"), "{sql}:\n{plan}");
        assert!(!plan.contains("Seq Scan on tunnels"), "{sql}:\n{plan}");
        assert!(!plan.contains("Sort"), "{sql}:\n{plan}");
    }
}
