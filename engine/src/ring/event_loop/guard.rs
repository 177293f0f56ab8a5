//! What a mistake of ours costs: the tunnel in whose code it showed, and no other.
//!
//! A panic between two tunnels' turns (waiting, taking commands and timers) still ends the loop, and whoever
//! started it hears of that: there is no telling what else is broken then.

use super::{EventLoop, Kind};
use crate::ring::io::Io;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

impl EventLoop {
    /// Lets a tunnel do something. `None`: there is no such tunnel, or none any more.
    ///
    /// Nothing that a panic may have left half-done is used again: the tunnel's own state is dropped with
    /// it, and [`Io::abandon`] makes good what all tunnels share. The kernel is lent no buffer beyond the
    /// call that names it, and the sender of batches ends the process rather than unwind from there.
    pub(super) fn guarded<T>(
        &mut self,
        index: u32,
        action: impl FnOnce(&mut Kind, &mut Io) -> T,
    ) -> Option<T> {
        let kind = &mut self.tunnels.get_mut(index as usize)?.kind;
        let io = &mut self.io;
        match catch_unwind(AssertUnwindSafe(|| action(kind, io))) {
            Ok(value) => Some(value),
            Err(panic) => {
                self.abandon(index, &*panic);
                None
            }
        }
    }

    #[cold]
    fn abandon(&mut self, index: u32, panic: &(dyn Any + Send)) {
        let mistakes = self.mistakes.fetch_add(1, Ordering::Relaxed) + 1;
        let mistake = words_of(panic);
        match self.tunnels.get(index as usize).map(|tunnel| &tunnel.kind) {
            Some(Kind::Proxy(_, proxy)) => {
                tracing::error!(
                    mistakes,
                    "a mistake in adit ended a tunnel, others go on; please report it: {mistake}"
                );
                proxy.failed(format!("a mistake in adit ended the tunnel: {mistake}"));
            }
            Some(Kind::Relay(relay)) => {
                tracing::error!(
                    mistakes,
                    tunnel = %relay.id(),
                    "a mistake in adit cut both sides of a tunnel, others go on; please report it: {mistake}"
                );
            }
            None => {}
        }
        self.remove(index);
        self.due.retain(|due| *due != index);
        self.io.abandon(index);
    }
}

/// What a panic says of itself.
fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no more is known")
}
