//! The durable store: a real directory, a disk that fails on demand, and a clock that the test moves.

mod batches;
mod cost;
mod crash;
mod damage;
mod restart;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use adit_proto::{AccessToken, ClientToken, Mode, TunnelId};

use super::snapshot_file::{FILE, load, save};
use super::{MemoryStore, Store};
use crate::clock::Now;
use crate::clock::manual::ManualClock;
use crate::data_dir::{DataDir, DataDirError};
use crate::token::{ClientTokenHash, RoutingKey, TokenHash, mint};
use crate::tunnels::{
    Admitted, DestinationConfig, Lifetime, Limits, NewTunnel, Presented, Refusal, Rotation, Status,
    Tags, ThingName, TunnelError, TunnelView,
};

/// A directory that outlives the stores that a test starts in it.
struct Rig {
    parent: tempfile::TempDir,
    clock: ManualClock,
    limits: Limits,
    disk: Arc<Disk>,
}

/// What stands between a store and its directory.
#[derive(Default)]
struct Disk {
    state: Mutex<DiskState>,
    changed: Condvar,
}

#[derive(Default)]
struct DiskState {
    /// Snapshots that replaced the file, that of the start included.
    written: usize,
    /// A write waits for as long as this is set.
    held: bool,
    /// Somebody waits.
    waiting: bool,
    full: bool,
}

impl Disk {
    fn write(&self, dir: &DataDir, bytes: &[u8]) -> Result<(), DataDirError> {
        let mut state = self.state.lock().unwrap();
        state.waiting = true;
        self.changed.notify_all();
        // Not for ever: a test that fails meanwhile drops its store, which waits for this.
        let most = Duration::from_secs(10);
        let waited = (self.changed).wait_timeout_while(state, most, |state| state.held);
        let (mut state, _) = waited.unwrap();
        state.waiting = false;
        if state.full {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            return Err(DataDirError::io("write", &dir.file(FILE), full));
        }
        state.written += 1;
        save(dir, bytes)
    }

    fn set(&self, change: impl FnOnce(&mut DiskState)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    fn written(&self) -> usize {
        self.state.lock().unwrap().written
    }

    /// Returns when a write is held up.
    async fn is_waiting(&self) {
        while !self.state.lock().unwrap().waiting {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Rig {
    fn new() -> Self {
        Self {
            parent: tempfile::tempdir().unwrap(),
            clock: ManualClock::new(),
            limits: Limits::default(),
            disk: Arc::default(),
        }
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn path(&self) -> PathBuf {
        self.parent.path().join(FILE)
    }

    fn try_start(&self) -> Result<Arc<MemoryStore>, DataDirError> {
        let dir = DataDir::open(self.parent.path())?;
        let tunnels = load(&dir, self.limits.clone(), self.now())?;
        let disk = Arc::clone(&self.disk);
        let save = Box::new(move |bytes: &[u8]| disk.write(&dir, bytes));
        MemoryStore::with_save(&self.path(), tunnels, self.now(), save).map(Arc::new)
    }

    fn start(&self) -> Arc<MemoryStore> {
        self.try_start().unwrap_or_else(|error| panic!("{error}"))
    }

    /// What a process finds that starts after this moment's `kill -9`.
    fn after_a_kill(&self) -> Self {
        let other = Self::new();
        fs::copy(self.path(), other.path()).unwrap();
        Self {
            clock: self.clock.clone(),
            limits: self.limits.clone(),
            ..other
        }
    }
}

/// A tunnel and the tokens that its opener was given.
#[derive(Clone)]
struct Opened {
    id: TunnelId,
    source: AccessToken,
    destination: AccessToken,
}

impl Opened {
    fn token(&self, mode: Mode) -> &AccessToken {
        match mode {
            Mode::Source => &self.source,
            Mode::Destination => &self.destination,
        }
    }
}

fn prepare(name: &str) -> (Opened, NewTunnel) {
    let id: TunnelId = name.parse().unwrap();
    let routing_key = RoutingKey::of(&id);
    let opened = Opened {
        id: id.clone(),
        source: mint(routing_key).unwrap(),
        destination: mint(routing_key).unwrap(),
    };
    let new = NewTunnel {
        id,
        routing_key,
        source: TokenHash::of(&opened.source),
        destination: TokenHash::of(&opened.destination),
        description: None,
        tags: Tags::new(),
        config: None,
        lifetime: Lifetime::MAX,
    };
    (opened, new)
}

async fn open(store: &MemoryStore, now: Now, name: &str) -> Result<Opened, TunnelError> {
    let (opened, new) = prepare(name);
    store.open_tunnel(now, new).await.map(|()| opened)
}

async fn spend(
    store: &MemoryStore,
    now: Now,
    mode: Mode,
    token: &AccessToken,
    client: Option<&str>,
) -> Result<Admitted, Refusal> {
    let presented = Presented {
        routing_key: RoutingKey::in_front_of(token).unwrap(),
        token: TokenHash::of(token),
        client_token: client.map(|name| {
            let text = format!("{name:0>32}");
            ClientTokenHash::of(&ClientToken::strict(text).unwrap())
        }),
        mode,
    };
    store.spend_token(now, presented).await
}

/// A new token for this side.
async fn rotate(
    store: &MemoryStore,
    now: Now,
    id: &TunnelId,
    mode: Mode,
) -> (AccessToken, Result<(), TunnelError>) {
    let token = mint(RoutingKey::of(id)).unwrap();
    let hash = Some(TokenHash::of(&token));
    let (source, destination) = match mode {
        Mode::Source => (hash, None),
        Mode::Destination => (None, hash),
    };
    let rotation = Rotation {
        source,
        destination,
        config: None,
    };
    (token, store.rotate(now, id, rotation).await)
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    let pairs = pairs.iter();
    pairs.map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

impl MemoryStore {
    async fn close_tunnel(&self, now: Now, id: &TunnelId, delete: bool) -> Result<(), TunnelError> {
        Store::close(self, now, id, delete).await
    }

    async fn status(&self, now: Now, id: &TunnelId) -> Option<Status> {
        let view = self.describe(now, id).await.ok();
        view.map(|view| view.summary.status)
    }
}
