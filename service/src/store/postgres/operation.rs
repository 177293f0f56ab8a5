//! One operation on the server: its bounds, how it commits, and how it fails.

use std::future::Future;
use std::time::Duration;

use deadpool_postgres::{PoolError, Transaction};
use tokio_postgres::error::SqlState;
use tracing::{debug, error};

use super::url;
use crate::store::error::{self, Unavailable};

/// Commits. What the server says is certain; that it says nothing is not, nor what a pooler says that has lost it.
pub(super) async fn commit<E>(transaction: Transaction<'_>) -> Result<(), Fault<E>> {
    transaction.commit().await.map_err(|error| {
        let said = error.code().is_some_and(is_of_the_server);
        let problem = url::with_causes(&error);
        if said {
            Fault::Database(problem)
        } else {
            Fault::Lost(problem)
        }
    })
}

fn is_of_the_server(state: &SqlState) -> bool {
    let code = state.code();
    !ON_THE_WAY.iter().any(|class| code.starts_with(class))
}

/// Lets an operation that only reads take so long and no longer; what fails inside is for the log.
pub(super) async fn bounded<T, E: Unavailable>(
    operation: impl Future<Output = Result<T, Fault<E>>> + Send,
) -> Result<T, E> {
    within(E::unavailable, operation).await
}

/// The same for one that changes something: given up, it may be at its commit.
pub(super) async fn bounded_change<T, E: Unavailable>(
    operation: impl Future<Output = Result<T, Fault<E>>> + Send,
) -> Result<T, E> {
    within(E::uncertain, operation).await
}

async fn within<T, E: Unavailable>(
    given_up: fn() -> E,
    operation: impl Future<Output = Result<T, Fault<E>>> + Send,
) -> Result<T, E> {
    match tokio::time::timeout(OPERATION_MAX, operation).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Fault::Refused(refused))) => Err(refused),
        Ok(Err(Fault::Damaged(what))) => {
            error!(what, "the store holds what cannot be");
            Err(E::damaged())
        }
        Ok(Err(Fault::Lost(problem))) => {
            debug!(problem, "the server did not say what became of a commit");
            Err(E::uncertain())
        }
        // The heartbeat reports at a level that is seen, once.
        Ok(Err(Fault::Database(problem))) => {
            debug!(problem, "an operation of the store failed");
            Err(E::unavailable())
        }
        Err(_) => {
            debug!("an operation of the store took too long");
            Err(given_up())
        }
    }
}

/// How one operation failed inside; what the server or the pool said is kept as text.
pub(super) type Fault<E> = error::Fault<E, String>;

impl<E> From<tokio_postgres::Error> for Fault<E> {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(url::with_causes(&error))
    }
}

impl<E> From<PoolError> for Fault<E> {
    fn from(error: PoolError) -> Self {
        Self::Database(url::with_causes(&error))
    }
}

/// Classes of what goes wrong on the way to the server, or outside of it.
const ON_THE_WAY: [&str; 2] = ["08", "58"];

/// The server's own bounds are a little shorter, and say more.
pub(super) const OPERATION_MAX: Duration = Duration::from_secs(10);
