//! A service that a test drives by hand, for a real proxy to connect to.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::deadline::within;
use crate::frames::End;
use crate::http::{Head, accept_key};
use crate::link::{Link, Stream};
use crate::scenario::Scenario;
use crate::wire::Message;

/// A TLS listener on the loopback that does nothing by itself.
pub struct ScriptedService {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
}

/// A proxy that has sent its upgrade request and waits for the answer.
pub struct Knock {
    /// What it asked, literally.
    pub request: Head,
    stream: Box<dyn Stream>,
    socket: std::net::TcpStream,
}

/// How to answer an upgrade with 101.
#[derive(Clone, Debug)]
pub struct Acceptance {
    /// The `sec-websocket-protocol` header, or none at all.
    pub subprotocol: Option<String>,
    /// The `channel-id` header, or none at all.
    pub channel_id: Option<String>,
    /// Bytes sent right behind the head, in the same write.
    pub trailing: Vec<u8>,
    /// Whether pings get a pong from the first on.
    pub answers_pings: bool,
}

impl Default for Acceptance {
    fn default() -> Self {
        Self {
            subprotocol: Some("aws.iot.securetunneling-3.0".to_owned()),
            channel_id: Some("scripted-channel".to_owned()),
            trailing: Vec::new(),
            answers_pings: true,
        }
    }
}

impl ScriptedService {
    /// Listens on 127.0.0.1 with a certificate of the scenario's authority.
    ///
    /// # Errors
    /// No socket, or no certificate.
    pub async fn start(scenario: &Scenario) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_at(address, scenario.pki().server()?).await
    }

    /// Listens at this address with this TLS configuration.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn start_at(address: SocketAddr, tls: Arc<ServerConfig>) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listen at {address}"))?;
        Ok(Self { listener, tls })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// What a proxy takes as its endpoint: `localhost:PORT`.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn endpoint(&self) -> Result<String> {
        Ok(format!("localhost:{}", self.address()?.port()))
    }

    /// Takes the next TCP connection, before any TLS.
    ///
    /// # Errors
    /// None comes.
    pub async fn accept_tcp(&self) -> Result<TcpStream> {
        within("waiting for a proxy to connect", async {
            Ok(self.listener.accept().await?.0)
        })
        .await
    }

    /// Takes the next connection and its upgrade request.
    ///
    /// # Errors
    /// None comes, its TLS fails, or it is no HTTP.
    pub async fn knock(&self) -> Result<Knock> {
        let tcp = self.accept_tcp().await?;
        self.knock_on(tcp).await
    }

    /// Takes the upgrade request of a connection that [`Self::accept_tcp`] gave.
    ///
    /// # Errors
    /// Its TLS fails, or it is no HTTP.
    pub async fn knock_on(&self, tcp: TcpStream) -> Result<Knock> {
        within("waiting for an upgrade request", self.greet(tcp)).await
    }

    /// Takes the next connection, answers 101 and sends SERVICE_IDS: what every
    /// conversation begins with.
    ///
    /// # Errors
    /// As [`Self::knock`].
    pub async fn admit(&self, services: &[&str]) -> Result<Link> {
        let link = self.knock().await?.accept().await?;
        link.send(&Message::service_ids(services)).await?;
        Ok(link)
    }

    async fn greet(&self, tcp: TcpStream) -> Result<Knock> {
        tcp.set_nodelay(true)?;
        let socket = std::net::TcpStream::from(tcp.as_fd().try_clone_to_owned()?);
        let acceptor = TlsAcceptor::from(Arc::clone(&self.tls));
        let mut stream = acceptor.accept(tcp).await.context("TLS")?;
        let request = Head::read(&mut stream).await?;
        Ok(Knock {
            request,
            stream: Box::new(stream),
            socket,
        })
    }
}

impl Knock {
    /// Answers 101 as AWS does.
    ///
    /// # Errors
    /// The proxy is gone, or had sent no key.
    pub async fn accept(self) -> Result<Link> {
        self.accept_with(&Acceptance::default()).await
    }

    /// Answers 101 in this way.
    ///
    /// # Errors
    /// The proxy is gone, or had sent no key.
    pub async fn accept_with(mut self, acceptance: &Acceptance) -> Result<Link> {
        let key = self
            .request
            .header("sec-websocket-key")
            .ok_or_else(|| anyhow!("the request has not exactly one key"))?;
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n",
            accept_key(key)
        );
        if let Some(name) = &acceptance.subprotocol {
            answer += &format!("sec-websocket-protocol: {name}\r\n");
        }
        if let Some(id) = &acceptance.channel_id {
            answer += &format!("channel-id: {id}\r\n");
        }
        answer += "\r\n";
        let bytes = [answer.as_bytes(), &acceptance.trailing].concat();
        self.write(&bytes).await?;
        Ok(Link::new(
            self.stream,
            End::Server,
            self.socket,
            acceptance.answers_pings,
        ))
    }

    /// Answers with another status and a text, and ends the connection.
    ///
    /// # Errors
    /// The proxy is gone.
    pub async fn refuse(mut self, status: &str, text: &str) -> Result<()> {
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
             channel-id: refused-channel\r\nConnection: close\r\n\r\n{text}",
            text.len()
        );
        self.write(answer.as_bytes()).await?;
        let _ = self.stream.shutdown().await;
        Ok(())
    }

    /// Answers with these bytes, whatever they are, and ends the connection.
    ///
    /// # Errors
    /// The proxy is gone.
    pub async fn answer_raw(mut self, bytes: &[u8]) -> Result<()> {
        self.write(bytes).await?;
        let _ = self.stream.shutdown().await;
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await.context("answer")?;
        self.stream.flush().await.context("answer")
    }
}
