//! The tunnels that a command has opened and owes to close, however it ends.
//!
//! A request that has been sent may open a tunnel though nobody waits for its answer any more. So each such
//! call runs in a task of its own, which no signal cuts off, and whoever ends waits for it, within a bound.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::calls::close;
use super::trouble::Trouble;
use crate::aws::{CallFault, Client};
use crate::exit::ExitCode;

/// Opens tunnels, and closes those that it opened.
pub(super) struct Custody {
    client: Arc<Client>,
    /// Ids, each with the end of its lifetime, after which there is nothing to close any more. At least a
    /// minute passes between two that a command opens, so these are few.
    held: Arc<Mutex<BTreeMap<String, Instant>>>,
    /// Calls of OpenTunnel without an answer yet: one, unless a command gave up on another.
    opening: Mutex<JoinSet<()>>,
}

impl Custody {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self {
            client,
            held: Arc::default(),
            opening: Mutex::default(),
        }
    }

    pub(super) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client)
    }

    /// Calls OpenTunnel. The call goes on if the returned future is dropped.
    pub(super) async fn open(&self, input: Value, lifetime: Duration) -> Result<Value, Trouble> {
        let ends = Instant::now() + lifetime;
        let (client, held) = (Arc::clone(&self.client), Arc::clone(&self.held));
        let (tell, told) = oneshot::channel();
        {
            let mut opening = locked(&self.opening);
            while opening.try_join_next().is_some() {}
            opening.spawn(async move {
                let answer = client.tunneling("OpenTunnel", &input).await;
                if let Ok(output) = &answer
                    && let Some(id) = output["tunnelId"].as_str()
                {
                    let mut held = locked(&held);
                    held.retain(|_, ends| *ends > Instant::now());
                    held.insert(id.to_owned(), ends);
                }
                // Nobody may be there to hear it: then `end` finds the tunnel among the held ones.
                let _ = tell.send(answer);
            });
        }
        match told.await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Trouble::failure("OpenTunnel: the call ended by itself")),
        }
    }

    /// Closes one tunnel, if it was opened here.
    pub(super) async fn close(&self, id: &str) {
        if locked(&self.held).remove(id).is_none() {
            return;
        }
        if let Err(fault) = close(&self.client, id, false).await {
            tell_of(id, fault);
        }
    }

    /// Closes everything that was opened here, within twice [`END_DEADLINE`]. What could not be closed is
    /// said.
    pub(super) async fn end(&self) {
        let mut opening = std::mem::take(&mut *locked(&self.opening));
        let all = async { while opening.join_next().await.is_some() {} };
        if timeout(END_DEADLINE, all).await.is_err() {
            Trouble::new(
                format_args!(
                    "OpenTunnel has no answer within {END_DEADLINE:?}: a tunnel may stay open"
                ),
                "`adit tunnel list --open` shows it, `adit tunnel close ID` closes it",
                ExitCode::Unreachable,
            )
            .tell();
        }
        let held = std::mem::take(&mut *locked(&self.held));
        let mut closing = JoinSet::new();
        for id in held.into_keys() {
            let client = Arc::clone(&self.client);
            closing.spawn(async move {
                match timeout(END_DEADLINE, close(&client, &id, false)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(fault)) => tell_of(&id, fault),
                    Err(_) => {
                        unclosed(&id, format_args!("no answer within {END_DEADLINE:?}")).tell();
                    }
                }
            });
        }
        while closing.join_next().await.is_some() {}
    }
}

fn tell_of(id: &str, fault: CallFault) {
    // Closed and forgotten by somebody else is closed as well.
    if !fault.is_not_found() {
        unclosed(id, fault).tell();
    }
}

fn unclosed(id: &str, reason: impl std::fmt::Display) -> Trouble {
    let hint = format!("close it with `adit tunnel close {id}`; otherwise its lifetime ends it");
    Trouble::new(
        format_args!("the tunnel stays open: {reason}"),
        hint,
        ExitCode::Unreachable,
    )
}

/// What is behind the lock is changed in single steps, so a panic elsewhere leaves it whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For answers that are due when a command ends, and then for closing.
const END_DEADLINE: Duration = Duration::from_secs(10);
