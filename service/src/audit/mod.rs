//! The audit: one record for each API call and for each change of a tunnel's state (control-plane
//! specification, section 12). Records are added, never changed, and hold no secret.
//!
//! ```text
//! front, control plane, gate ─► Audit ─┬─► audit.jsonl of the data directory
//!                                      └─► rows of the store
//! ```
//!
//! A call is answered after its record is written. One that cannot be written is an error in the log,
//! and the call is answered all the same: a full disk must not lock the operator out.

mod change;
mod file;
mod memory;
mod record;
mod rows;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;

use tracing::error;

use crate::clock::Timestamp;

pub use change::{Change, ClosedBy, Peer};
pub use file::{AuditFile, FILE_SIZE_MAX, FILES_KEPT};
pub use memory::MemoryAudit;
pub use record::{ApiCall, Event, Record};
pub use rows::AuditRows;
pub(crate) use rows::RowsWriter;

/// Where records go.
pub trait AuditSink: Send + Sync + 'static {
    /// Adds one record; it is written when this returns. Records keep the order of the calls that
    /// followed each other.
    fn append(&self, record: Arc<Record>) -> impl Future<Output = Result<(), AuditError>> + Send;
}

/// A sink that can be asked, like a store.
pub trait AuditLog: AuditSink {
    /// Adds records, all of them or none; they are written when this returns.
    fn append_all(
        &self,
        records: Vec<Arc<Record>>,
    ) -> impl Future<Output = Result<(), AuditError>> + Send;

    /// The newest records, the newest first, each as its line of JSON.
    fn latest(&self, count: usize) -> impl Future<Output = Result<Vec<String>, AuditError>> + Send;
}

/// Why a record was not written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the audit cannot be written: {0}")]
pub struct AuditError(pub String);

/// Every sink of a service.
#[derive(Clone, Default)]
pub struct Audit(Arc<[Arc<dyn Sink>]>);

impl Audit {
    /// Nobody keeps a record.
    pub fn none() -> Self {
        Self::default()
    }

    /// With one more sink.
    #[must_use]
    pub fn with(&self, sink: Arc<impl AuditSink>) -> Self {
        let sink: Arc<dyn Sink> = sink;
        Self(self.0.iter().cloned().chain([sink]).collect())
    }

    /// Writes a record everywhere. What fails is logged, once for each sink.
    pub async fn record(&self, time: Timestamp, event: Event) {
        let record = Arc::new(Record { time, event });
        for sink in &*self.0 {
            if let Err(fault) = sink.append_boxed(Arc::clone(&record)).await {
                error!("{fault}");
            }
        }
    }
}

/// [`AuditSink`] as an object.
trait Sink: Send + Sync {
    fn append_boxed(&self, record: Arc<Record>) -> Appending<'_>;
}

type Appending<'a> = Pin<Box<dyn Future<Output = Result<(), AuditError>> + Send + 'a>>;

impl<S: AuditSink> Sink for S {
    fn append_boxed(&self, record: Arc<Record>) -> Appending<'_> {
        Box::pin(self.append(record))
    }
}
