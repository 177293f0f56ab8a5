//! One client, from its first byte to its last.

mod deliver;
mod requests;
mod retry;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, error};

use super::broker::Broker;
use super::codec::{Accepted, Connect, Ending, Incoming, Outgoing, Refused};
use super::live::Seat;
use crate::notify::{Mailbox, MailboxError, Opened, SessionStart, notify_topic};
use crate::registry::{CertificateId, Device, Registry};
use crate::room::Place;
use crate::tunnels::ThingName;
use deliver::InFlight;
use retry::Retry;
use transport::{Lost, Transport};

/// A client before it is let in.
pub(super) struct Connection<'a, M, R, S> {
    broker: &'a Broker<M, R>,
    transport: Transport<S>,
    certificate: CertificateId,
    stop: watch::Receiver<bool>,
}

/// A client that was let in: a device.
struct Session<'a, M, R, S> {
    connection: Connection<'a, M, R, S>,
    thing: ThingName,
    seat: Seat,
    opened: Opened,
    /// How long the session is to live after this connection.
    keep: Duration,
    /// How long the client may be silent, the half on top included.
    silence_max: Duration,
    in_flight: Option<InFlight>,
    /// When to look for messages again that could not be had.
    retry: Retry,
    /// Counts against the broker's bound for as long as the session runs.
    _permit: OwnedSemaphorePermit,
}

/// How a connection ended.
enum Left {
    /// The client said so.
    Politely,
    /// We say so.
    Dismissed(Ending),
    /// The socket is gone.
    Lost(Lost),
}

impl<'a, M: Mailbox, R: Registry, S> Connection<'a, M, R, S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    pub(super) fn new(
        broker: &'a Broker<M, R>,
        stream: S,
        certificate: CertificateId,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            broker,
            transport: Transport::new(stream, broker.limits.write_timeout),
            certificate,
            stop,
        }
    }

    /// `place` is among the clients that were not let in, until this one is.
    pub(super) async fn run(mut self, place: Place) {
        let mut stop = self.stop.clone();
        let first = tokio::select! {
            first = self.first() => first,
            () = stopped(&mut stop) => None,
            () = place.lost() => {
                return debug!("the place of a client without a CONNECT went to another one");
            }
        };
        match first {
            Some(connect) => {
                place.settle(Some(&self.certificate.to_string().into()));
                self.let_in(connect, place).await;
            }
            None => self.transport.close().await,
        }
    }

    /// What a registered device begins with, if this is one, and does.
    async fn first(&mut self) -> Option<Connect> {
        // Nobody who is not registered is answered at all. Where that cannot be said now, the answer to
        // CONNECT says so.
        if let Ok(None) = self.broker.device(self.certificate).await {
            debug!(certificate = ?self.certificate, "not an active device");
            return None;
        }
        let deadline = self.broker.limits.handshake_timeout;
        match timeout(deadline, self.transport.receive()).await {
            Ok(Ok(Incoming::Connect(connect))) => return Some(connect),
            Ok(Ok(_)) => debug!("a client began with something else than CONNECT"),
            Ok(Err(lost)) => debug!(%lost, "a client did not get to its CONNECT"),
            Err(_) => debug!("a client sent no CONNECT in time"),
        }
        None
    }

    async fn let_in(mut self, connect: Connect, place: Place) {
        match self.admit(&connect).await {
            Ok((thing, seat, opened, permit)) => {
                drop(place);
                Session::new(self, &connect, (thing, seat, opened, permit))
                    .run(&connect)
                    .await;
            }
            Err(refused) => {
                debug!(?refused, certificate = ?self.certificate, "a client is not let in");
                let _ = self.transport.send(Outgoing::Refused(refused)).await;
                self.transport.close().await;
            }
        }
    }

    async fn admit(
        &mut self,
        connect: &Connect,
    ) -> Result<(ThingName, Seat, Opened, OwnedSemaphorePermit), Refused> {
        check(connect)?;
        if let Some(size) = connect.packet_size_max {
            self.transport.limit_outgoing(size);
        }
        let (thing, _) = self.authorize(&connect.client_id).await?;
        let (seat, permit) = self.take_seat(&thing).await?;
        // Once more: what was taken away between the first look and the seat was told to nobody.
        let (_, device) = self.authorize(&connect.client_id).await?;
        let limits = &self.broker.limits;
        let topic = notify_topic(&thing);
        let may_subscribe = self.broker.rules.subscribe(&device, &thing, &topic);
        let start = SessionStart {
            // A session whose subscription was allowed once and is not any more is over, and the client
            // hears of it: MQTT 3.1.1 §3.2.2.2 wants what is said and what is kept to agree.
            clean: connect.clean || !may_subscribe,
            resumable: connect.session_expiry > 0,
            until: self.broker.now().after(limits.lease),
        };
        match self
            .broker
            .mailbox
            .open(self.broker.now(), &thing, start)
            .await
        {
            Ok(opened) => Ok((thing, seat, opened, permit)),
            Err(MailboxError::Full { max }) => {
                error!(max, "no room for another device's session");
                Err(Refused::Full)
            }
            Err(fault) => {
                error!(%fault, "a session cannot be opened");
                Err(Refused::Unavailable)
            }
        }
    }

    /// A place among the connections. When all are taken, a device gets that of its own connection before, which
    /// it has lost most likely, and which nobody else would notice for as long as its keep-alive.
    async fn take_seat(
        &mut self,
        thing: &ThingName,
    ) -> Result<(Seat, OwnedSemaphorePermit), Refused> {
        let (live, connections) = (&self.broker.live, &self.broker.connections);
        if let Ok(permit) = Arc::clone(connections).try_acquire_owned() {
            return Ok((live.enter(thing, self.certificate), permit));
        }
        if !live.has(thing) {
            return Err(Refused::Full);
        }
        let seat = live.enter(thing, self.certificate);
        let permit = timeout(SUCCESSION_MAX, Arc::clone(connections).acquire_owned()).await;
        match permit {
            Ok(Ok(permit)) => Ok((seat, permit)),
            Ok(Err(_)) | Err(_) => Err(Refused::Full),
        }
    }

    async fn authorize(&mut self, client_id: &str) -> Result<(ThingName, Device), Refused> {
        let device = self.broker.device(self.certificate).await;
        let device = device.map_err(|_| Refused::Unavailable)?;
        let device = device.ok_or(Refused::NotAuthorized)?;
        let thing = self.broker.rules.connect(&device, client_id);
        let thing = thing.ok_or(Refused::NotAuthorized)?;
        Ok((thing, device))
    }
}

