//! What every long-running command needs: a runtime, signals, descriptors.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Threads of the runtime. Bytes are not moved by it: it dials, shakes hands and answers the API.
const THREADS: usize = 2;

/// How a proxy names itself to the service.
pub(super) const USER_AGENT: &str = concat!("adit/", env!("CARGO_PKG_VERSION"));

/// What masks that nobody can foretell begin with.
pub(super) fn seed() -> Result<[u8; 32], getrandom::Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(seed)
}

/// Runs `work` on a runtime of its own. A name look-up that is left behind is not waited for: a resolver may take
/// half a minute, in which no signal is heard any more. What has to be done by the end, `work` waits for itself.
pub(super) fn run<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = start()?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(LEAVE_DEADLINE);
    Ok(done)
}

/// For tasks that are left behind to be dropped, and what they do on the disk to be done.
const LEAVE_DEADLINE: Duration = Duration::from_secs(1);

/// Starts the runtime, and lets this process have as many descriptors as it may.
fn start() -> io::Result<Runtime> {
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
    /// For a command of a terminal, that its terminal is gone.
    hangup: Option<Signal>,
    /// One of them has come: set where the system calls us, so before anything that came later is seen.
    has_come: Arc<AtomicBool>,
}

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        let has_come = Arc::default();
        Ok(Self {
            terminate: watch(SignalKind::terminate(), &has_come)?,
            interrupt: watch(SignalKind::interrupt(), &has_come)?,
            hangup: None,
            has_come,
        })
    }

    /// The same for a command that somebody runs by hand: it ends with its terminal, too.
    pub(crate) fn of_command() -> io::Result<Self> {
        let mut stop = Self::new()?;
        stop.hangup = Some(watch(SignalKind::hangup(), &stop.has_come)?);
        Ok(stop)
    }

    /// What comes of `work`, unless a signal is received before that: then `None`, and a second signal ends
    /// the process at once. `work` is dropped.
    pub(crate) async fn unless_requested<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let done = tokio::select! {
            biased;
            () = self.requested() => return None,
            done = work => done,
        };
        // The runtime hears of signals by a pipe, and may tell of an answer first that came after one. After a stop
        // all threads run at once, and the one that has the signal may be behind the one that has the answer.
        tokio::time::sleep(HANDLER_DELAY_MAX).await;
        if !self.has_come.load(Ordering::Acquire) {
            return Some(done);
        }
        self.requested().await;
        None
    }

    /// Completes at the first of them. A second one ends the process at once: who asks twice
    /// does not want to wait for open connections.
    pub(crate) async fn requested(&mut self) {
        self.requested_with(|| {}).await;
    }

    /// The same; a second one does `last` before it ends the process.
    pub(crate) async fn requested_with(&mut self, last: impl FnOnce() + Send + 'static) {
        self.next().await;
        end_at_next(last);
        // Only now it is true.
        tracing::info!("ending; a second signal ends at once");
    }

    /// From now on the first signal ends the process at once: it is ending anyway.
    pub(crate) fn ends_at_once(self) {
        end_at_next(|| {});
    }

    /// Completes at the next of them.
    pub(crate) async fn next(&mut self) -> SignalKind {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = hangup => SignalKind::hangup(),
        }
    }
}

/// Two time slices of a scheduler; nobody notices them after a call to the service.
const HANDLER_DELAY_MAX: Duration = Duration::from_millis(10);

/// Order matters: what has set the flag, the runtime hears of as well.
fn watch(kind: SignalKind, has_come: &Arc<AtomicBool>) -> io::Result<Signal> {
    let coming = signal(kind)?;
    signal_hook::flag::register(kind.as_raw_value(), Arc::clone(has_come))?;
    Ok(coming)
}

fn end_at_next(last: impl FnOnce() + Send + 'static) {
    let Ok(mut again) = Stop::new() else {
        return;
    };
    tokio::spawn(async move {
        again.next().await;
        last();
        std::process::exit(130);
    });
}

/// The signal that asks for files to be read again.
pub(super) struct Hangups(Signal);

impl Hangups {
    pub(super) fn new() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Completes at the next one.
    pub(super) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // Signals come no more, which is not the same as one.
            std::future::pending::<()>().await;
        }
    }
}
