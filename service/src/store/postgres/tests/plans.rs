//! What reading costs does not grow with the table: every statement is answered from an index.

use super::*;
use crate::store::postgres::tables::PRUNE_RECORDS;

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
        tunnels::BY_ID.as_str(),
        &tunnels::BY_ROUTING_KEY,
        tunnels::LIST,
        tunnels::LIST_OF_THING,
        tunnels::OPEN_OF,
        &tunnels::DUE,
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

/// Statistics are of some time before, and the audit has moved on since: what is due looks like most of the table.
#[tokio::test]
async fn what_the_audit_drops_is_found_by_its_index_whatever_the_statistics_say() {
    let Some(database) = Database::new() else {
        return;
    };
    let store = database.node(&ManualClock::new()).await;
    let mut client = store.pool.get().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let filled = "INSERT INTO audit (record) SELECT 'a record' FROM generate_series(1, 20000); ANALYZE audit; \
                  DELETE FROM audit; \
                  INSERT INTO audit (record) SELECT 'a record' FROM generate_series(1, 20000)";
    transaction.batch_execute(filled).await.unwrap();
    let prepare = format!("PREPARE prune AS {}", PRUNE_RECORDS);
    transaction.batch_execute(&prepare).await.unwrap();
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let set = format!("SET LOCAL plan_cache_mode = {mode}");
        transaction.batch_execute(&set).await.unwrap();
        let explain = "EXPLAIN EXECUTE prune(20064)";
        let rows = transaction.query(explain, &[]).await.unwrap();
        let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let plan = lines.join("\n");
        assert!(!plan.contains("Seq Scan"), "{mode}:\n{plan}");
    }
}