/// What is wrong with a CONNECT whoever sends it.
fn check(connect: &Connect) -> Result<(), Refused> {
    if !connect.supported {
        return Err(Refused::Version);
    }
    if ThingName::new(&connect.client_id).is_none() {
        return Err(Refused::ClientId);
    }
    if connect.has_auth_method {
        return Err(Refused::AuthMethod);
    }
    // A will is never published, so what it says does not matter, except where MQTT 5 wants an answer
    // (§3.2.2.3.4, §3.2.2.3.5); 3.1.1 has none for it.
    match connect.will {
        Some(will) if will.exactly_once && connect.is_v5 => Err(Refused::WillQos),
        Some(will) if will.retain && connect.is_v5 => Err(Refused::WillRetain),
        _ => Ok(()),
    }
}

impl<'a, M: Mailbox, R: Registry, S> Session<'a, M, R, S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    fn new(
        connection: Connection<'a, M, R, S>,
        connect: &Connect,
        (thing, seat, opened, permit): (ThingName, Seat, Opened, OwnedSemaphorePermit),
    ) -> Self {
        let limits = &connection.broker.limits;
        let keep = Duration::from_secs(connect.session_expiry.into());
        let silence = Self::silence(limits.keep_alive_max, connect);
        Self {
            keep: keep.min(limits.session_expiry_max),
            // MQTT 3.1.1 §3.1.2.10: one and a half times the keep-alive.
            silence_max: silence + silence / 2,
            connection,
            thing,
            seat,
            opened,
            in_flight: None,
            retry: Retry::new(),
            _permit: permit,
        }
    }

    /// 3.1.1 cannot tell a client another keep-alive than its own, so only its absence is changed.
    fn silence(max: Duration, connect: &Connect) -> Duration {
        let asked = Duration::from_secs(connect.keep_alive.into());
        match asked {
            Duration::ZERO => max,
            asked if connect.is_v5 => asked.min(max),
            asked => asked,
        }
    }

    async fn run(mut self, connect: &Connect) {
        debug!(
            thing = self.thing.as_str(),
            resumed = self.opened.present,
            "device connected"
        );
        let left = match self.welcome(connect).await {
            Ok(()) => self.serve().await,
            Err(left) => left,
        };
        if let Left::Dismissed(ending) = left {
            // MQTT 3.1.1 has no such packet: `send` leaves it out.
            let _ = self
                .connection
                .transport
                .send(Outgoing::Disconnect(ending))
                .await;
        }
        match &left {
            Left::Politely => debug!(thing = self.thing.as_str(), "device left"),
            Left::Dismissed(ending) => {
                debug!(thing = self.thing.as_str(), ?ending, "device dismissed");
            }
            Left::Lost(lost) => debug!(thing = self.thing.as_str(), %lost, "device lost"),
        }
        // The session first: whoever sees the connection end may count on what it left.
        let broker = self.connection.broker;
        let number = self.opened.connection;
        let closed = broker
            .mailbox
            .close(broker.now(), &self.thing, number, self.keep);
        if let Err(error) = closed.await {
            error!(%error, "the end of a device's connection could not be stored");
        }
        self.connection.transport.close().await;
    }

    async fn welcome(&mut self, connect: &Connect) -> Result<(), Left> {
        let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        let kept = seconds(self.keep);
        let silence = Self::silence(self.connection.broker.limits.keep_alive_max, connect);
        let silence = u16::try_from(silence.as_secs()).unwrap_or(u16::MAX);
        let accepted = Accepted {
            session_present: self.opened.present,
            session_expiry: (kept != connect.session_expiry).then_some(kept),
            keep_alive: (silence != connect.keep_alive).then_some(silence),
        };
        self.send(Outgoing::Accepted(accepted)).await
    }

    async fn serve(&mut self) -> Left {
        let mut silent_until = Instant::now() + self.silence_max;
        let mut stop = self.connection.stop.clone();
        let (mut end, bell) = (self.seat.end(), self.seat.bell());
        let renewal = self.connection.broker.limits.lease / 3;
        let mut renewed = Instant::now();
        let mut renew_at = renewed + renewal;
        if let Err(left) = self.deliver().await {
            return left;
        }
        loop {
            let result = tokio::select! {
                biased;
                ending = end.told() => Err(Left::Dismissed(ending)),
                () = stopped(&mut stop) => Err(Left::Dismissed(Ending::ShuttingDown)),
                received = self.connection.transport.receive() => {
                    silent_until = Instant::now() + self.silence_max;
                    match received {
                        Ok(packet) => self.handle(packet).await,
                        Err(Lost::Malformed(fault)) => Err(Left::Dismissed(fault.into())),
                        Err(lost) => Err(Left::Lost(lost)),
                    }
                }
                () = bell.message.notified() => self.deliver().await,
                () = bell.doubt.notified() => {
                    renew_at = renew_at.min(renewed + renewal / RENEWALS_MAX);
                    Ok(())
                }
                () = self.retry.due() => self.deliver().await,
                () = sleep_until(silent_until) => Err(Left::Dismissed(Ending::KeepAlive)),
                () = sleep_until(renew_at) => {
                    renewed = Instant::now();
                    renew_at = renewed + renewal;
                    self.renew().await
                }
            };
            if let Err(left) = result {
                return left;
            }
        }
    }

    async fn renew(&mut self) -> Result<(), Left> {
        let broker = self.connection.broker;
        let until = broker.now().after(broker.limits.lease);
        let renewed = broker
            .mailbox
            .renew(&self.thing, self.opened.connection, until);
        match renewed.await {
            Ok(true) => Ok(()),
            // Another node serves the device now, or the session was forgotten with its thing.
            Ok(false) => Err(Left::Dismissed(Ending::TakenOver)),
            Err(error) => {
                error!(%error, "a device's session could not be renewed; trying again later");
                Ok(())
            }
        }
    }

    async fn send(&mut self, packet: Outgoing) -> Result<(), Left> {
        self.connection
            .transport
            .send(packet)
            .await
            .map_err(Left::Lost)
    }
}

/// In the time in which one is due: as many as there may be when news is lost again and again. It is a
/// write for each device, at most every 30 s with the usual lease.
const RENEWALS_MAX: u32 = 80;

/// For a connection to end whose device has another one: a second for its client to close its side, and the
/// store's answer.
const SUCCESSION_MAX: Duration = Duration::from_secs(3);

/// Returns once the service is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, which is as good as the word itself.
    let _ = stop.wait_for(|stop| *stop).await;
}
