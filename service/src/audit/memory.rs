//! An audit in memory, for tests and for services that keep nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::{AuditError, AuditLog, AuditSink, Record};

/// Keeps the newest records, up to a number.
#[derive(Debug)]
pub struct MemoryAudit {
    records_max: usize,
    records: Mutex<VecDeque<Arc<Record>>>,
}

impl MemoryAudit {
    /// Of one more than `records_max`, the oldest goes. About 500 bytes each.
    pub fn new(records_max: usize) -> Self {
        Self {
            records_max,
            records: Mutex::default(),
        }
    }
}

impl AuditSink for MemoryAudit {
    async fn append(&self, record: Arc<Record>) -> Result<(), AuditError> {
        self.append_all(vec![record]).await
    }
}

impl AuditLog for MemoryAudit {
    async fn append_all(&self, new: Vec<Arc<Record>>) -> Result<(), AuditError> {
        let mut records = self.records.lock().expect("nobody panics holding it");
        new.into_iter()
            .for_each(|record| records.push_front(record));
        records.truncate(self.records_max);
        Ok(())
    }

    async fn latest(&self, count: usize) -> Result<Vec<String>, AuditError> {
        let records = self.records.lock().expect("nobody panics holding it");
        Ok(records.iter().take(count).map(|r| r.to_json()).collect())
    }
}
