//! What an agent is told to do besides its work.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::run::Stop;

/// What is asked of a running agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Let tunnels drain, and end.
    End,
    /// Take the services of the file as they are now.
    ReadAgain,
}

/// Where orders come from.
pub(crate) enum Orders {
    /// The operator's signals.
    Signals {
        /// Asks it to end.
        stop: Stop,
        /// Asks it to read its services again.
        reload: Signal,
    },
    /// The program around it, which has it end by sending or by dropping the other half.
    Program(Option<oneshot::Receiver<()>>),
}

impl Orders {
    pub(super) fn of_signals() -> io::Result<Self> {
        Ok(Self::Signals {
            stop: Stop::new()?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    /// Completes at the next one; giving up waiting loses none.
    pub(super) async fn next(&mut self) -> Order {
        match self {
            Self::Signals { stop, reload } => tokio::select! {
                biased;
                () = stop.requested() => Order::End,
                Some(()) = reload.recv() => Order::ReadAgain,
            },
            Self::Program(end) => {
                if let Some(asked) = end {
                    let _ = asked.await;
                    *end = None;
                }
                Order::End
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_goes_away_ends_its_agent_as_one_that_says_so() {
        for is_said in [true, false] {
            let (stop, stopped) = oneshot::channel();
            let mut orders = Orders::Program(Some(stopped));
            if is_said {
                stop.send(()).unwrap();
            } else {
                drop(stop);
            }
            assert_eq!(orders.next().await, Order::End);
            assert_eq!(orders.next().await, Order::End);
        }
    }
}
