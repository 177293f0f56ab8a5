//! A source or destination client that a test drives by hand, for a real service.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::deadline::within;
use crate::frames::End;
use crate::http::{Head, accept_key, read_body};
use crate::link::Link;
use crate::pki::client_trusting;
use crate::secrets::Secrets;
use crate::wire::Message;

/// The key of RFC 6455's example; a test needs no secret.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// How the reference's proxy calls itself (section 1.3).
const AGENT: &str = "localproxy linux 64-bit/boost-1.81.0/openssl-3.0.0/protobuf-3.21.12";

/// Where the service is, and whom to trust.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Host name, as in the certificate.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The authority, as PEM.
    pub ca_pem: String,
    /// Tokens and client tokens of upgrades are kept here.
    pub secrets: Secrets,
}

/// An upgrade request; every part can be changed, left out or doubled.
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// The target of the GET.
    pub target: String,
    /// The headers behind `Host`, in this order.
    pub headers: Vec<(String, String)>,
}

/// What the service answered to an upgrade that it did not accept.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The head.
    pub head: Head,
    /// The body, as text.
    pub body: String,
}

/// A connection on which TLS is done and nothing else.
pub struct Connected {
    stream: TlsStream<TcpStream>,
    socket: std::net::TcpStream,
}

impl Upgrade {
    /// The request of the reference's proxy.
    #[must_use]
    pub fn new(mode: &str, token: &str) -> Self {
        let headers = [
            ("Upgrade", "websocket"),
            ("Connection", "upgrade"),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Protocol", "aws.iot.securetunneling-3.0"),
            ("User-Agent", AGENT),
            ("access-token", token),
        ];
        let owned = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            target: format!("/tunnel?local-proxy-mode={mode}"),
            headers: owned.to_vec(),
        }
    }

    /// Another target.
    #[must_use]
    pub fn target(mut self, target: &str) -> Self {
        target.clone_into(&mut self.target);
        self
    }

    /// One header more, even if there is one with this name.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// No header with this name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(header, _)| !header.eq_ignore_ascii_case(name));
        self
    }

    /// The header with this name, with another value.
    #[must_use]
    pub fn changed(self, name: &str, value: &str) -> Self {
        self.without(name).with(name, value)
    }

    /// The literal request.
    #[must_use]
    pub fn encode(&self, host: &str) -> Vec<u8> {
        let mut text = format!("GET {} HTTP/1.1\r\nHost: {host}\r\n", self.target);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        text.into_bytes()
    }
}

impl Endpoint {
    /// Connects, with TLS.
    ///
    /// # Errors
    /// Nobody listens, or the certificate is not the authority's.
    pub async fn connect(&self) -> Result<Connected> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port));
        within("connecting to the service", async {
            self.secure(tcp.await?).await
        })
        .await
    }

    /// As [`Self::connect`], to the loopback from this address of it, without a deadline.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_from(&self, address: Ipv4Addr) -> Result<Connected> {
        self.secure(self.tcp_from(address).await?).await
    }

    /// Connects to the loopback from this address of it, without TLS.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn tcp_from(&self, address: Ipv4Addr) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((address, 0).into())?;
        Ok(socket
            .connect((Ipv4Addr::LOCALHOST, self.port).into())
            .await?)
    }

    async fn secure(&self, tcp: TcpStream) -> Result<Connected> {
        tcp.set_nodelay(true)?;
        let socket = std::net::TcpStream::from(tcp.as_fd().try_clone_to_owned()?);
        let connector = TlsConnector::from(client_trusting(&self.ca_pem)?);
        let name = self.host.clone().try_into()?;
        let stream = connector.connect(name, tcp).await.context("TLS")?;
        Ok(Connected { stream, socket })
    }

    /// Connects and upgrades, which must succeed.
    ///
    /// # Errors
    /// The service refuses; what it said is in the error.
    pub async fn upgrade(&self, upgrade: &Upgrade) -> Result<Link> {
        match self.try_upgrade(upgrade).await? {
            Ok(link) => Ok(link),
            Err(refused) => bail!("refused: {}: {}", refused.head.start_line, refused.body),
        }
    }

    /// Connects and upgrades, which must be refused.
    ///
    /// # Errors
    /// The service accepts, or does not answer.
    pub async fn refused(&self, upgrade: &Upgrade) -> Result<Refused> {
        match self.try_upgrade(upgrade).await? {
            Ok(_) => bail!("{} was accepted", upgrade.target),
            Err(refused) => Ok(refused),
        }
    }

    /// Connects and upgrades as this side with this token, and takes SERVICE_IDS, which
    /// must be these in any order.
    ///
    /// # Errors
    /// The service refuses, or says something else first.
    pub async fn join(&self, mode: &str, token: &str, services: &[&str]) -> Result<Link> {
        let mut link = self.upgrade(&Upgrade::new(mode, token)).await?;
        expect_service_ids(&mut link, services).await?;
        Ok(link)
    }

    async fn try_upgrade(&self, upgrade: &Upgrade) -> Result<Result<Link, Refused>> {
        for (name, value) in &upgrade.headers {
            if ["access-token", "client-token"].contains(&name.to_ascii_lowercase().as_str()) {
                self.secrets.keep(value);
            }
        }
        let mut connected = self.connect().await?;
        connected.send(&upgrade.encode(&self.host)).await?;
        connected.answer().await
    }
}

