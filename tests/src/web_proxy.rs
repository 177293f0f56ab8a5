//! A web proxy driven by hand: it reads a CONNECT, and a test decides what it answers.

use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::deadline::within;
use crate::http::Head;
use crate::link::Stream;

/// A listener on 127.0.0.1, with or without TLS.
pub struct WebProxy {
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
}

/// A client that has sent its CONNECT and waits for the answer.
pub struct Call {
    /// What it asked, literally.
    pub request: Head,
    stream: Box<dyn Stream>,
}

impl WebProxy {
    /// Listens without TLS.
    ///
    /// # Errors
    /// No socket.
    pub async fn start() -> Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(("127.0.0.1", 0)).await?,
            tls: None,
        })
    }

    /// Listens with TLS.
    ///
    /// # Errors
    /// No socket.
    pub async fn start_tls(config: Arc<ServerConfig>) -> Result<Self> {
        Ok(Self {
            tls: Some(config),
            ..Self::start().await?
        })
    }

    /// Its port.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn port(&self) -> Result<u16> {
        crate::ports::of(&self.listener)
    }

    /// Takes the next CONNECT.
    ///
    /// # Errors
    /// None comes.
    pub async fn call(&self) -> Result<Call> {
        within("waiting for a CONNECT", async {
            let (tcp, _) = self.listener.accept().await?;
            let mut stream: Box<dyn Stream> = match &self.tls {
                None => Box::new(tcp),
                Some(config) => {
                    let acceptor = TlsAcceptor::from(Arc::clone(config));
                    Box::new(acceptor.accept(tcp).await.context("TLS to the web proxy")?)
                }
            };
            let request = Head::read(&mut stream).await?;
            Ok(Call { request, stream })
        })
        .await
    }
}

impl Call {
    /// Answers 200 and carries bytes between the client and this port until either ends.
    ///
    /// # Errors
    /// Nobody listens on the port, or the client is gone.
    pub async fn connect_to(mut self, port: u16) -> Result<()> {
        let mut target = TcpStream::connect(("127.0.0.1", port)).await?;
        self.answer(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await?;
        tokio::spawn(async move {
            // Either side may vanish; the test sees that at its own end.
            let _ = tokio::io::copy_bidirectional(&mut self.stream, &mut target).await;
        });
        Ok(())
    }

    /// Sends these bytes; the connection stays open as long as this value lives.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn answer(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await.context("answer")?;
        self.stream.flush().await.context("answer")
    }
}
