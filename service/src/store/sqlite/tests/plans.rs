//! What reading costs does not grow with the table: every statement is answered from an index.

use super::*;

async fn plan(store: &SqliteStore, sql: &str) -> String {
    let sql = format!("EXPLAIN QUERY PLAN {sql}");
    let explain = move |connection: &Connection| {
        let mut statement = connection.prepare(&sql)?;
        let count = statement.parameter_count();
        let values = vec![rusqlite::types::Value::Null; count];
        let rows = statement.query_map(rusqlite::params_from_iter(values), |row| {
            row.get::<_, String>(3)
        })?;
        Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?.join("; "))
    };
    store
        .readers
        .read::<_, TunnelError, rusqlite::Error>(explain)
        .await
        .unwrap()
}

#[tokio::test]
async fn every_statement_of_the_hot_paths_uses_an_index() {
    let rig = Rig::new();
    let store = rig.start();
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
        let plan = plan(&store, sql).await;
        assert!(plan.contains("SEARCH"), "{sql}: {plan}");
        assert!(!plan.contains("SCAN tunnels"), "{sql}: {plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{sql}: {plan}");
    }
    let of_thing = plan(&store, tunnels::LIST_OF_THING).await;
    assert!(of_thing.contains("tunnels_by_thing"), "{of_thing}");
}
