//! The orderly end of a proxy.

use super::ProxyIo;
use crate::ring::handle::{LinkEnd, TunnelEvent};
use crate::ring::io::Io;
use adit_proto::websocket::CloseCode;
use std::time::Instant;

impl ProxyIo {
    /// Stops taking connections; ends when those open are done, at `until` at the latest.
    pub(in crate::ring) fn drain(&mut self, io: &mut Io, until: Instant) {
        self.proxy.drain();
        self.drain_until = Some(until.min(self.drain_until.unwrap_or(until)));
        self.close_listeners(io);
    }

    pub(super) fn check_drained(&mut self, io: &mut Io) {
        let Some(until) = self.drain_until else {
            return;
        };
        // Without a link only those are left that deliver what came before they ended.
        if self.proxy.connection_count() > 0 && io.now < until {
            return;
        }
        if self.link.is_some() {
            self.proxy.close(CloseCode::Normal, "the proxy ends");
            let _ = self.fill_and_flush(io);
            let is_sent = self
                .link
                .as_ref()
                .is_none_or(|link| link.output_size() == 0)
                && self.proxy.is_closed();
            if !is_sent && io.now < until {
                return;
            }
            self.drop_link(io, LinkEnd::Drained);
        }
        // Patience is over: nothing of it may stay on the loop.
        self.proxy.abort_all();
        self.act(io);
        self.drain_until = None;
        self.is_over = true;
        self.tell(TunnelEvent::Over(self.proxy.counters()));
    }
}
