//! HTTP/1.1 over TLS with a bound on everything: connections, handshakes, heads, lifetimes.

mod accept;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, error};

use crate::api::Peer;
use crate::settings::ConnectionLimits;

/// A listener that is bound, and serves once asked to.
pub(crate) struct HttpsListener {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Arc<rustls::ServerConfig>,
    pub(crate) limits: ConnectionLimits,
}

/// Tells everything that serves to finish. Dropping the sender says the same.
pub(crate) type Stop = watch::Receiver<bool>;

impl HttpsListener {
    /// Serves until told to stop; then lets requests under way finish, within a bound.
    pub(crate) async fn serve(self, router: Router, mut stop: Stop) {
        let connection = Connection {
            tls: TlsAcceptor::from(self.tls),
            router,
            limits: Arc::new(self.limits),
            stop: stop.clone(),
        };
        let limits = Arc::clone(&connection.limits);
        let mut connections = JoinSet::new();
        loop {
            let has_room = connections.len() < limits.connections_max;
            tokio::select! {
                () = stopped(&mut stop) => break,
                Some(ended) = connections.join_next() => report(ended),
                (socket, peer) = accept::next(|| self.listener.accept()), if has_room => {
                    connections.spawn(connection.clone().run(socket, peer));
                }
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
    tls: TlsAcceptor,
    router: Router,
    limits: Arc<ConnectionLimits>,
    stop: Stop,
}

impl Connection {
    async fn run(self, socket: TcpStream, peer: SocketAddr) {
        if let Err(error) = self.serve(socket, peer).await {
            debug!(%peer, %error, "API connection ended");
        }
    }

    async fn serve(mut self, socket: TcpStream, peer: SocketAddr) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let handshake = timeout(self.limits.handshake_timeout, self.tls.accept(socket));
        let stream = handshake.await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "TLS handshake took too long")
        })??;
        let router = self.router.layer(Extension(Peer(peer)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_buf_size(MAX_HEAD_SIZE)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
        tokio::pin!(connection);
        tokio::select! {
            result = connection.as_mut() => return result.map_err(io::Error::other),
            () = stopped(&mut self.stop) => {}
            () = sleep(self.limits.lifetime) => {}
        }
        connection.as_mut().graceful_shutdown();
        match timeout(self.limits.drain_timeout, connection).await {
            Ok(result) => result.map_err(io::Error::other),
            // A client that does not read its answer. Dropping the connection cuts it.
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "answer not taken in time",
            )),
        }
    }
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

/// Signed requests with session tokens have heads of some 4 KiB.
const MAX_HEAD_SIZE: usize = 16 * 1024;

#[cfg(test)]
mod tests;
