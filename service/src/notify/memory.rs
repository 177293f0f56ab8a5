//! A mailbox that ends with the process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adit_proto::TunnelId;

use super::mailbox::{
    Mailbox, MailboxError, MailboxLimits, Message, Opened, Qos, Queued, SessionStart,
};
use crate::clock::Timestamp;
use crate::token::TokenHash;
use crate::tunnels::ThingName;

/// Sessions and messages in memory.
pub struct MemoryMailbox {
    limits: MailboxLimits,
    state: Mutex<State>,
    may_tell: MayTell,
}

/// Whether a device may be told of this token of this tunnel at that moment.
type MayTell = Box<dyn Fn(Timestamp, &TunnelId, &TokenHash) -> bool + Send + Sync>;

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<ThingName, Session>,
    /// Whose queue holds the one message about a tunnel.
    things_by_tunnel: HashMap<TunnelId, ThingName>,
    /// Connections and messages are counted together: all that matters is that no number comes twice.
    numbers_used: u64,
}

#[derive(Debug)]
struct Session {
    connection: u64,
    connected: bool,
    resumable: bool,
    until: Timestamp,
    subscription: Option<Qos>,
    /// The oldest in front; at most `queued_max`.
    queue: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    sent: bool,
    message: Message,
}

impl MemoryMailbox {
    /// An empty one. `may_tell` knows whether the token of a tunnel is still this one.
    pub fn new(
        limits: MailboxLimits,
        may_tell: impl Fn(Timestamp, &TunnelId, &TokenHash) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            may_tell: Box::new(may_tell),
        }
    }

    /// The tunnel's message is good for nothing any more, and gives room to others.
    pub(crate) fn revoke(&self, tunnel: &TunnelId) {
        self.state().revoke(tunnel);
    }

    /// The thing was deleted: its session and messages go with it.
    pub(crate) fn forget(&self, thing: &ThingName) {
        self.state().forget(thing);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mailbox for MemoryMailbox {
    async fn open(
        &self,
        now: Timestamp,
        thing: &ThingName,
        start: SessionStart,
    ) -> Result<Opened, MailboxError> {
        let mut state = self.state();
        let old = state.sessions.get(thing);
        let present = old.is_some_and(|s| !start.clean && s.resumable && s.until > now);
        if !present {
            if old.is_none() && state.sessions.len() >= self.limits.sessions_max {
                state.expire(now);
            }
            state.forget(thing);
            if state.sessions.len() >= self.limits.sessions_max {
                let max = self.limits.sessions_max;
                return Err(MailboxError::Full { max });
            }
        }
        let connection = state.number();
        let session = state.sessions.entry(thing.clone()).or_insert(Session {
            connection,
            connected: true,
            resumable: false,
            until: now,
            subscription: None,
            queue: VecDeque::new(),
        });
        session.connection = connection;
        session.connected = true;
        session.resumable = start.resumable;
        session.until = start.until;
        Ok(Opened {
            connection,
            present,
            subscription: session.subscription,
        })
    }

    async fn renew(
        &self,
        thing: &ThingName,
        connection: u64,
        until: Timestamp,
    ) -> Result<bool, MailboxError> {
        let mut state = self.state();
        let session = state.session_of(thing, connection);
        Ok(session.map(|session| session.until = until).is_some())
    }

    async fn close(
        &self,
        now: Timestamp,
        thing: &ThingName,
        connection: u64,
        keep: Duration,
    ) -> Result<(), MailboxError> {
        let mut state = self.state();
        let Some(session) = state.session_of(thing, connection) else {
            return Ok(());
        };
        if keep.is_zero() {
            state.forget(thing);
            return Ok(());
        }
        session.connected = false;
        session.resumable = true;
        session.until = now.after(keep);
        Ok(())
    }

    async fn subscribe(
        &self,
        thing: &ThingName,
        connection: u64,
        subscription: Option<Qos>,
    ) -> Result<bool, MailboxError> {
        let mut state = self.state();
        let Some(session) = state.session_of(thing, connection) else {
            return Ok(false);
        };
        session.subscription = subscription;
        if subscription.is_none() {
            state.empty_queue(thing);
        }
        Ok(true)
    }

    async fn push(
        &self,
        now: Timestamp,
        thing: &ThingName,
        message: Message,
    ) -> Result<bool, MailboxError> {
        let mut state = self.state();
        if !(self.may_tell)(now, &message.tunnel, &message.token) {
            return Ok(false);
        }
        state.revoke(&message.tunnel);
        let id = state.number();
        let Some(session) = state.sessions.get_mut(thing) else {
            return Ok(false);
        };
        let wanted = match session.subscription {
            Some(Qos::AtLeastOnce) => true,
            Some(Qos::AtMostOnce) => session.connected,
            None => false,
        };
        if !wanted || session.until <= now {
            return Ok(false);
        }
        let dropped = (session.queue.len() >= self.limits.queued_max)
            .then(|| session.queue.pop_front())
            .flatten();
        let tunnel = message.tunnel.clone();
        session.queue.push_back(Waiting {
            id,
            sent: false,
            message,
        });
        if let Some(dropped) = dropped {
            state.things_by_tunnel.remove(&dropped.message.tunnel);
        }
        state.things_by_tunnel.insert(tunnel, thing.clone());
        Ok(true)
    }

    async fn next(
        &self,
        now: Timestamp,
        thing: &ThingName,
        connection: u64,
    ) -> Result<Option<Queued>, MailboxError> {
        let mut state = self.state();
        state.drop_messages(thing, |message| {
            message.expires > now && (self.may_tell)(now, &message.tunnel, &message.token)
        });
        let Some(session) = state.session_of(thing, connection) else {
            return Ok(None);
        };
        let Some(qos) = session.subscription else {
            return Ok(None);
        };
        let Some(first) = session.queue.front_mut() else {
            return Ok(None);
        };
        let queued = Queued {
            id: first.id,
            again: std::mem::replace(&mut first.sent, true),
            qos,
            message: first.message.clone(),
        };
        if qos == Qos::AtMostOnce {
            state.revoke(&queued.message.tunnel);
        }
        Ok(Some(queued))
    }

    async fn settle(
        &self,
        thing: &ThingName,
        connection: u64,
        id: u64,
    ) -> Result<(), MailboxError> {
        let mut state = self.state();
        let session = state.session_of(thing, connection);
        let message = session.and_then(|s| s.queue.iter().find(|waiting| waiting.id == id));
        if let Some(tunnel) = message.map(|waiting| waiting.message.tunnel.clone()) {
            state.revoke(&tunnel);
        }
        Ok(())
    }

    async fn expire(&self, now: Timestamp) -> Result<usize, MailboxError> {
        Ok(self.state().expire(now))
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.numbers_used += 1;
        self.numbers_used
    }

    fn session_of(&mut self, thing: &ThingName, connection: u64) -> Option<&mut Session> {
        let session = self.sessions.get_mut(thing)?;
        (session.connected && session.connection == connection).then_some(session)
    }

    fn revoke(&mut self, tunnel: &TunnelId) {
        let Some(thing) = self.things_by_tunnel.remove(tunnel) else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(&thing) {
            session.queue.retain(|w| w.message.tunnel != *tunnel);
        }
    }

    fn forget(&mut self, thing: &ThingName) {
        self.empty_queue(thing);
        self.sessions.remove(thing);
    }

    fn empty_queue(&mut self, thing: &ThingName) {
        let Some(session) = self.sessions.get_mut(thing) else {
            return;
        };
        for waiting in session.queue.drain(..) {
            self.things_by_tunnel.remove(&waiting.message.tunnel);
        }
    }

    fn drop_messages(&mut self, thing: &ThingName, lives: impl Fn(&Message) -> bool) -> usize {
        let Some(session) = self.sessions.get_mut(thing) else {
            return 0;
        };
        let before = session.queue.len();
        session.queue.retain(|waiting| {
            let lives = lives(&waiting.message);
            if !lives {
                self.things_by_tunnel.remove(&waiting.message.tunnel);
            }
            lives
        });
        before - session.queue.len()
    }

    fn expire(&mut self, now: Timestamp) -> usize {
        let things: Vec<_> = self.sessions.keys().cloned().collect();
        let mut removed = 0;
        for thing in things {
            if self.sessions[&thing].until <= now {
                self.forget(&thing);
                removed += 1;
            } else {
                removed += self.drop_messages(&thing, |message| message.expires > now);
            }
        }
        removed
    }
}
