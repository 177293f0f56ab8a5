//! Connections to the server that operations take from each other.

use std::time::Duration;

use deadpool_postgres::{
    BuildError, ClientWrapper, Hook, HookError, Manager, ManagerConfig, Metrics, Pool, QueueMode,
    RecyclingMethod, Runtime,
};

use super::tls::Tls;
use super::url::PostgresUrl;

pub(super) fn pool(url: &PostgresUrl, tls: &Tls) -> Result<Pool, BuildError> {
    let config = ManagerConfig {
        // One that was closed is noticed without a question to the server.
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = Manager::from_config(url.config.clone(), tls.clone(), config);
    Pool::builder(manager)
        .max_size(CONNECTIONS_MAX)
        // The one used last: its server process is still in the caches of a core.
        .queue_mode(QueueMode::Lifo)
        .pre_recycle(Hook::async_fn(|client, metrics| {
            Box::pin(check(client, *metrics))
        }))
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(Duration::from_secs(5)))
        .create_timeout(Some(Duration::from_secs(5)))
        .build()
}

/// A connection that died without a word while nobody used it costs nobody an operation. One that was just used is
/// not asked: that would be one more round trip for every operation of a busy service.
async fn check(client: &ClientWrapper, metrics: Metrics) -> Result<(), HookError> {
    if metrics.last_used() < TRUSTED {
        return Ok(());
    }
    match tokio::time::timeout(CHECK_MAX, client.simple_query("")).await {
        Ok(answer) => answer.map(drop).map_err(HookError::Backend),
        Err(_) => Err(HookError::message("it does not answer")),
    }
}

/// Per node. Operations beyond wait for up to five seconds.
const CONNECTIONS_MAX: usize = 16;

/// Since an operation took it.
const TRUSTED: Duration = Duration::from_secs(1);

/// Another one is tried then.
const CHECK_MAX: Duration = Duration::from_secs(2);
