//! What threads of the product share, in many orders of events (reliability, F-05).
//!
//! The models run the product's own files: they are compiled a second time here, with loom's or shuttle's
//! locks, atomics and channels in the place of std's. What those files need besides is in [`stand_ins`]; it
//! shares nothing. `tests/models.rs` runs each model.
//!
//! | model | product | orders |
//! | --- | --- | --- |
//! | [`waker`] | how a thread wakes a loop | every one that the memory model allows, by loom |
//! | [`commands`] | the queue of commands to a loop | random ones, by shuttle, as all below |
//! | [`tokens`] | the table of tunnels in memory: who may use a token | |
//! | [`routing`] | gate, control plane and table of links, while sides come, go and lose their right | |
//! | [`writer`] | the thread that writes to SQLite, several changes at a time | |
//! | [`notifications`] | what waits for an external broker | |
//!
//! What is not here is not shared: buffers, connections and timers belong to one loop each, and a loop's
//! counters are added to and read, no more.
//!
//! Tokio's locks and channels stay what they are: with shuttle they are single steps.

#![expect(
    dead_code,
    unused_imports,
    reason = "the product uses more of its files than the models do"
)]

// The files below name their crates, and `crate` is this one.
extern crate self as adit_engine;
extern crate self as adit_proto;

pub mod commands;
pub mod routing;
pub mod schedules;
mod stand_ins;
pub mod tokens;
pub mod waker;

// Where they see what is private to the modules around them.
pub use notify::notifications;
pub use store::sqlite::model as writer;

/// In the place of std's, in what is included of the service.
mod sync {
    pub(crate) use shuttle::sync::{Mutex, MutexGuard, mpsc};
    pub(crate) use shuttle::thread;
    pub(crate) use std::sync::PoisonError;

    /// No time passes in a model.
    pub(crate) async fn timeout<F: Future>(
        _: std::time::Duration,
        work: F,
    ) -> Result<F::Output, std::convert::Infallible> {
        Ok(work.await)
    }
}

use ids::{Mode, ServiceId, TunnelId};
use secret::{AccessToken, ClientToken};
use stand_ins::{audit, clock, data_dir, failpoint, handshake, registry, token};

#[path = "../../../service/src/audit/change.rs"]
mod change;
#[path = "../../../service/src/control/mod.rs"]
mod control;
#[path = "../../../service/src/gate/mod.rs"]
mod gate;
#[path = "../../../proto/src/ids/mod.rs"]
mod ids;
#[path = "../../../proto/src/limits.rs"]
mod limits;
#[path = "../../../engine/src/link/admission.rs"]
mod link;
#[path = "../../../service/src/links.rs"]
mod links;
#[path = "../../../proto/src/secret.rs"]
mod secret;
#[path = "../../../service/src/tunnels/mod.rs"]
mod tunnels;

#[path = "."]
mod notify {
    pub(crate) use crate::stand_ins::notify::{MailboxError, Notification, Notifier, notify_topic};
    pub(crate) use notices::Notices;

    #[path = "../../../service/src/notify/notices.rs"]
    mod notices;
    pub mod notifications;
    #[path = "../../../service/src/notify/external/queue.rs"]
    mod queue;
}

#[path = "."]
mod store {
    pub(crate) use changes::{Change, Changes};
    pub(crate) use memory::MemoryStore;
    pub(crate) use operations::{Store, TunnelStore};

    #[path = "../../../service/src/store/changes.rs"]
    mod changes;
    #[path = "../../../service/src/store/error.rs"]
    pub(crate) mod error;
    #[path = "../../../service/src/store/memory/mod.rs"]
    mod memory;
    #[path = "../../../service/src/store/operations.rs"]
    mod operations;
    mod relational {
        pub(crate) const MAILBOX: &str = "mailbox";
    }
    #[path = "."]
    pub mod sqlite {
        use model::{answer, database};

        #[path = "writer.rs"]
        pub mod model;
        #[path = "../../../service/src/store/sqlite/writer.rs"]
        mod writer;
    }
}
