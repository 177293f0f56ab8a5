//! Who may connect: tokens are spent here (control-plane specification, section 8).

use adit_proto::{Mode, TunnelId};

use super::Tunnels;
use super::record::{Record, TokenUse};
use super::types::{Admitted, Connected, Presented, Refusal};
use crate::clock::Now;

impl Tunnels {
    /// Decides on a handshake. When it is let in, its token is spent (or bound to the client token)
    /// by the time this returns.
    ///
    /// Only who holds a token that is good for one of the sides learns more than `UnknownToken`.
    pub fn spend_token(&mut self, now: Now, presented: &Presented) -> Result<Admitted, Refusal> {
        let (id, next_use) = self.judge(now, presented)?;
        if let TokenUse::Bound(client_token) = next_use {
            let owner = (id.clone(), presented.mode);
            self.client_tokens.insert(client_token, owner);
        }
        let session = self.next_session;
        self.next_session += 1;
        let record = self.records.get_mut(&id).expect("just judged");
        let side = record.side_mut(presented.mode);
        if side.token_use != next_use {
            side.token_use = next_use;
            self.revision += 1;
        }
        Ok(Admitted {
            tunnel: id,
            services: record.services(),
            session,
        })
    }

    /// Whether letting this handshake in spends or binds its token; not so when a client comes back.
    pub(crate) fn would_spend(&self, now: Now, presented: &Presented) -> Result<bool, Refusal> {
        let (id, next_use) = self.judge(now, presented)?;
        Ok(self.records[&id].side(presented.mode).token_use != next_use)
    }

    /// The connection of this session was handed to the relay.
    ///
    /// The newest session wins whatever order the calls come in; one that lost its right meanwhile is
    /// reported, to be cut.
    pub fn set_connected(
        &mut self,
        now: Now,
        id: &TunnelId,
        mode: Mode,
        session: u64,
    ) -> Connected {
        let Some(record) = self.records.get_mut(id) else {
            return Connected::TunnelEnded;
        };
        if !record.is_open(now) {
            return Connected::TunnelEnded;
        }
        let side = record.side_mut(mode);
        if side.connected.is_some_and(|current| current >= session) {
            return Connected::Superseded;
        }
        if session < side.first_session {
            return Connected::Revoked;
        }
        side.connect(now, session);
        record.updated = now.wall;
        Connected::Current
    }

    /// The connection of this session is gone. Nothing happens when it is not the side's current one.
    pub fn set_disconnected(&mut self, now: Now, id: &TunnelId, mode: Mode, session: u64) {
        let Some(record) = self.records.get_mut(id) else {
            return;
        };
        let side = record.side_mut(mode);
        if side.connected == Some(session) {
            side.disconnect(now);
            record.updated = now.wall;
        }
    }

    /// The tunnel that a handshake may enter, and what becomes of its token by that.
    fn judge(&self, now: Now, presented: &Presented) -> Result<(TunnelId, TokenUse), Refusal> {
        let id = self.by_routing_key.get(&presented.routing_key);
        let id = id.ok_or(Refusal::UnknownToken)?;
        let record = &self.records[id];
        match owner(record, presented) {
            None => return Err(Refusal::UnknownToken),
            Some(_) if !record.is_open(now) => return Err(Refusal::TunnelClosed),
            Some(mode) if mode != presented.mode => return Err(Refusal::WrongMode),
            Some(_) => {}
        }
        Ok((id.clone(), self.next_use(record, presented)?))
    }

    /// What becomes of the token if this handshake is let in.
    fn next_use(&self, record: &Record, presented: &Presented) -> Result<TokenUse, Refusal> {
        match (
            record.side(presented.mode).token_use,
            presented.client_token,
        ) {
            (TokenUse::Unused, None) => Ok(TokenUse::Spent),
            (TokenUse::Unused, Some(client_token)) => {
                if self.client_tokens.contains_key(&client_token) {
                    return Err(Refusal::ClientTokenTaken);
                }
                Ok(TokenUse::Bound(client_token))
            }
            (TokenUse::Spent, None | Some(_)) => Err(Refusal::Used),
            (TokenUse::Bound(bound), Some(client_token)) if bound == client_token => {
                Ok(TokenUse::Bound(bound))
            }
            (TokenUse::Bound(_), None | Some(_)) => Err(Refusal::OtherClientToken),
        }
    }
}

/// The side that the presented token belongs to. Both hashes are always compared as a whole.
fn owner(record: &Record, presented: &Presented) -> Option<Mode> {
    let source = record.source.token.matches(&presented.token);
    let destination = record.destination.token.matches(&presented.token);
    match (bool::from(source), bool::from(destination)) {
        (true, _) => Some(Mode::Source),
        (false, true) => Some(Mode::Destination),
        (false, false) => None,
    }
}
