//! Records on their way to the rows of a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use super::{AuditError, AuditLog, AuditSink, Record};

/// Queues records for a store, which gets them in batches.
///
/// Nobody waits for the store: a call is answered once its record is in the file, and a store that is
/// slow or away slows no call. Records that the store cannot take in time are in the file only.
pub struct AuditRows {
    queue: mpsc::Sender<Entry>,
    dropped: Arc<AtomicU64>,
}

/// The other end of the queue.
pub(crate) struct RowsWriter {
    queue: mpsc::Receiver<Entry>,
    dropped: Arc<AtomicU64>,
}

enum Entry {
    Record(Arc<Record>),
    /// Told when everything before it is written, or given up.
    Flush(oneshot::Sender<()>),
}

impl AuditRows {
    pub(crate) fn new() -> (Self, RowsWriter) {
        let (sender, queue) = mpsc::channel(QUEUE_SIZE);
        let dropped = Arc::new(AtomicU64::new(0));
        let rows = Self {
            queue: sender,
            dropped: Arc::clone(&dropped),
        };
        (rows, RowsWriter { queue, dropped })
    }

    /// Waits until what was queued by now is written.
    pub(crate) async fn flush(&self) {
        let (written, result) = oneshot::channel();
        if self.queue.send(Entry::Flush(written)).await.is_ok() {
            // Its end is as good.
            let _ = result.await;
        }
    }
}

impl AuditSink for AuditRows {
    async fn append(&self, record: Arc<Record>) -> Result<(), AuditError> {
        if self.queue.try_send(Entry::Record(record)).is_err() {
            // Reported by the writer, once for many.
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl RowsWriter {
    /// Writes what comes, until nobody can send any more.
    pub(crate) async fn run(mut self, log: Arc<impl AuditLog>) {
        let (mut batch, mut failing) = (Vec::new(), false);
        while self.gather(&mut batch).await > 0 {
            let (mut records, mut flushed) = (Vec::new(), Vec::new());
            for entry in batch.drain(..) {
                match entry {
                    Entry::Record(record) => records.push(record),
                    Entry::Flush(written) => flushed.push(written),
                }
            }
            self.write(&*log, records, &mut failing).await;
            for written in flushed {
                let _ = written.send(());
            }
        }
    }

    /// Waits for a batch, which takes what comes for a moment after its first record: a store on a server is asked
    /// some twenty times a second at most, and not once for each call. Returns its size; 0 at the end.
    async fn gather(&mut self, batch: &mut Vec<Entry>) -> usize {
        if self.queue.recv_many(batch, BATCH).await == 0 {
            return 0;
        }
        let moment = tokio::time::sleep(GATHERED);
        tokio::pin!(moment);
        while batch.len() < BATCH && !batch.iter().any(|entry| matches!(entry, Entry::Flush(_))) {
            let room = BATCH - batch.len();
            tokio::select! {
                biased;
                more = self.queue.recv_many(batch, room) => if more == 0 { break },
                () = &mut moment => break,
            }
        }
        batch.len()
    }

    /// What fails is reported when it begins, with the number when it is over.
    async fn write(&self, log: &impl AuditLog, records: Vec<Arc<Record>>, failing: &mut bool) {
        let count = records.len() as u64;
        if count == 0 {
            return;
        }
        match log.append_all(records).await {
            Ok(()) => {
                let lost = self.dropped.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    error!(lost, "records of the audit are missing from the store");
                }
                if std::mem::take(failing) {
                    info!("the store takes records of the audit again");
                }
            }
            Err(fault) => {
                self.dropped.fetch_add(count, Ordering::Relaxed);
                if !std::mem::replace(failing, true) {
                    error!("{fault}; meanwhile records are missing from the store");
                }
            }
        }
    }
}

/// About 500 bytes each.
const QUEUE_SIZE: usize = 4_096;

/// Records of one transaction.
const BATCH: usize = 256;

/// How long a batch that is not full waits for more.
const GATHERED: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Change, Event, MemoryAudit};
    use crate::clock::Timestamp;

    fn record(millis: u64) -> Arc<Record> {
        Arc::new(Record {
            time: Timestamp::from_millis(millis),
            event: Event::Tunnel {
                id: "t".parse().unwrap(),
                change: Change::Opened,
            },
        })
    }

    #[tokio::test]
    async fn what_is_flushed_is_in_the_store_in_its_order() {
        let log = Arc::new(MemoryAudit::new(1_000));
        let (rows, writer) = AuditRows::new();
        let writing = tokio::spawn(writer.run(Arc::clone(&log)));
        for millis in 0..600 {
            rows.append(record(millis)).await.unwrap();
        }
        rows.flush().await;
        let expected: Vec<_> = (0..600)
            .rev()
            .map(|millis| record(millis).to_json())
            .collect();
        assert_eq!(log.latest(1_000).await.unwrap(), expected);
        drop(rows);
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn a_store_that_takes_nothing_holds_nobody_up() {
        let (rows, writer) = AuditRows::new();
        for millis in 0..QUEUE_SIZE as u64 + 3 {
            rows.append(record(millis)).await.unwrap();
        }
        assert_eq!(writer.dropped.load(Ordering::Relaxed), 3);
    }
}
