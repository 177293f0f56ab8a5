//! The relay as a whole: clients are taken in by ordinary async code, and both sides of a tunnel
//! are handed to the same loop.

use std::collections::hash_map::DefaultHasher;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use adit_proto::ids::{Mode, TunnelId};
use tokio::net::TcpListener;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Admission, Grant, Link, RelayControl, ServeConfig, serve};
use crate::ring::{self, IoChoice, LinkNews, LoopHandle, StartError};

/// A running relay. Dropping it ends it as [`stop`](Self::stop) does, without waiting for its
/// threads.
pub struct Relay {
    pub(super) loops: Arc<[LoopHandle]>,
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<io::Result<()>>,
    /// The one that takes clients in.
    serving: JoinSet<io::Result<()>>,
    /// The first part that ended.
    ended: watch::Receiver<Option<&'static str>>,
}

impl Relay {
    /// Starts `loops` loops (one a core if `None`) and takes in clients of `listener`.
    ///
    /// # Errors
    /// When a loop does not start.
    pub fn start(
        listener: TcpListener,
        config: ServeConfig,
        admission: Arc<impl Admission>,
        io: IoChoice,
        loops: Option<NonZeroUsize>,
    ) -> Result<Self, StartError> {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let count = loops.unwrap_or_else(cores).get();
        let started: Result<Vec<_>, _> = (0..count)
            .map(|at| ring::start(format!("adit-data-{at}"), io))
            .collect();
        let (loops, threads): (Vec<_>, Vec<_>) = started?.into_iter().unzip();
        tracing::info!(
            backend = loops[0].backend(),
            loops = count,
            "data plane started"
        );
        let loops: Arc<[LoopHandle]> = loops.into();

        let mut tasks = JoinSet::new();
        let (ending, ended) = watch::channel(None);
        for event_loop in &*loops {
            let (thread, end) = (event_loop.ended(), End(ending.clone(), "a loop"));
            tasks.spawn(async move {
                thread.await;
                drop(end);
                Ok(())
            });
        }
        // The loop reports both, so that they come in order, and a link that is answered by its
        // end is there to be ended.
        let (news, mut reports) = unbounded_channel();
        let told = Arc::clone(&admission);
        let end = End(ending.clone(), "the reports of its loops");
        tasks.spawn(async move {
            let _end = end;
            while let Some(report) = reports.recv().await {
                match report {
                    LinkNews::Attached(grant) => told.connected(&grant),
                    LinkNews::Gone(grant) => told.disconnected(&grant),
                }
            }
            Ok(())
        });
        let (stop, mut stopping) = watch::channel(false);
        let targets = Arc::clone(&loops);
        let on_link = move |grant: Grant, link: Link| {
            loop_of(&targets, &grant.tunnel).attach(grant, link, news.clone());
        };
        let end = End(ending, "the listener");
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let _end = end;
            let stopped = async move {
                // An error means that the relay was dropped.
                let _ = stopping.wait_for(|stop| *stop).await;
            };
            serve(listener, config, admission, on_link, stopped).await
        });
        Ok(Self {
            loops,
            threads,
            stop,
            tasks,
            serving,
            ended,
        })
    }

    /// `"io_uring"` or `"epoll"`: what its loops run on.
    pub fn backend(&self) -> &'static str {
        self.loops[0].backend()
    }

    /// How many tunnels a mistake of ours has cut since the start.
    pub fn mistakes(&self) -> u64 {
        self.loops.iter().map(LoopHandle::mistakes).sum()
    }

    /// Takes in no more clients and drops the links without a close frame, so that proxies come
    /// back to whatever takes this relay's place (specification 2.1). Clients whose tokens are being checked are answered
    /// first, which takes [`ANSWERS_MAX`] at most: a token that was spent without an answer is lost to its holder.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let _ = timeout(ANSWERS_MAX, self.serving.join_next()).await;
        self.end();
        for thread in self.threads.drain(..) {
            // A loop ends within one turn, which is a few milliseconds.
            let _ = thread.join();
        }
        self.tasks.shutdown().await;
    }

    fn end(&self) {
        self.stop.send_replace(true);
        self.loops.iter().for_each(LoopHandle::stop);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end();
    }
}

impl RelayControl for Relay {
    fn end_side(&self, tunnel: &TunnelId, mode: Mode, newest: u64) {
        loop_of(&self.loops, tunnel).end_side(tunnel.clone(), mode, newest);
    }

