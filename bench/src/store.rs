//! Operations of the stores.
//!
//! Held fixed: 1,000 open tunnels, one operation at a time. What the memory store costs is
//! instructions; what SQLite costs is mostly its commits, each of which waits for the disk; what
//! PostgreSQL costs is mostly round trips and its commits.

use crate::Case;
use adit_proto::{AccessToken, ClientToken, Mode, TunnelId};
use adit_service::clock::{Clock, Now};
use adit_service::data_dir::DataDir;
use adit_service::store::{MemoryStore, PostgresStore, PostgresUrl, SqliteStore, TunnelStore};
use adit_service::token::{ClientTokenHash, RoutingKey, TokenHash, mint};
use adit_service::tunnels::{Found, Lifetime, Limits, NewTunnel, Presented, Tags, TunnelError};
use std::hint::black_box;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use tempfile::TempDir;
use tokio::runtime::Handle;

/// Open tunnels.
const TUNNELS: usize = 1_000;

/// Operations of one run of the memory store.
const COUNT: usize = 16;

/// In memory.
pub fn memory() -> Vec<Case> {
    cases("memory", COUNT, |_| {
        (MemoryStore::new(Limits::default()), None)
    })
}

/// In a file, in a new directory inside of `parent`. To be run in the context of a runtime of tokio,
/// whose threads read.
pub fn sqlite(parent: PathBuf) -> Vec<Case> {
    cases("sqlite", 1, move |now| {
        let dir = TempDir::with_prefix_in("adit-bench-", &parent).expect("a directory");
        let data_dir = Arc::new(DataDir::open(dir.path()).expect("a directory"));
        let store = SqliteStore::open(data_dir, Limits::default(), now).expect("a store");
        (store, Some(dir))
    })
}

/// On a server of PostgreSQL, in a database that nothing else uses. To be run in the context of a
/// runtime of tokio with threads, which keep the connections.
pub fn postgres(url: PostgresUrl) -> Vec<Case> {
    cases("postgres", 1, move |_| {
        let open = PostgresStore::open(&url, Limits::default(), Clock::system());
        let store = Handle::current().block_on(open).expect("a store");
        (store, None)
    })
}

fn cases<S: TunnelStore>(
    kind: &str,
    count: usize,
    make: impl Fn(Now) -> (S, Option<TempDir>) + Clone + 'static,
) -> Vec<Case> {
    let case = |operation: &str, run: fn(&Filled<S>)| {
        let make = make.clone();
        let name = format!("store/{kind}/{operation}/{TUNNELS}_tunnels");
        Case::new(name, count, 0, move || {
            let filled = Filled::new(&make);
            move || {
                for _ in 0..count {
                    run(&filled);
                }
            }
        })
    };
    vec![
        case("describe", Filled::describe),
        case("spend_token", Filled::spend_token),
        case("open_and_delete", Filled::open_and_delete),
    ]
}

/// A store with its tunnels.
struct Filled<S> {
    store: S,
    waiter: Waker,
    now: Now,
    token: AccessToken,
    /// Removed when everything else is gone.
    _dir: Option<TempDir>,
}

impl<S: TunnelStore> Filled<S> {
    fn new(make: impl Fn(Now) -> (S, Option<TempDir>)) -> Self {
        let now = Clock::system().now();
        let (store, dir) = make(now);
        let filled = Self {
            store,
            waiter: Waker::from(Arc::new(Unpark(std::thread::current()))),
            now,
            token: mint(RoutingKey::of(&id(0))).expect("randomness"),
            _dir: dir,
        };
        for number in 0..TUNNELS {
            // A server keeps those of the case before.
            let _ = filled.close(number);
            filled.open(number);
        }
        filled
    }

    fn open(&self, number: usize) {
        let routing_key = RoutingKey::of(&id(number));
        let new = NewTunnel {
            id: id(number),
            routing_key,
            source: TokenHash::of(&self.token),
            destination: TokenHash::of(&mint(routing_key).expect("randomness")),
            description: None,
            tags: Tags::new(),
            config: None,
            lifetime: Lifetime::MAX,
            owner: None,
        };
        let opened = self.wait(self.store.open_tunnel(self.now, new));
        opened.expect("it is new");
    }

    fn describe(&self) {
        let view = self.wait(self.store.describe(self.now, &id(TUNNELS / 2)));
        black_box(view.expect("it is open"));
    }

    /// As a proxy that comes back: the same access token and the same client token.
    fn spend_token(&self) {
        let client_token = ClientToken::strict("0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f".to_owned());
        let presented = Presented {
            routing_key: RoutingKey::in_front_of(&self.token).expect("it is ours"),
            token: TokenHash::of(&self.token),
            client_token: Some(ClientTokenHash::of(&client_token.expect("a token"))),
            mode: Mode::Source,
        };
        let admitted = self.wait(self.store.spend_token(self.now, presented));
        black_box(admitted.expect("the pair is the one it is bound to"));
    }

    fn open_and_delete(&self) {
        self.open(TUNNELS);
        self.close(TUNNELS).expect("it was opened");
    }

    fn close(&self, number: usize) -> Result<Found, TunnelError> {
        self.wait(self.store.close(self.now, &id(number), true))
    }

    /// Waits on this thread, without a runtime around it: a memory store never waits.
    fn wait<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut context = Context::from_waker(&self.waiter);
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(output) => return output,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}

fn id(number: usize) -> TunnelId {
    format!("tunnel-{number}").parse().expect("an id")
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
