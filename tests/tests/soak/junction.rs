//! The way between proxies and the service, which can be cut.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Carries whatever connects to it to one place.
pub(crate) struct Junction {
    port: u16,
    links: Arc<Mutex<JoinSet<()>>>,
    accepting: JoinHandle<()>,
}

impl Drop for Junction {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Junction {
    /// Listens on a free port in front of `port`.
    pub(crate) async fn before(port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let links = Arc::new(Mutex::new(JoinSet::new()));
        Ok(Self {
            port: listener.local_addr()?.port(),
            links: Arc::clone(&links),
            accepting: tokio::spawn(async move {
                while let Ok((near, _)) = listener.accept().await {
                    let mut links = links.lock().unwrap_or_else(PoisonError::into_inner);
                    links.spawn(carry(near, SocketAddr::from(([127, 0, 0, 1], port))));
                }
            }),
        })
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Cuts every link, without a word of WebSocket or TLS.
    pub(crate) fn cut(&self) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        *links = JoinSet::new();
    }
}

async fn carry(mut near: TcpStream, to: SocketAddr) {
    if let Ok(mut far) = TcpStream::connect(to).await {
        let is_set = near.set_nodelay(true).and(far.set_nodelay(true));
        // Either end may go at any time: that is what a cut is.
        if is_set.is_ok() {
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    }
}
