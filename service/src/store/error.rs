//! Why a store cannot be used.

use crate::audit::AuditError;
use crate::data_dir::DataDirError;
use crate::notify::MailboxError;
use crate::registry::RegistryError;
use crate::tunnels::{Refusal, TunnelError};

/// Why a store did not open. Every message names the culprit and the next step, and no password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The data directory or a file in it.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// `--store` names nothing that there is.
    #[error("--store {shown}: {problem}; write sqlite, memory, or postgres://USER@HOST/DATABASE")]
    Choice {
        /// What was given, without a password.
        shown: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The server cannot be used.
    #[error("cannot use the PostgreSQL server {server}: {problem}")]
    Server {
        /// Host and database.
        server: String,
        /// What it said.
        problem: String,
    },
    /// The server's tables are of a format that came after this program.
    #[error(
        "the database {server} was written by a newer version of this program (format {version}; this \
         one knows up to {known}): start that version again, or use another database"
    )]
    Newer {
        /// Host and database.
        server: String,
        /// Its format.
        version: i64,
        /// The newest format that is known.
        known: i64,
    },
    /// The nodes that live seal notifications with another key.
    #[error(
        "the nodes that share this store have another notify.key; copy it from the data directory of one that \
         runs, or if none does, start again in 15 s"
    )]
    OtherKey,
}

/// Errors of operations that have a word for "the store cannot answer now".
pub(crate) trait Unavailable {
    /// That word.
    fn unavailable() -> Self;

    /// Whether the change was made is not known.
    fn uncertain() -> Self
    where
        Self: Sized,
    {
        Self::unavailable()
    }

    /// What is stored contradicts the rules.
    fn damaged() -> Self
    where
        Self: Sized,
    {
        Self::unavailable()
    }

    /// The client token of a handshake is bound elsewhere. Only handshakes bind any.
    fn client_token_taken() -> Self
    where
        Self: Sized,
    {
        Self::unavailable()
    }
}

impl Unavailable for TunnelError {
    fn unavailable() -> Self {
        Self::Unavailable
    }

    fn uncertain() -> Self {
        Self::Uncertain
    }

    fn damaged() -> Self {
        Self::Damaged
    }
}

impl Unavailable for RegistryError {
    fn unavailable() -> Self {
        Self::Unavailable
    }

    fn uncertain() -> Self {
        Self::Uncertain
    }
}

impl Unavailable for MailboxError {
    fn unavailable() -> Self {
        Self::Unavailable
    }
}

impl Unavailable for AuditError {
    fn unavailable() -> Self {
        Self("the store is unavailable".to_owned())
    }
}

impl Unavailable for Refusal {
    fn unavailable() -> Self {
        Self::Unavailable
    }

    fn client_token_taken() -> Self {
        Self::ClientTokenTaken
    }
}

/// How one operation failed inside of a store with databases of this kind.
pub(super) enum Fault<E, D> {
    /// A rule refused: nothing has changed, and that is the answer.
    Refused(E),
    /// The database did: nothing has changed.
    Database(D),
    /// The database did not say whether it has committed.
    Lost(D),
    /// What is stored contradicts the rules; says nothing of the content.
    Damaged(&'static str),
}
