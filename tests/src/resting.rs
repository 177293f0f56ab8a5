//! A verified exchange that rests half-way, until it may go on.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::apps;
use crate::deadline::{within, within_limit};
use crate::verifier::Transfer;

/// For the second half of an exchange.
const LIMIT: Duration = Duration::from_secs(30);

/// An exchange that rests half-way until it may go on.
pub struct Resting {
    go: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
}

impl Resting {
    /// Begins one with the application behind a source's port, which answers such transfers; half of it is sent, and
    /// the answer has begun.
    ///
    /// # Errors
    /// The connection is cut before.
    pub async fn begin(port: u16, transfer: Transfer) -> Result<Self> {
        let mut bytes = Vec::new();
        transfer.send(&mut bytes).await?;
        let (go, mut wait) = watch::channel(false);
        let mut client = apps::connect(port).await?;
        client.write_all(&bytes[..bytes.len() / 2]).await?;
        within("an answer to begin", async {
            Ok(client.peek(&mut [0]).await?)
        })
        .await?;
        let task = tokio::spawn(async move {
            let (mut read, mut write) = client.split();
            let sending = async {
                // The answer may be here already, so that reading does not tell of a cut.
                tokio::select! {
                    biased;
                    _ = wait.wait_for(|go| *go) => {}
                    _ = write.ready(Interest::ERROR) => bail!("cut while it rested"),
                }
                Ok(write.write_all(&bytes[bytes.len() / 2..]).await?)
            };
            let receiving = async {
                Transfer::receive(&mut read, !transfer.seed)
                    .await?
                    .complete()
            };
            let ((), received) = tokio::try_join!(sending, receiving)?;
            transfer.is_answered_by(received)
        });
        Ok(Self { go, task })
    }

    /// Whether it has ended although it rests.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Lets it go on to its end, which must be whole.
    ///
    /// # Errors
    /// It was cut, is wrong, or does not end.
    pub async fn end(self) -> Result<()> {
        self.go.send_replace(true);
        within_limit(LIMIT, "the end of an exchange", async { self.task.await? }).await
    }
}