    fn end_tunnel(&self, tunnel: &TunnelId) {
        loop_of(&self.loops, tunnel).end_tunnel(tunnel.clone());
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = &'static str> + Send + '_>> {
        let mut ended = self.ended.clone();
        Box::pin(async move {
            match ended.wait_for(Option::is_some).await {
                Ok(part) => part.unwrap_or("a part"),
                // Every part has told its end before it let go of its sender.
                Err(_) => "every part",
            }
        })
    }
}

/// How long clients may take to be answered when it stops.
const ANSWERS_MAX: Duration = Duration::from_secs(5);

/// Tells that a part of the relay is over, however it ended.
struct End(watch::Sender<Option<&'static str>>, &'static str);

impl Drop for End {
    fn drop(&mut self) {
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(self.1);
            is_first
        });
    }
}

/// Both sides of a tunnel must meet on one loop: its id decides which.
fn loop_of<'a>(loops: &'a [LoopHandle], tunnel: &TunnelId) -> &'a LoopHandle {
    let mut hasher = DefaultHasher::new();
    tunnel.hash(&mut hasher);
    &loops[(hasher.finish() % loops.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Denial;
    use adit_proto::handshake::ServerRequest;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::time::sleep;

    const PATIENCE: Duration = Duration::from_secs(20);

    struct Nobody;

    impl Admission for Nobody {
        async fn admit(&self, _: &ServerRequest, _: SocketAddr, _: &str) -> Result<Grant, Denial> {
            Err(Denial {
                status: 403,
                text: "nobody".to_owned(),
            })
        }

        fn connected(&self, _: &Grant) {}

        fn disconnected(&self, _: &Grant) {}
    }

    /// Lets nobody in, but thinks about it.
    #[derive(Default)]
    struct Slow {
        begun: AtomicU32,
        done: AtomicU32,
    }

    impl Admission for Slow {
        async fn admit(&self, _: &ServerRequest, _: SocketAddr, _: &str) -> Result<Grant, Denial> {
            self.begun.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(300)).await;
            self.done.fetch_add(1, Ordering::SeqCst);
            Err(Denial {
                status: 403,
                text: "nobody".to_owned(),
            })
        }

        fn connected(&self, _: &Grant) {}

        fn disconnected(&self, _: &Grant) {}
    }

    async fn relay() -> Relay {
        relay_with(Arc::new(Nobody)).await.0
    }

    async fn relay_with(admission: Arc<impl Admission>) -> (Relay, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (config, loops) = (ServeConfig::default(), NonZeroUsize::new(2));
        let relay = Relay::start(listener, config, admission, IoChoice::Epoll, loops).unwrap();
        (relay, address)
    }

    #[tokio::test]
    async fn clients_whose_tokens_are_being_checked_are_answered_before_the_end() {
        let slow = Arc::new(Slow::default());
        let (relay, address) = relay_with(Arc::clone(&slow)).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = "GET /tunnel?local-proxy-mode=source HTTP/1.1\r\nHost: relay\r\n\
            Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Protocol: aws.iot.securetunneling-3.0\r\naccess-token: token\r\n\r\n";
        client.write_all(request.as_bytes()).await.unwrap();
        while slow.begun.load(Ordering::SeqCst) == 0 {
            sleep(Duration::from_millis(2)).await;
        }
        relay.stop().await;
        assert_eq!(slow.done.load(Ordering::SeqCst), 1);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }

    /// One dead loop is enough: the tunnels on it are dead, while handshakes go on for ever.
    #[tokio::test]
    async fn a_loop_that_ends_is_a_failure_of_the_relay() {
        for dead in 0..2 {
            let relay = relay().await;
            let early = timeout(Duration::from_millis(50), relay.failed()).await;
            assert!(early.is_err(), "{early:?} although all is well");
            relay.loops[dead].stop();
            let part = timeout(PATIENCE, relay.failed()).await;
            assert_eq!(part, Ok("a loop"));
            // And it stays one, for whoever asks later.
            assert_eq!(timeout(PATIENCE, relay.failed()).await, Ok("a loop"));
            relay.stop().await;
        }
    }

    #[tokio::test]
    async fn a_listener_that_ends_is_a_failure_of_the_relay() {
        let relay = relay().await;
        relay.stop.send_replace(true);
        assert_eq!(timeout(PATIENCE, relay.failed()).await, Ok("the listener"));
        relay.stop().await;
    }
}
