//! What is heard of links, taken in tunnel by tunnel: in order for each, beside each other for all.
//!
//! ```text
//! gate, other nodes ─► queue of the tunnel ─► one task ─► store ─► audit
//!                                              └─ store away: a pause, then the same again
//! ```
//!
//! Each piece is a change in the store, durable before the next one of its tunnel is begun. Because those
//! of other tunnels are under way meanwhile, a store that commits in groups takes a storm of reconnects in
//! a few commits; and a tunnel whose record makes trouble holds up nobody but itself.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use adit_proto::{Mode, TunnelId};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, error};

use super::ControlPlane;
use crate::audit::{Change as Audited, Peer};
use crate::clock::Timestamp;
use crate::store::Store;
use crate::sync::{Mutex, PoisonError};
use crate::tunnels::{Connected, TunnelError};

/// Something that the store or the relay has to learn about a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A link came or went.
    Link {
        mode: Mode,
        session: u64,
        peer: Peer,
        /// When, by the wall clock.
        at: Timestamp,
        event: LinkEvent,
    },
    /// The links of this node may have lost their right.
    LookAgain,
}

/// What became of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkEvent {
    /// The relay has it.
    Connected,
    /// It is gone; see [`Gone`](crate::links::Gone).
    Disconnected { shown: Option<u64> },
}

/// Where news is told. Told by threads that must not wait, so it is queued: at most two pieces for a link,
/// and no link without a slow handshake before it; and one of each change that another node makes, which
/// the tunnel's queue holds once.
#[derive(Clone, Debug)]
pub(crate) struct NewsSender(mpsc::UnboundedSender<(TunnelId, News)>);

/// What [`ControlPlane::follow_news`] takes in.
pub(crate) type NewsReceiver = mpsc::UnboundedReceiver<(TunnelId, News)>;

/// The way from who hears something to who takes it in.
pub(crate) fn news() -> (NewsSender, NewsReceiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (NewsSender(sender), receiver)
}

impl NewsSender {
    pub(crate) fn send(&self, tunnel: &TunnelId, news: News) {
        // Nobody listens any more only while the whole service is being torn down.
        let _ = self.0.send((tunnel.clone(), news));
    }
}

/// The news of each tunnel that a task is at.
#[derive(Default)]
pub(crate) struct Queues(Mutex<HashMap<TunnelId, VecDeque<News>>>);

impl Queues {
    /// Whether the tunnel needs a task.
    pub(crate) fn put(&self, tunnel: &TunnelId, news: News) -> bool {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get_mut(tunnel) {
            if !(news == News::LookAgain && queue.back() == Some(&news)) {
                queue.push_back(news);
            }
            return false;
        }
        queues.insert(tunnel.clone(), VecDeque::from([news]));
        true
    }

    /// The next piece; `None` ends the task.
    fn next(&self, tunnel: &TunnelId) -> Option<News> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = queues.get_mut(tunnel).and_then(VecDeque::pop_front);
        if next.is_none() {
            queues.remove(tunnel);
        }
        next
    }
}

impl<S: Store> ControlPlane<S> {
    /// Takes in what is heard for as long as somebody can tell it, and then what is left.
    pub(crate) async fn follow_news(self: Arc<Self>, mut news: NewsReceiver) {
        let (queues, turns) = (
            Arc::new(Queues::default()),
            Arc::new(Semaphore::new(AT_ONCE)),
        );
        let mut tasks = JoinSet::new();
        let mut heard = true;
        while heard || !tasks.is_empty() {
            tokio::select! {
                next = news.recv(), if heard => match next {
                    None => heard = false,
                    Some((tunnel, news)) => if queues.put(&tunnel, news) {
                        let (control, queues) = (Arc::clone(&self), Arc::clone(&queues));
                        let turns = Arc::clone(&turns);
                        tasks.spawn(async move { control.follow_one(&tunnel, &queues, &turns).await });
                    },
                },
                Some(ended) = tasks.join_next() => if let Err(fault) = ended {
                    // The tunnel's queue has nobody any more: better no service than half a one.
                    std::panic::resume_unwind(fault.into_panic());
                },
            }
        }
    }

    /// The links that are up when the service stops end with it: the audit says so. The store learns it at
    /// the next start. What was heard of a link and still waits for the store then is told nobody.
    pub(crate) async fn end_all_links(&self) {
        for (tunnel, link) in self.links.take_all() {
            let change = Audited::Disconnected {
                side: link.mode,
                session: link.session,
                peer: link.peer,
            };
            self.changed(&tunnel, change).await;
        }
    }

