//! What other nodes on the same store have done.

use adit_proto::{Mode, TunnelId};
use tokio::sync::broadcast;

use crate::tunnels::ThingName;

/// Something that a node has to look at again, because another one changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The tunnel was closed or deleted.
    Tunnel(TunnelId),
    /// The token of a side was rotated, or a newer connection of it is at another node.
    Side(TunnelId, Mode),
    /// Something about this topic of another part of the service: its name, and what it is about.
    Other(String, String),
    /// News may have been lost: everything has to be looked at again.
    Everything,
}

impl Change {
    /// The device that another node has queued a message for, if that is what it is.
    pub(crate) fn queued_for(&self) -> Option<ThingName> {
        match self {
            Self::Other(topic, what) if topic == super::relational::MAILBOX => ThingName::new(what),
            _ => None,
        }
    }
}

/// Changes in the order in which they were committed. Looking again too often does no harm.
#[derive(Debug)]
pub struct Changes(Option<broadcast::Receiver<Change>>);

impl Changes {
    /// Of a store that nobody else uses: nothing ever comes.
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn new(receiver: broadcast::Receiver<Change>) -> Self {
        Self(Some(receiver))
    }

    /// The next one. Waits for ever when there will be none.
    pub async fn next(&mut self) -> Change {
        use broadcast::error::RecvError;
        match &mut self.0 {
            None => std::future::pending().await,
            Some(receiver) => match receiver.recv().await {
                Ok(change) => change,
                Err(RecvError::Lagged(_)) => Change::Everything,
                Err(RecvError::Closed) => std::future::pending().await,
            },
        }
    }
}
