//! HTTP/1.1 over TLS with a bound on everything: connections, handshakes, heads, lifetimes. A client that
//! names `x-amzn-mqtt-ca` in its TLS greeting is a device, and is led to the broker.

mod accept;
mod devices;
mod mutual;
mod refusal;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, Request, header};
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::server::{Acceptor, ClientHello};
use tokio::io::{AsyncRead, AsyncReadExt, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use tracing::{debug, error};

use crate::api::{CalledBy, Peer};
use crate::room::{Place, Room};
use crate::settings::ConnectionLimits;

pub(crate) use devices::DeviceDoor;
use mutual::MQTT_ALPN;
pub(crate) use mutual::device_config;
use refusal::Worded;

/// A listener that is bound, and serves once asked to.
pub(crate) struct HttpsListener {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Arc<rustls::ServerConfig>,
    pub(crate) limits: ConnectionLimits,
    /// Where devices are led that speak MQTT; without it they are refused.
    pub(crate) devices: Option<DeviceDoor>,
}

/// Tells everything that serves to finish. Dropping the sender says the same.
pub(crate) type Stop = watch::Receiver<bool>;

impl HttpsListener {
    /// Serves until told to stop; then lets requests under way finish, within a bound.
    pub(crate) async fn serve(self, router: Router, mut stop: Stop) {
        let connection = Connection {
            tls: self.tls,
            devices: self.devices,
            router,
            limits: Arc::new(self.limits),
            stop: stop.clone(),
        };
        let limits = Arc::clone(&connection.limits);
        let mut connections = JoinSet::new();
        let room = Room::new(limits.connections_max, limits.patience);
        loop {
            tokio::select! {
                () = stopped(&mut stop) => break,
                (socket, peer, place) = accept::admitted(&self.listener, &room) => {
                    connections.spawn(connection.clone().run(socket, peer, place));
                }
            }
            while let Some(ended) = connections.try_join_next() {
                report(ended);
            }
        }
        // New clients are refused from here on instead of waiting for an answer that never comes.
        drop(self.listener);
        let drain = async { while connections.join_next().await.is_some() {} };
        // Every connection bounds its own end; this only covers one that is still shaking hands.
        let _ = timeout(limits.drain_timeout, drain).await;
        connections.shutdown().await;
    }
}

#[derive(Clone)]
struct Connection {
    tls: Arc<rustls::ServerConfig>,
    devices: Option<DeviceDoor>,
    router: Router,
    limits: Arc<ConnectionLimits>,
    stop: Stop,
}

impl Connection {
    async fn run(self, socket: TcpStream, peer: SocketAddr, place: Place) {
        let (devices, stop) = (self.devices.clone(), self.stop.clone());
        let place = Arc::new(place);
        let served = tokio::select! {
            served = self.serve(socket, peer, Arc::clone(&place)) => served,
            () = place.lost() => Err(io::Error::other("its place went to another client")),
        };
        let served = match (served, devices, Arc::into_inner(place)) {
            // Devices have a bound of their own; they stay for long.
            (Ok(Some(greeting)), Some(door), Some(place)) => {
                door.enter(greeting, peer, place, stop).await
            }
            (served, _, _) => served.map(drop),
        };
        if let Err(error) = served {
            debug!(%peer, %error, "API connection ended");
        }
    }

    /// Serves a client of the API to its end. The greeting of one that is a device is given back.
    async fn serve(
        mut self,
        socket: TcpStream,
        peer: SocketAddr,
        place: Arc<Place>,
    ) -> io::Result<Option<StartHandshake<TcpStream>>> {
        socket.set_nodelay(true)?;
        let deadline = Instant::now() + self.limits.handshake_timeout;
        let too_long = |_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake took too long");
        let greeting = LazyConfigAcceptor::new(Acceptor::default(), socket);
        let greeting = timeout_at(deadline, greeting).await.map_err(too_long)??;
        if self.devices.is_some() && speaks_mqtt(&greeting.client_hello()) {
            return Ok(Some(greeting));
        }
        let handshake = greeting.into_stream(self.tls);
        let stream = timeout_at(deadline, handshake).await.map_err(too_long)??;
        let router = TowerToHyperService::new(self.router.layer(Extension(Peer(peer))));
        let answer = service_fn(move |request: Request<Incoming>| {
            let (answered, place) = (router.call(request), Arc::clone(&place));
            async move {
                let mut answer = answered.await?;
                // Nothing succeeds for somebody whom we do not know.
                if answer.status().is_success() {
                    let caller = answer.extensions().get();
                    let stays = place.settle(caller.and_then(|CalledBy(key)| key.as_ref()));
                    if !stays {
                        // Its next call is to take a place like anybody's, and not be cut with this connection.
                        let headers = answer.headers_mut();
                        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
                    }
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_buf_size(MAX_HEAD_SIZE)
            .serve_connection(TokioIo::new(Worded::new(stream)), answer);
        tokio::select! {
            result = &mut connection => {
                if result.as_ref().is_err_and(hyper::Error::is_parse) {
                    discard(connection.into_parts().io.into_inner(), self.limits.drain_timeout).await;
                }
                return result.map(|()| None).map_err(io::Error::other);
            }
            () = stopped(&mut self.stop) => {}
            () = sleep(self.limits.lifetime) => {}
        }
        Pin::new(&mut connection).graceful_shutdown();
        match timeout(self.limits.drain_timeout, connection).await {
            Ok(result) => result.map(|()| None).map_err(io::Error::other),
            // A client that does not read its answer. Dropping the connection cuts it.
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "answer not taken in time",
            )),
        }
    }
}

/// Reads and throws away what a client still sends that was refused (within a bound): it would see its
/// connection reset instead of the answer.
async fn discard(stream: impl AsyncRead + Unpin, patience: Duration) {
    let mut rest = stream.take(MAX_DISCARDED_SIZE);
    let _ = timeout(patience, tokio::io::copy(&mut rest, &mut sink())).await;
}

/// Whether the client would rather speak MQTT than HTTP.
fn speaks_mqtt(hello: &ClientHello<'_>) -> bool {
    let Some(mut names) = hello.alpn() else {
        return false;
    };
    names.find(|name| [MQTT_ALPN, HTTP_ALPN].contains(name)) == Some(MQTT_ALPN)
}

/// Returns once the service is to stop.
pub(crate) async fn stopped(stop: &mut Stop) {
    // An error says that the sender is gone, which is as good as the word itself.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        error!(%error, "an API connection's task failed");
    }
}

const HTTP_ALPN: &[u8] = b"http/1.1";

/// Signed requests with session tokens have heads of some 4 KiB.
const MAX_HEAD_SIZE: usize = 16 * 1024;
const MAX_DISCARDED_SIZE: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;