    /// Takes in what is heard of one tunnel until its queue is empty.
    pub(crate) async fn follow_one(&self, tunnel: &TunnelId, queues: &Queues, turns: &Semaphore) {
        while let Some(news) = queues.next(tunnel) {
            debug!(%tunnel, ?news, "heard");
            self.store_until_done(tunnel, news, turns).await;
            if let Some((at, change)) = audited(news) {
                self.changed_at(at, tunnel, change).await;
            }
        }
    }

    /// The store is asked until it answers: no handshake is admitted meanwhile, so no more news queue up
    /// than the links that there are can make.
    async fn store_until_done(&self, tunnel: &TunnelId, news: News, turns: &Semaphore) {
        let mut pause = RETRY_MIN;
        for _ in 0..ATTEMPTS {
            let stored = {
                let _turn = turns.acquire().await;
                self.take_in(tunnel, news).await
            };
            match stored {
                Ok(()) => return,
                Err(TunnelError::Unavailable | TunnelError::Uncertain) => {
                    debug!(%tunnel, ?pause, "what was heard of a link cannot be stored yet");
                    sleep(pause).await;
                    pause = (2 * pause).min(RETRY_MAX);
                }
                // Nothing will change by itself.
                Err(error) => {
                    error!(%error, %tunnel, ?news, "what was heard of a link cannot be stored");
                    return;
                }
            }
        }
        error!(%tunnel, ?news, "what was heard of a link was not stored within an hour");
    }

    async fn take_in(&self, tunnel: &TunnelId, news: News) -> Result<(), TunnelError> {
        let News::Link {
            mode,
            session,
            event,
            ..
        } = news
        else {
            return self.ask_for(tunnel).await;
        };
        match event {
            LinkEvent::Connected => self.arrive(tunnel, mode, session).await,
            LinkEvent::Disconnected { shown: None } => Ok(()),
            LinkEvent::Disconnected {
                shown: Some(session),
            } => {
                let now = self.clock.now();
                let gone = self.store.set_disconnected(now, tunnel, mode, session);
                gone.await
            }
        }
    }

    /// Asks for every link of this node whether it may stay.
    async fn ask_for(&self, tunnel: &TunnelId) -> Result<(), TunnelError> {
        for link in self.links.of(tunnel) {
            self.arrive(tunnel, link.mode, link.session).await?;
        }
        Ok(())
    }

    /// The relay has this link: it is stored, or cut.
    async fn arrive(&self, tunnel: &TunnelId, mode: Mode, session: u64) -> Result<(), TunnelError> {
        let now = self.clock.now();
        match self.store.set_connected(now, tunnel, mode, session).await {
            // The relay has replaced the older of two links itself: it knows the sessions.
            Ok(Connected::Current | Connected::Superseded) => Ok(()),
            // Rotated between admission and arrival, so the cut at the rotation came too early; or
            // the client is at another node by now.
            Ok(Connected::Revoked | Connected::Moved) => {
                self.relay.end_side(tunnel, mode, session);
                Ok(())
            }
            Ok(Connected::TunnelEnded) => {
                self.relay.end_tunnel(tunnel);
                Ok(())
            }
            // Nobody could ever close or rotate it.
            Err(error @ TunnelError::Damaged) => {
                self.relay.end_tunnel(tunnel);
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}

/// What the audit is told once the store has it.
fn audited(news: News) -> Option<(Timestamp, Audited)> {
    let News::Link {
        mode: side,
        session,
        peer,
        at,
        event,
    } = news
    else {
        return None;
    };
    let change = match event {
        LinkEvent::Connected => Audited::Connected {
            side,
            session,
            peer,
        },
        LinkEvent::Disconnected { .. } => Audited::Disconnected {
            side,
            session,
            peer,
        },
    };
    Some((at, change))
}

/// Changes in the store at one time. A group commit of SQLite takes all of them; on PostgreSQL they wait
/// for one of its 16 connections for some 100 ms at most, far below the 5 s after which waiting fails.
const AT_ONCE: usize = 256;

/// Between two attempts at what a store that is away has to do.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(8);

/// An hour of them.
const ATTEMPTS: usize = 450;
