//! From a socket to the broker: TLS with the device's certificate, on a port of its own or shared.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use adit_engine::failpoint::failpoint;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{StartHandshake, TlsAcceptor};
use tracing::{debug, error};

use super::{Stop, accept, stopped};
use crate::mqtt::Broker;
use crate::notify::Mailbox;
use crate::registry::{CertificateId, Registry};
use crate::room::{Place, Room};

/// Lets devices in: the broker, and the TLS settings in front of it.
#[derive(Clone)]
pub(crate) struct DeviceDoor {
    pub(crate) tls: Arc<ServerConfig>,
    pub(crate) broker: Arc<dyn ServeDevice>,
}

/// A broker, whatever its store is.
pub(crate) trait ServeDevice: Send + Sync {
    /// Serves one client to its end.
    fn serve_device(
        self: Arc<Self>,
        stream: TlsStream<TcpStream>,
        certificate: CertificateId,
        place: Place,
        stop: Stop,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Places for clients that are not let in yet.
    fn strangers(&self) -> Arc<Room>;

    /// For the TLS handshake.
    fn handshake_timeout(&self) -> Duration;
}

impl<M: Mailbox, R: Registry> ServeDevice for Broker<M, R> {
    fn serve_device(
        self: Arc<Self>,
        stream: TlsStream<TcpStream>,
        certificate: CertificateId,
        place: Place,
        stop: Stop,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move { self.serve(stream, certificate, place, stop).await })
    }

    fn strangers(&self) -> Arc<Room> {
        self.strangers()
    }

    fn handshake_timeout(&self) -> Duration {
        self.limits().handshake_timeout
    }
}

impl DeviceDoor {
    /// Goes on with a handshake that was begun on a shared port, once there is a place among the strangers;
    /// until then the client has the one of that port.
    pub(super) async fn enter(
        self,
        start: StartHandshake<TcpStream>,
        peer: SocketAddr,
        place: Place,
        stop: Stop,
    ) -> io::Result<()> {
        let strangers = self.broker.strangers();
        let stranger = tokio::select! {
            stranger = self.in_time(async { Ok(strangers.enter(peer).await) }) => stranger?,
            () = place.lost() => None,
        };
        drop(place);
        let stranger = stranger.ok_or_else(crowded)?;
        let handshake = start.into_stream(Arc::clone(&self.tls));
        self.shake_hands(handshake, stranger, stop).await
    }

    /// Serves a port of its own until told to stop.
    pub(crate) async fn serve_port(self, listener: TcpListener, mut stop: Stop) {
        let mut connections = JoinSet::new();
        let strangers = self.broker.strangers();
        loop {
            tokio::select! {
                () = stopped(&mut stop) => break,
                (socket, peer, place) = accept::admitted(&listener, &strangers) => {
                    connections.spawn(self.clone().run(socket, peer, place, stop.clone()));
                }
            }
            while let Some(ended) = connections.try_join_next() {
                report(ended);
            }
        }
        drop(listener);
        // Each bounds its own end: a word of goodbye that has to be taken in time.
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    }

    async fn run(self, socket: TcpStream, peer: SocketAddr, place: Place, stop: Stop) {
        let served = async {
            socket.set_nodelay(true)?;
            let handshake = TlsAcceptor::from(Arc::clone(&self.tls)).accept(socket);
            self.shake_hands(handshake, place, stop).await
        };
        if let Err(error) = served.await {
            debug!(%peer, %error, "device connection ended");
        }
    }

    async fn shake_hands(
        &self,
        handshake: impl Future<Output = io::Result<TlsStream<TcpStream>>>,
        place: Place,
        stop: Stop,
    ) -> io::Result<()> {
        let stream = tokio::select! {
            stream = self.in_time(handshake) => stream?,
            () = place.lost() => return Err(crowded()),
        };
        let chain = stream.get_ref().1.peer_certificates();
        let certificate = chain.and_then(<[_]>::first);
        let certificate = certificate.ok_or_else(|| io::Error::other("no client certificate"))?;
        let id = CertificateId::of(certificate);
        failpoint("device", &"connection");
        let broker = Arc::clone(&self.broker);
        broker.serve_device(stream, id, place, stop).await;
        Ok(())
    }

    async fn in_time<T>(&self, handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let limit = self.broker.handshake_timeout();
        timeout(limit, handshake).await.unwrap_or_else(|_| {
            let text = "TLS handshake took too long";
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    }
}

fn crowded() -> io::Error {
    io::Error::other("its place went to another client")
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        error!(%error, "a device connection's task failed");
    }
}
