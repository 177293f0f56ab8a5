//! A way to a port that lets requests through and may hold the answers back.

use adit_tests::ports;
use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Listens on 127.0.0.1 and forwards to a port there; closed at its end.
pub(crate) struct Gate {
    pub(crate) port: u16,
    /// Whether answers pass.
    open: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Gate {
    /// Starts with the gate open.
    pub(crate) async fn before(target: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = ports::of(&listener)?;
        let (open, passes) = watch::channel(true);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, target, passes.clone()));
            }
        });
        Ok(Self {
            port,
            open,
            accepting,
        })
    }

    /// Holds answers back from now on.
    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    /// Lets them through, those that were held back as well.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(client: TcpStream, target: u16, mut passes: watch::Receiver<bool>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asking = async {
        let _ = copy(&mut from_client, &mut to_server).await;
    };
    let answering = async {
        let mut bytes = vec![0; 64 * 1024];
        // The first that a server says is its part of the TLS handshake, without which nothing is asked.
        let mut is_handshake = true;
        while let Ok(size @ 1..) = from_server.read(&mut bytes).await {
            let may_pass = is_handshake || passes.wait_for(|passes| *passes).await.is_ok();
            if !may_pass || to_client.write_all(&bytes[..size]).await.is_err() {
                return;
            }
            is_handshake = false;
        }
    };
    tokio::select! {
        () = asking => {}
        () = answering => {}
    }
}
