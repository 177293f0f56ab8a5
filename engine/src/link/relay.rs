//! The relay as a whole: clients are taken in by ordinary async code, and both sides of a tunnel
//! are handed to the same loop.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;

use adit_proto::ids::{Mode, TunnelId};
use tokio::net::TcpListener;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Admission, Grant, Link, RelayControl, ServeConfig, serve};
use crate::ring::{self, IoChoice, LinkNews, LoopHandle, StartError};

/// A running relay. Dropping it leaves it running; see [`stop`](Self::stop).
pub struct Relay {
    loops: Arc<[LoopHandle]>,
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<io::Result<()>>,
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
        // The loop reports both, so that they come in order, and a link that is answered by its
        // end is there to be ended.
        let (news, mut reports) = unbounded_channel();
        let told = Arc::clone(&admission);
        tasks.spawn(async move {
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
        tasks.spawn(async move {
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
        })
    }

    /// Takes in no more clients and drops the links without a close frame, so that proxies come
    /// back to whatever takes this relay's place (specification 2.1).
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        self.loops.iter().for_each(LoopHandle::stop);
        for thread in self.threads {
            // A loop ends within one turn, which is a few milliseconds.
            let _ = thread.join();
        }
        self.tasks.shutdown().await;
    }
}

impl RelayControl for Relay {
    fn end_side(&self, tunnel: &TunnelId, mode: Mode) {
        loop_of(&self.loops, tunnel).end_side(tunnel.clone(), mode);
    }

    fn end_tunnel(&self, tunnel: &TunnelId) {
        loop_of(&self.loops, tunnel).end_tunnel(tunnel.clone());
    }
}

/// Both sides of a tunnel must meet on one loop: its id decides which.
fn loop_of<'a>(loops: &'a [LoopHandle], tunnel: &TunnelId) -> &'a LoopHandle {
    let mut hasher = DefaultHasher::new();
    tunnel.hash(&mut hasher);
    &loops[(hasher.finish() % loops.len() as u64) as usize]
}
