//! What the included files need of the rest of the product, as little as they need. Nothing here is shared
//! between threads but what a model reads at its end.

/// What the audit is told is what the models look at.
pub(crate) mod audit {
    use std::sync::Arc;

    use shuttle::sync::Mutex;

    use crate::TunnelId;
    pub(crate) use crate::change::{Change, ClosedBy, Peer};
    use crate::clock::Timestamp;

    #[derive(Clone, Default)]
    pub(crate) struct Audit(Arc<Mutex<Vec<Change>>>);

    impl Audit {
        pub(crate) fn none() -> Self {
            Self::default()
        }

        pub(crate) async fn record(&self, _: Timestamp, Event::Tunnel { change, .. }: Event) {
            self.0.lock().unwrap().push(change);
        }

        pub(crate) fn changes(&self) -> Vec<Change> {
            self.0.lock().unwrap().clone()
        }
    }

    pub(crate) enum Event {
        Tunnel { id: TunnelId, change: Change },
    }

    #[derive(Debug)]
    pub(crate) struct AuditError(pub(crate) String);
}

/// Time stands still: every lifetime is long.
pub(crate) mod clock {
    use std::time::Duration;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Now {
        pub(crate) steady: Timestamp,
        pub(crate) wall: Timestamp,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub struct Timestamp(u64);

    impl Timestamp {
        pub(crate) const fn from_millis(millis: u64) -> Self {
            Self(millis)
        }

        pub(crate) fn after(self, duration: Duration) -> Self {
            Self(self.0 + duration.as_millis() as u64)
        }

        pub(crate) fn before(self, duration: Duration) -> Self {
            Self(self.0 - duration.as_millis() as u64)
        }

        pub(crate) fn since(self, earlier: Self) -> Duration {
            Duration::from_millis(self.0.saturating_sub(earlier.0))
        }
    }

    #[derive(Clone)]
    pub(crate) struct Clock;

    impl Clock {
        pub(crate) fn now(&self) -> Now {
            let now = Timestamp::from_millis(1_000);
            Now {
                steady: now,
                wall: now,
            }
        }
    }
}

pub(crate) mod data_dir {
    use std::io;
    use std::path::{Path, PathBuf};

    pub(crate) struct DataDir;

    impl DataDir {
        pub(crate) fn file(&self, name: &str) -> PathBuf {
            name.into()
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot {0}: {1}")]
    pub struct DataDirError(&'static str, io::Error);

    impl DataDirError {
        pub(crate) fn io(action: &'static str, _: &Path, source: io::Error) -> Self {
            Self(action, source)
        }
    }
}

pub(crate) mod failpoint {
    pub(crate) fn fallible(_: &str, _: &dyn std::fmt::Display) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) mod handshake {
    use crate::{AccessToken, ClientToken, Mode};

    pub(crate) struct ServerRequest {
        pub(crate) mode: Mode,
        pub(crate) access_token: AccessToken,
        pub(crate) client_token: Option<ClientToken>,
    }
}

pub(crate) mod notify {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;

    use crate::tunnels::ThingName;
    use crate::{AccessToken, ServiceId, TunnelId};

    #[derive(Clone)]
    pub(crate) struct Notification {
        pub(crate) tunnel: TunnelId,
        pub(crate) token: AccessToken,
        pub(crate) region: Arc<str>,
        pub(crate) services: Arc<[ServiceId]>,
    }

    impl Notification {
        pub(crate) fn payload(&self) -> Vec<u8> {
            self.token.expose().into()
        }
    }

    #[derive(Debug)]
    pub(crate) enum MailboxError {
        Unavailable,
    }

    pub(crate) fn notify_topic(thing: &ThingName) -> String {
        thing.as_str().to_owned()
    }

    pub(crate) trait Notifier: Send + Sync + 'static {
        fn publish<'a>(&'a self, thing: &'a ThingName, notification: Notification) -> Pending<'a>;

        fn revoke<'a>(&'a self, tunnel: &'a TunnelId) -> Pending<'a>;
    }

    pub(crate) type Pending<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

pub(crate) mod registry {
    use std::future::Future;
    use std::pin::Pin;

    use crate::tunnels::ThingName;

    #[derive(Debug, thiserror::Error)]
    pub enum RegistryError {
        #[error("unavailable")]
        Unavailable,
        #[error("uncertain")]
        Uncertain,
    }

    pub(crate) trait KnownThings: Send + Sync + 'static {
        fn knows<'a>(&'a self, name: &'a ThingName) -> Knows<'a>;
    }

    pub(crate) type Knows<'a> =
        Pin<Box<dyn Future<Output = Result<bool, RegistryError>> + Send + 'a>>;
}

/// Tokens of this shape: tunnel, dot, number. What hashes them is of no use here.
pub(crate) mod token {
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::sync::atomic::{AtomicU64, Ordering};

    use subtle::Choice;

    use crate::{AccessToken, ClientToken, TunnelId};

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct RoutingKey(u64);

    impl RoutingKey {
        pub(crate) fn of(tunnel: &TunnelId) -> Self {
            Self(hash(tunnel.as_str()))
        }

        pub(crate) fn in_front_of(token: &AccessToken) -> Option<Self> {
            let (front, _) = token.expose().split_once('.')?;
            u64::from_str_radix(front, 16).ok().map(Self)
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TokenHash(u64);

    impl TokenHash {
        pub(crate) fn of(token: &AccessToken) -> Self {
            Self(hash(token.expose()))
        }

        pub(crate) fn matches(&self, other: &Self) -> Choice {
            u8::from(self == other).into()
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct ClientTokenHash(u64);

    impl ClientTokenHash {
        pub(crate) fn of(token: &ClientToken) -> Self {
            Self(hash(token.expose()))
        }
    }

    pub(crate) fn mint(routing_key: RoutingKey) -> Result<AccessToken, getrandom::Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let text = format!("{:016x}.{number}", routing_key.0);
        Ok(AccessToken::new(text).expect("printable"))
    }

    fn hash(text: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        hasher.finish()
    }
}
