//! Listens, on as many threads as asked for.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use adit_engine::ring::raise_descriptor_limit;
use anyhow::Context as _;
use monoio::net::TcpListener;

use super::connection::{self, Trouble};
use super::watch::watch;
use crate::args::IoChoice;
use crate::drive::{Loop, SocketOptions, Timer};
use crate::report::ErrorKind;

/// How the far end listens.
#[derive(Clone, Debug)]
pub struct ServeSettings {
    /// Where; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Loops, each a thread with a listener of its own.
    pub threads: usize,
    /// Congestion control of its sockets; the system's default otherwise.
    pub congestion: Option<String>,
    /// Kernel interface.
    pub io: IoChoice,
}

/// A far end that is up. It ends with the process.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    counts: Arc<Counts>,
    threads: Vec<thread::JoinHandle<anyhow::Error>>,
}

/// What all threads have seen.
#[derive(Debug, Default)]
struct Counts {
    faults: AtomicU64,
    said: AtomicU64,
}

impl Server {
    /// Starts the threads and waits until all of them listen.
    ///
    /// # Errors
    /// The address cannot be listened on, or the loop that was asked for cannot be had.
    pub fn start(settings: &ServeSettings) -> anyhow::Result<Self> {
        let counts = Arc::new(Counts::default());
        let mut settings = settings.clone();
        let mut threads = Vec::new();
        for _ in 0..settings.threads {
            let (sender, receiver) = std::sync::mpsc::channel();
            let (settings_here, counts) = (settings.clone(), Arc::clone(&counts));
            let thread = thread::Builder::new().name("serve".to_owned());
            threads.push(thread.spawn(move || run(&settings_here, &counts, &sender))?);
            let listening = receiver.recv().context("a thread of the server ended")?;
            settings.listen =
                listening.with_context(|| format!("listen on {}", settings.listen))?;
        }
        Ok(Self {
            address: settings.listen,
            counts,
            threads,
        })
    }

    /// Connections on which a byte was wrong.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.counts.faults.load(Ordering::Relaxed)
    }

    /// Runs until any thread fails, which none does by itself: the kernel would go on to give it its share of the
    /// connections, and nobody would take them.
    #[must_use]
    pub fn wait(mut self) -> anyhow::Error {
        let ended = loop {
            match self
                .threads
                .iter()
                .position(thread::JoinHandle::is_finished)
            {
                Some(index) => break self.threads.swap_remove(index),
                None => thread::sleep(LOOK_INTERVAL),
            }
        };
        let panicked = |_| anyhow::anyhow!("a thread of the server panicked");
        ended.join().unwrap_or_else(panicked)
    }
}

/// `adit-loadgen serve`: says where it listens on standard output, and serves until it is ended. On standard error
/// it says when it becomes a bottleneck itself.
///
/// # Errors
/// It cannot listen.
pub fn serve(settings: &ServeSettings) -> anyhow::Result<()> {
    use io::Write as _;
    raise_descriptor_limit();
    let server = Server::start(settings)?;
    let watcher = thread::Builder::new().name("watch".to_owned());
    watcher.spawn(watch)?;
    writeln!(io::stdout(), "listening on {}", server.address)?;
    Err(server.wait())
}

type Listening = std::sync::mpsc::Sender<io::Result<SocketAddr>>;

fn run(settings: &ServeSettings, counts: &Arc<Counts>, listening: &Listening) -> anyhow::Error {
    let mut event_loop = match Loop::build(settings.io) {
        Ok(event_loop) => event_loop,
        Err(error) => {
            let _ = listening.send(Err(error));
            return anyhow::anyhow!("no loop");
        }
    };
    let options = SocketOptions {
        congestion: settings.congestion.clone(),
        is_uring: event_loop.is_uring(),
    };
    event_loop.block_on(async {
        let listener = options.listen(settings.listen);
        let address = listener.as_ref().map_or_else(
            |error| Err(io::Error::new(error.kind(), error.to_string())),
            TcpListener::local_addr,
        );
        let _ = listening.send(address);
        match listener {
            Ok(listener) => accept(listener, counts).await,
            Err(error) => error.into(),
        }
    })
}

async fn accept(listener: TcpListener, counts: &Arc<Counts>) -> anyhow::Error {
    // Once descriptors are short there would be none for it.
    let timer = match Timer::start().context("the timer of a thread") {
        Ok(timer) => timer,
        Err(error) => return error,
    };
    let mut is_short = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                is_short = false;
                let counts = Arc::clone(counts);
                monoio::spawn(async move {
                    let (stream, outcome) = connection::serve(stream).await;
                    if let Err(trouble) = outcome {
                        counts.note(stream, &trouble);
                    }
                });
            }
            Err(error) if is_passing(&error) => counts.say(&format!("cannot accept: {error}")),
            // The backlog waits for the next connection that ends.
            Err(error) if ErrorKind::from(&error) == ErrorKind::Local => {
                if !std::mem::replace(&mut is_short, true) {
                    counts.say(&format!("cannot accept for now: {error}"));
                }
                timer.until(Instant::now() + SHORT_PAUSE).await;
            }
            Err(error) => return anyhow::Error::from(error).context("accept"),
        }
    }
}

/// The client has gone meanwhile, or a signal has come.
fn is_passing(error: &io::Error) -> bool {
    const ECONNABORTED: i32 = 103;
    const EINTR: i32 = 4;
    matches!(error.raw_os_error(), Some(ECONNABORTED | EINTR))
}

impl Counts {
    fn note(&self, stream: Option<u64>, trouble: &Trouble) {
        if matches!(trouble, Trouble::Fault(fault) if !fault.is_cut()) {
            self.faults.fetch_add(1, Ordering::Relaxed);
        }
        match stream {
            Some(stream) => self.say(&format!("stream {stream}: {trouble}")),
            None => self.say(&format!("a connection without a greeting: {trouble}")),
        }
    }

    /// A failing target would otherwise fill a disk.
    fn say(&self, line: &str) {
        match self.said.fetch_add(1, Ordering::Relaxed) {
            said if said < LINES_MAX => eprintln!("{line}"),
            LINES_MAX => eprintln!("further lines of this kind are left out"),
            _ => {}
        }
    }
}

/// Between two tries to accept where this machine is short of descriptors or memory.
const SHORT_PAUSE: Duration = Duration::from_millis(10);

/// Time between two looks whether a thread has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Lines about connections that failed.
const LINES_MAX: u64 = 1000;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_server_is_over_when_any_of_its_threads_is() {
        let ends: [fn() -> anyhow::Error; 2] =
            [|| anyhow::anyhow!("no listener"), || panic!("on purpose")];
        for (end, told) in ends.into_iter().zip(["no listener", "panicked"]) {
            let (hold, held) = mpsc::channel::<()>();
            let goes_on = thread::spawn(move || match held.recv() {
                Ok(()) | Err(_) => anyhow::anyhow!("the test is over"),
            });
            let server = Server {
                address: ([127, 0, 0, 1], 0).into(),
                counts: Arc::default(),
                threads: vec![goes_on, thread::spawn(end)],
            };
            let (over, is_over) = mpsc::channel();
            thread::spawn(move || over.send(server.wait()));
            let error = is_over.recv_timeout(Duration::from_secs(60));
            drop(hold);
            let error = error.expect("one of two threads has ended").to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
