//! Who may connect: tokens are spent here (control-plane specification, section 8).

use adit_proto::Mode;

use super::record::{Link, NodeId, Record, TokenUse};
use super::types::{Admitted, Connected, Presented, Refusal};
use crate::clock::Now;

impl Record {
    /// Decides on a handshake. When it is let in, its token is spent (or bound to the client token)
    /// by the time this returns.
    ///
    /// Only who holds a token that is good for one of the sides learns more than `UnknownToken`.
    /// Whether a client token that this binds is free is the store's to say, before anything is kept.
    pub(crate) fn admit(&mut self, now: Now, presented: &Presented) -> Result<Admitted, Refusal> {
        let next_use = self.judge(now, presented)?;
        let session = self.next_session;
        self.next_session += 1;
        self.side_mut(presented.mode).token_use = next_use;
        Ok(Admitted {
            tunnel: self.id.clone(),
            services: self.services(),
            session,
            ends: self.deadline(),
        })
    }

    /// What becomes of the token if this handshake is let in.
    pub(crate) fn judge(&self, now: Now, presented: &Presented) -> Result<TokenUse, Refusal> {
        match self.owner(presented) {
            None => return Err(Refusal::UnknownToken),
            Some(_) if !self.is_open(now) => return Err(Refusal::TunnelClosed),
            Some(mode) if mode != presented.mode => return Err(Refusal::WrongMode),
            Some(_) => {}
        }
        match (self.side(presented.mode).token_use, presented.client_token) {
            (TokenUse::Unused, None) => Ok(TokenUse::Spent),
            (TokenUse::Unused, Some(client_token)) => Ok(TokenUse::Bound(client_token)),
            (TokenUse::Spent, None | Some(_)) => Err(Refusal::Used),
            (TokenUse::Bound(bound), Some(client_token)) if bound == client_token => {
                Ok(TokenUse::Bound(bound))
            }
            (TokenUse::Bound(_), None | Some(_)) => Err(Refusal::OtherClientToken),
        }
    }

    /// The connection of this session was handed to the relay of this node.
    ///
    /// The newest session wins whatever order the calls come in; one that lost its right meanwhile is
    /// reported, to be cut. Saying it again is fine, and asks whether the right is still there.
    pub(crate) fn connect(
        &mut self,
        now: Now,
        mode: Mode,
        session: u64,
        node: NodeId,
    ) -> Connected {
        if !self.is_open(now) {
            return Connected::TunnelEnded;
        }
        let side = self.side_mut(mode);
        match side.connected {
            Some(link) if link.session == session => return Connected::Current,
            Some(link) if link.session > session && link.node != node => return Connected::Moved,
            Some(link) if link.session > session => return Connected::Superseded,
            Some(_) | None => {}
        }
        if session < side.first_session {
            return Connected::Revoked;
        }
        side.connect(now, Link { session, node });
        self.updated = now.wall;
        Connected::Current
    }

    /// The connection of this session is gone. Nothing happens when it is not the side's current one.
    pub(crate) fn disconnect(&mut self, now: Now, mode: Mode, session: u64) {
        let side = self.side_mut(mode);
        if side.connected.is_some_and(|link| link.session == session) {
            side.disconnect(now);
            self.updated = now.wall;
        }
    }

    /// The side that the presented token belongs to. Both hashes are always compared as a whole.
    fn owner(&self, presented: &Presented) -> Option<Mode> {
        let source = self.source.token.matches(&presented.token);
        let destination = self.destination.token.matches(&presented.token);
        match (bool::from(source), bool::from(destination)) {
            (true, _) => Some(Mode::Source),
            (false, true) => Some(Mode::Destination),
            (false, false) => None,
        }
    }
}
