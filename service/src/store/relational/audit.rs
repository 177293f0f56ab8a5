//! Records of the audit in a table, each as its line of JSON.

use super::{Failure, Row, Sql};
use crate::audit::AuditError;

/// Adds records, and drops the oldest beyond the bound now and then. One statement for all: a server is asked once.
pub(in crate::store) async fn append<D: Sql>(
    db: &D,
    lines: &[String],
) -> Result<(), Failure<AuditError>> {
    let lines = serde_json::to_string(lines).expect("texts are JSON");
    let rows = db.query(D::APPEND_RECORDS, &[lines.into()]).await?;
    let added: Result<Vec<_>, _> = rows.iter().map(|row| row.number(0)).collect();
    let due = |sequence: &i64| sequence % PRUNED_TOGETHER == 0;
    if let Some(last) = added?.into_iter().filter(due).max() {
        db.execute(D::PRUNE_RECORDS, &[(last - RECORDS_MAX).into()])
            .await?;
    }
    Ok(())
}

/// The newest first.
pub(in crate::store) async fn latest(
    db: &impl Sql,
    count: usize,
) -> Result<Vec<String>, Failure<AuditError>> {
    let sql = "SELECT record FROM audit ORDER BY sequence DESC LIMIT $1";
    let rows = db.query(sql, &[count.into()]).await?;
    let line = |row: &Row| row.text(0).map(str::to_owned);
    let lines: Result<_, _> = rows.iter().map(line).collect();
    Ok(lines?)
}

/// Kept in the store, about 500 bytes each: 50 MB. The file in the data directory keeps more.
pub(in crate::store) const RECORDS_MAX: i64 = 100_000;

/// So many more than that there may be for a while.
pub(in crate::store) const PRUNED_TOGETHER: i64 = 64;
