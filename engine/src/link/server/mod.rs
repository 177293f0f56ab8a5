//! The relay's half: an accept loop that outlives what clients and the system do to it.

mod accept;
mod failures;
mod handshake;
mod memory;
mod waiting;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};

use self::accept::Acceptor;
use self::failures::Failures;
pub use self::failures::{FailureLimit, source_of};
use self::handshake::Handshake;
use self::memory::{Memory, Shortage};
use self::waiting::Waiting;
use super::{Admission, Grant, Link};
use crate::tls::RecordsChoice;

/// How a relay takes clients in.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// TLS 1.2 and 1.3; `None` if something before us ends TLS. Certificates can be exchanged
    /// while it runs, through the configuration's resolver.
    pub tls: Option<Arc<ServerConfig>>,
    /// Who seals and opens after the handshake.
    pub records: RecordsChoice,
    /// Time from accepting a connection to its whole upgrade request.
    pub deadline: Duration,
    /// Connections that may be in their handshake at once. One more, and the oldest of those that
    /// have not sent their request yet has to go. Under a memory limit it is one for each 256 KiB at most.
    pub handshakes_max: usize,
    /// Failed handshakes that one address may have; `None`: as many as it likes, as behind
    /// something that hides the addresses of clients.
    pub failures: Option<FailureLimit>,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            tls: None,
            records: RecordsChoice::default(),
            deadline: Duration::from_secs(10),
            handshakes_max: 1024,
            failures: Some(FailureLimit::default()),
        }
    }
}

/// Takes in clients of `listener` until `shutdown` completes.
///
/// Each client that `admission` admits is answered 101 and given to `on_link`, which runs on the
/// handshake's task and should return soon. Whoever takes the link calls
/// [`Admission::connected`] once it can be ended, and [`Admission::disconnected`] when it is gone.
///
/// Where the process is in a control group with a memory limit, clients are answered 503 while 95 % of it are used,
/// until it is less than 90 %, and reset when they connect from 98 % on.
///
/// On shutdown the listener is closed and clients that have not sent their request are dropped;
/// this returns when the others have been answered.
///
/// # Errors
///
/// Only if the listener itself cannot be used; whatever happens to single connections, or for
/// want of descriptors or memory, is survived.
pub async fn serve<A, F>(
    listener: TcpListener,
    config: ServeConfig,
    admission: Arc<A>,
    on_link: F,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()>
where
    A: Admission,
    F: Fn(Grant, Link) + Send + Sync + 'static,
{
    let mut server = Server {
        failures: Arc::new(Failures::new(config.failures)),
        memory: Arc::new(Memory::of_this_process()),
        config: Arc::new(config),
        admission,
        on_link: Arc::new(on_link),
        waiting: Waiting::default(),
        tasks: JoinSet::new(),
    };
    let mut acceptor = Acceptor::new(listener);
    let outcome = server.run(&mut acceptor, shutdown).await;
    drop(acceptor);
    server.waiting.end_all();
    while let Some(ended) = server.tasks.join_next().await {
        report(ended);
    }
    outcome
}

struct Server<A, F> {
    failures: Arc<Failures>,
    memory: Arc<Memory>,
    config: Arc<ServeConfig>,
    admission: Arc<A>,
    on_link: Arc<F>,
    waiting: Waiting,
    tasks: JoinSet<()>,
}

impl<A: Admission, F: Fn(Grant, Link) + Send + Sync + 'static> Server<A, F> {
    async fn run(
        &mut self,
        acceptor: &mut Acceptor,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                Some(ended) = self.tasks.join_next() => report(ended),
                accepted = acceptor.accept() => {
                    let (socket, address) = accepted?;
                    if self.failures.refuses(address, Instant::now()) {
                        tracing::debug!(%address, "refused: too many failed handshakes");
                        reset(socket);
                        continue;
                    }
                    if self.memory.shortage(Instant::now()) == Shortage::Dire {
                        self.memory.refused();
                        reset(socket);
                        continue;
                    }
                    tokio::select! {
                        () = &mut shutdown => return Ok(()),
                        () = self.make_room() => {}
                    }
                    match watched(socket) {
                        Ok(socket) => self.spawn(socket, address),
                        Err(error) => tracing::warn!(%address, %error, "cannot take a connection"),
                    }
                }
            }
        }
    }

    /// Waits until one more handshake may begin.
    async fn make_room(&mut self) {
        let most = self.memory.handshakes(self.config.handshakes_max);
        while self.tasks.len() >= most {
            // The newcomer may be well-behaved; of the address that has the most here without a request, who has been here
            // longest most likely is not. If all have sent theirs, they will soon be done.
            self.waiting.end_one();
            if let Some(ended) = self.tasks.join_next().await {
                report(ended);
            }
        }
    }

    fn spawn(&mut self, socket: TcpStream, address: SocketAddr) {
        let handshake = Handshake {
            config: Arc::clone(&self.config),
            admission: Arc::clone(&self.admission),
            on_link: Arc::clone(&self.on_link),
            place: self.waiting.enter(address),
            failures: Arc::clone(&self.failures),
            memory: Arc::clone(&self.memory),
        };
        self.tasks.spawn(handshake.run(socket, address));
    }
}

fn watched(socket: std::net::TcpStream) -> io::Result<TcpStream> {
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket)
}

/// Closes a connection without a word, and without a state of it that the system would keep.
fn reset(socket: std::net::TcpStream) {
    // A failure leaves an ordinary close.
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

/// A panic in a handshake is a mistake of ours that costs that one connection.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a handshake ended by itself");
    }
}
