//! Listens, on as many threads as asked for.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::Context as _;
use monoio::net::TcpListener;

use super::connection::{self, Trouble};
use super::watch::watch;
use crate::args::IoChoice;
use crate::drive::{Loop, SocketOptions};

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

    /// Runs until a thread fails, which none does by itself.
    #[must_use]
    pub fn wait(self) -> anyhow::Error {
        let mut ended = self.threads.into_iter().map(thread::JoinHandle::join);
        match ended.next() {
            Some(Ok(error)) => error,
            _ => anyhow::anyhow!("a thread of the server panicked"),
        }
    }
}

/// `adit-loadgen serve`: says where it listens on standard output, and serves until it is ended. On standard error
/// it says when it becomes a bottleneck itself.
///
/// # Errors
/// It cannot listen.
pub fn serve(settings: &ServeSettings) -> anyhow::Result<()> {
    use io::Write as _;
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
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let counts = Arc::clone(counts);
                monoio::spawn(async move {
                    let (stream, outcome) = connection::serve(stream).await;
                    if let Err(trouble) = outcome {
                        counts.note(stream, &trouble);
                    }
                });
            }
            Err(error) if is_passing(&error) => counts.say(&format!("cannot accept: {error}")),
            Err(error) => return anyhow::Error::from(error).context("accept"),
        }
    }
}

/// The client has gone meanwhile, or there are too many descriptors open: then the backlog waits for the next
/// connection that ends.
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

/// Lines about connections that failed.
const LINES_MAX: u64 = 1000;
