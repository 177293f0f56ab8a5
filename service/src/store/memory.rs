//! The tunnel table in memory: alone, or with a snapshot on the disk behind it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use adit_proto::{Mode, TunnelId};
use tokio::sync::oneshot;

use super::writer::{Answer, Passing, Save, Shared};
use super::{Store, snapshot_file};
use crate::clock::Now;
use crate::data_dir::{DataDir, DataDirError};
use crate::tunnels::{
    Admitted, Connected, Expired, Limits, ListRequest, NewTunnel, Page, Presented, Refusal,
    Rotation, Tags, TunnelError, TunnelView, Tunnels,
};

/// Tunnels in memory. Those of [`new`](Self::new) end with the process, those of
/// [`in_dir`](Self::in_dir) are there again after it, however it ended.
///
/// In a directory every change is answered once a snapshot with it is durable, and fails with
/// `Unavailable` when there is none; changes at one time share a snapshot. A snapshot is the whole
/// table, so its cost grows with the table. Medians of the test `what_a_snapshot_costs`, four runs, for
/// tunnels with a device, a service and two tags; test build, two busy cores, virtual disk:
///
/// | tunnels | bytes | copy and encode | write, with two fsyncs | the copy alone, under the lock |
/// |---|---|---|---|---|
/// | 1,000 | 0.6 MB | 3 to 10 ms | 13 to 16 ms | 1 ms |
/// | 10,000 | 6.0 MB | 115 to 150 ms | 26 to 30 ms | 21 to 36 ms |
///
/// While one is on its way there are two tables and one snapshot in memory, and a change waits for at
/// most two. A store that keeps its tunnels in a database pays per change instead: that is what takes
/// its place next, and removes this cost.
pub struct MemoryStore {
    shared: Arc<Shared>,
    /// Whether changes have to go through the writer.
    durable: bool,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl MemoryStore {
    /// An empty store that ends with the process.
    pub fn new(limits: Limits) -> Self {
        Self {
            shared: Shared::new(Tunnels::new(limits), None),
            durable: false,
            writer: Mutex::new(None),
        }
    }

    /// The tunnels of this directory, and a thread that keeps them there.
    ///
    /// Both sides of every tunnel begin disconnected. Lifetimes have gone on, and what is over is
    /// closed. The directory's lock is held until the store is [shut down](Self::shut_down) or dropped.
    ///
    /// # Errors
    /// A snapshot that is damaged or of a newer format; a directory that cannot be written.
    pub fn in_dir(dir: Arc<DataDir>, limits: Limits, now: Now) -> Result<Self, DataDirError> {
        let tunnels = snapshot_file::load(&dir, limits, now)?;
        let path = dir.file(snapshot_file::FILE);
        let save = Box::new(move |bytes: &[u8]| snapshot_file::save(&dir, bytes));
        Self::with_save(&path, tunnels, now, save)
    }

    /// A durable store with a disk of the caller's own; `path` is for messages.
    pub(super) fn with_save(
        path: &Path,
        tunnels: Tunnels,
        now: Now,
        mut save: Save,
    ) -> Result<Self, DataDirError> {
        let shared = Shared::new(tunnels, Some(now));
        shared.write_first(&mut save)?;
        let of_writer = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("adit-store".to_owned())
            .spawn(move || of_writer.run(save))
            .map_err(|source| DataDirError::io("start the writer of", path, source))?;
        Ok(Self {
            shared,
            durable: true,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Finishes the changes under way and lets go of the directory. Later changes are refused as
    /// unavailable; what needs no disk still works.
    pub async fn shut_down(&self) {
        if let Some(writer) = self.take_writer() {
            // Its end takes one write. A panic of it was reported by everything that it left undone.
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
    }

    fn take_writer(&self) -> Option<JoinHandle<()>> {
        self.shared.stop();
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.take()
    }

    /// Makes a change, durable when this returns.
    ///
    /// When the caller gives up before the change's turn has come, it is not made.
    async fn change<T, E>(
        &self,
        now: Option<Now>,
        unavailable: E,
        apply: impl FnOnce(&mut Tunnels) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Clone + Send + 'static,
    {
        if !self.durable {
            return apply(&mut self.shared.state().live);
        }
        let (sender, receiver) = oneshot::channel();
        let otherwise = unavailable.clone();
        let change = Box::new(move |tunnels: &mut Tunnels| {
            if sender.is_closed() {
                return None;
            }
            let result = apply(tunnels);
            // Refusals too: the reason may be a change of the same batch, which has not happened.
            let answer = move |durable| {
                let _ = sender.send(if durable { result } else { Err(otherwise) });
            };
            Some(Box::new(answer) as Answer)
        });
        if self.shared.submit(now, change).is_err() {
            return Err(unavailable);
        }
        receiver.await.unwrap_or(Err(unavailable))
    }

    /// Decides on a handshake where that needs no disk: refusals, and clients that come back.
    fn admit_at_once(&self, now: Now, presented: &Presented) -> Option<Result<Admitted, Refusal>> {
        let mut state = self.shared.state();
        match state.live.would_spend(now, presented) {
            // What is refused before a change that is under way is refused rightly.
            Err(refusal) => Some(Err(refusal)),
            Ok(false) if state.can_admit() => {
                state.see(Some(now));
                Some(state.live.spend_token(now, presented))
            }
            Ok(_) => None,
        }
    }
}

impl Drop for MemoryStore {
    /// Waits for the write under way, so that whoever takes the directory next finds it at rest.
    fn drop(&mut self) {
        if let Some(writer) = self.take_writer() {
            let _ = writer.join();
        }
    }
}

impl Store for MemoryStore {
    async fn open_tunnel(&self, now: Now, new: NewTunnel) -> Result<(), TunnelError> {
        let open = move |tunnels: &mut Tunnels| tunnels.open(now, new);
        self.change(Some(now), TunnelError::Unavailable, open).await
    }

    async fn describe(&self, now: Now, id: &TunnelId) -> Result<TunnelView, TunnelError> {
        self.shared.state().live.describe(now, id)
    }

    async fn list(&self, now: Now, request: ListRequest) -> Result<Page, TunnelError> {
        Ok(self.shared.state().live.list(now, &request))
    }

    async fn rotate(&self, now: Now, id: &TunnelId, rotation: Rotation) -> Result<(), TunnelError> {
        let id = id.clone();
        let rotate = move |tunnels: &mut Tunnels| tunnels.rotate(now, &id, &rotation);
        self.change(Some(now), TunnelError::Unavailable, rotate)
            .await
    }

    async fn close(&self, now: Now, id: &TunnelId, delete: bool) -> Result<(), TunnelError> {
        let id = id.clone();
        let close = move |tunnels: &mut Tunnels| tunnels.close(now, &id, delete);
        self.change(Some(now), TunnelError::Unavailable, close)
            .await
    }

    async fn tag(&self, id: &TunnelId, tags: Tags) -> Result<(), TunnelError> {
        let id = id.clone();
        let tag = move |tunnels: &mut Tunnels| tunnels.tag(&id, tags);
        self.change(None, TunnelError::Unavailable, tag).await
    }

    async fn untag(&self, id: &TunnelId, keys: Vec<String>) -> Result<(), TunnelError> {
        let id = id.clone();
        let untag = move |tunnels: &mut Tunnels| tunnels.untag(&id, &keys);
        self.change(None, TunnelError::Unavailable, untag).await
    }

    async fn tags(&self, id: &TunnelId) -> Result<Tags, TunnelError> {
        self.shared.state().live.tags(id)
    }

    async fn spend_token(&self, now: Now, presented: Presented) -> Result<Admitted, Refusal> {
        if let Some(decided) = self.admit_at_once(now, &presented) {
            return decided;
        }
        let spend = move |tunnels: &mut Tunnels| tunnels.spend_token(now, &presented);
        self.change(Some(now), Refusal::Unavailable, spend).await
    }

    async fn set_connected(
        &self,
        now: Now,
        id: &TunnelId,
        mode: Mode,
        session: u64,
    ) -> Result<Connected, TunnelError> {
        let passing = Passing::Connected(now, id.clone(), mode, session);
        let mut state = self.shared.state();
        Ok(state.pass(passing, |tunnels| {
            tunnels.set_connected(now, id, mode, session)
        }))
    }

    async fn set_disconnected(
        &self,
        now: Now,
        id: &TunnelId,
        mode: Mode,
        session: u64,
    ) -> Result<(), TunnelError> {
        let passing = Passing::Disconnected(now, id.clone(), mode, session);
        let mut state = self.shared.state();
        state.pass(passing, |tunnels| {
            tunnels.set_disconnected(now, id, mode, session)
        });
        Ok(())
    }

    async fn expire(&self, now: Now) -> Result<Expired, TunnelError> {
        let mut state = self.shared.state();
        let expired = state.live.expire(now);
        state.see(Some(now));
        if !expired.ended.is_empty() {
            state.note(Passing::Ended(now, expired.ended.clone()));
        }
        drop(state);
        if self.durable && (!expired.ended.is_empty() || expired.forgotten > 0) {
            // The disk forgets soon after; if the process ends first, the next one does it.
            self.shared.refresh();
        }
        Ok(expired)
    }
}
