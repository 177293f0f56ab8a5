//! What every long-running command needs: a runtime, signals, descriptors.

use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Threads of the runtime. Bytes are not moved by it: it dials, shakes hands and answers the API.
const THREADS: usize = 2;

/// Starts the runtime, and lets this process have as many descriptors as it may.
pub(super) fn start() -> io::Result<Runtime> {
    adit_engine::ring::raise_descriptor_limit();
    Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("adit-control")
        .enable_all()
        .build()
}

/// The signals that ask the process to end.
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Completes at the first of them. A second one ends the process at once: who asks twice
    /// does not want to wait for open connections.
    pub(crate) async fn requested(&mut self) {
        self.one().await;
        tracing::info!("ending; a second signal ends at once");
        let mut again = match Self::new() {
            Ok(again) => again,
            Err(_) => return,
        };
        tokio::spawn(async move {
            again.one().await;
            std::process::exit(130);
        });
    }

    async fn one(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