impl Connected {
    /// Sends bytes, whatever they are.
    ///
    /// # Errors
    /// The service has ended the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await.context("send")?;
        self.stream.flush().await.context("send")
    }

    /// Reads the answer to an upgrade.
    ///
    /// # Errors
    /// There is none, or a 101 that RFC 6455 does not allow.
    pub async fn answer(mut self) -> Result<Result<Link, Refused>> {
        let answer = within("waiting for the answer", Head::read(&mut self.stream));
        let head = answer.await?;
        if head.status()? != 101 {
            let body = within("reading the reason", read_body(&mut self.stream, &head));
            let body = String::from_utf8_lossy(&body.await?).into_owned();
            return Ok(Err(Refused { head, body }));
        }
        ensure!(
            head.header("sec-websocket-accept") == Some(&accept_key(KEY)),
            "a wrong Sec-WebSocket-Accept: {head:?}"
        );
        for header in ["sec-websocket-protocol", "channel-id"] {
            ensure!(head.header(header).is_some(), "no {header}: {head:?}");
        }
        let stream = Box::new(self.stream);
        Ok(Ok(Link::new(stream, End::Client, self.socket, true)))
    }

    /// Reads the head of an answer that must accept, and hangs up.
    ///
    /// # Errors
    /// There is none, or the service refuses.
    pub async fn accepted_head(mut self) -> Result<Head> {
        let head = within("waiting for the answer", Head::read(&mut self.stream)).await?;
        ensure!(head.status()? == 101, "refused: {}", head.start_line);
        Ok(head)
    }

    /// Waits, without a deadline of its own, until the service ends the connection; what it
    /// says before is let pass.
    ///
    /// # Errors
    /// Never: an end without TLS's own goodbye is an end as well.
    pub async fn is_hung_up(mut self) -> Result<()> {
        let mut said = Vec::new();
        let _ = self.stream.read_to_end(&mut said).await;
        Ok(())
    }
}

/// Takes SERVICE_IDS, which must name exactly these services, in any order.
///
/// # Errors
/// Something else comes.
pub async fn expect_service_ids(link: &mut Link, services: &[&str]) -> Result<()> {
    let mut message = link.message().await.context("expecting SERVICE_IDS")?;
    // The order has no meaning (section 5.1); only a V1 client may see it ignorable.
    message.available_service_ids.sort_unstable();
    message.ignorable = false;
    let mut expected = Message::service_ids(services);
    expected.available_service_ids.sort_unstable();
    ensure!(
        message == expected,
        "expected {expected}, received {message}"
    );
    Ok(())
}
