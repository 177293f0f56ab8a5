//! From a token to an open WebSocket, one half for each direction.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use adit_engine::tls::{ClientTls, client_config, client_config_from};
use adit_proto::handshake::{UpgradeRequest, UpgradeResponse, parse_upgrade_response};
use adit_proto::limits::MAX_FRAME_PAYLOAD_SIZE;
use adit_proto::{AccessToken, ClientToken, Mode, Subprotocol};
use anyhow::{Context as _, Result, bail};
use fastwebsockets::{Frame, Payload, Role, WebSocket};
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use socket2::SockRef;
use std::io::Cursor;
use tokio::io::{
    AsyncReadExt as _, AsyncWriteExt as _, Chain, Empty, Join, ReadHalf, Sink, WriteHalf, empty,
    join, sink,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::incoming::Incoming;

/// Where the service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address; IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Endpoint {
    /// The data plane of AWS in a region.
    #[must_use]
    pub fn of_region(region: &str) -> Self {
        let suffix = match region.starts_with("cn-") {
            true => "amazonaws.com.cn",
            false => "amazonaws.com",
        };
        Self {
            host: format!("data.tunneling.iot.{region}.{suffix}"),
            port: 443,
        }
    }
}

/// Reads `wss://HOST[:PORT]`, or the same without the scheme.
impl std::str::FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            Some(("wss", rest)) => rest,
            Some((scheme, _)) => return Err(format!("{scheme}:// is not spoken here; wss:// is")),
            None => text,
        };
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.rsplit_once(':') {
            // The colon of an address in brackets.
            Some((_, port)) if port.ends_with(']') => (rest, "443"),
            Some(parts) => parts,
            None => (rest, "443"),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_name = |it: char| !it.is_whitespace() && !"/?#@".contains(it);
        match port.parse() {
            Ok(port @ 1..) if !host.is_empty() && host.chars().all(is_name) => Ok(Self {
                host: host.to_owned(),
                port,
            }),
            _ => Err(format!("{text:?} is no endpoint; write wss://HOST:PORT")),
        }
    }
}

/// Who may vouch for the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The system's authorities, and those in a PEM file or a directory of them.
    Also(Option<PathBuf>),
    /// This authority alone, PEM.
    Only(String),
}

/// What is needed to connect one side.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// Where.
    pub endpoint: Endpoint,
    /// Who may vouch for it.
    pub trust: Trust,
    /// The credential of the side.
    pub token: AccessToken,
    /// Which side.
    pub mode: Mode,
    /// Congestion control of the link's socket; the system's default otherwise.
    pub congestion: Option<String>,
}

type Stream = TlsStream<TcpStream>;
type ReadSide = Chain<Cursor<Vec<u8>>, ReadHalf<Stream>>;

/// The receiving half.
pub(super) type LinkReader = Incoming<Join<ReadSide, Sink>>;

/// The sending half.
pub(super) struct LinkWriter {
    socket: WebSocket<Join<Empty, WriteHalf<Stream>>>,
}

/// All of connecting: name, TCP, TLS and upgrade.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Payload bytes of a frame that is sent. Messages may go on in the next one.
const FRAME_SIZE: usize = 64 * 1024;

/// Connects.
///
/// # Errors
/// In which step, and why.
pub(super) async fn connect(settings: &LinkSettings) -> Result<(LinkReader, LinkWriter)> {
    let Endpoint { host, port } = &settings.endpoint;
    let side = settings.mode.as_str();
    tokio::time::timeout(CONNECT_TIMEOUT, open(settings))
        .await
        .unwrap_or_else(|_| bail!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))
        .with_context(|| format!("cannot connect to {host}:{port} as {side}"))
}

async fn dial(settings: &LinkSettings) -> Result<TcpStream> {
    let Endpoint { host, port } = &settings.endpoint;
    let socket = TcpStream::connect((host.as_str(), *port)).await?;
    socket.set_nodelay(true)?;
    if let Some(name) = &settings.congestion {
        SockRef::from(&socket)
            .set_tcp_congestion(name.as_bytes())
            .with_context(|| format!("congestion control {name}"))?;
    }
    Ok(socket)
}

async fn open(settings: &LinkSettings) -> Result<(LinkReader, LinkWriter)> {
    let host = &settings.endpoint.host;
    let socket = dial(settings).await?;
    let name = ServerName::try_from(host.clone()).context("no name that a certificate can have")?;
    let connector = TlsConnector::from(tls(settings)?);
    let mut stream = connector.connect(name, socket).await.context("TLS")?;

    let mut key = [0; 16];
    getrandom::fill(&mut key)?;
    let client_token = client_token()?;
    let mut request = Vec::new();
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.clone(),
    };
    UpgradeRequest {
        host: &host,
        mode: settings.mode,
        subprotocol: Subprotocol::V3.name(),
        access_token: &settings.token,
        client_token: Some(&client_token),
        user_agent: concat!("adit-loadgen/", env!("CARGO_PKG_VERSION")),
        key,
    }
    .encode(&mut request)?;
    stream.write_all(&request).await?;
    stream.flush().await?;

    let mut answer = Vec::new();
    let (response, size) = loop {
        // The parser refuses an answer without end, so this loop has one.
        if let Some(found) = parse_upgrade_response(&answer, &key)? {
            break found;
        }
        if stream.read_buf(&mut answer).await? == 0 {
            bail!("closed after {} bytes of an answer", answer.len());
        }
    };
    if let UpgradeResponse::Refused(refusal) = response {
        bail!("refused with {}: {}", refusal.status, refusal.text());
    }
    answer.drain(..size);
    Ok(halves(stream, answer))
}

/// `unread` came behind the answer.
fn halves(stream: Stream, unread: Vec<u8>) -> (LinkReader, LinkWriter) {
    let (read, write) = tokio::io::split(stream);
    let read = Cursor::new(unread).chain(read);
    let mut reading = WebSocket::after_handshake(join(read, sink()), Role::Client);
    // The other half answers.
    reading.set_auto_pong(false);
    reading.set_auto_close(false);
    reading.set_max_message_size(MAX_FRAME_PAYLOAD_SIZE);
    let writing = WebSocket::after_handshake(join(empty(), write), Role::Client);
    (Incoming::new(reading), LinkWriter { socket: writing })
}

fn tls(settings: &LinkSettings) -> Result<Arc<ClientConfig>> {
    match &settings.trust {
        Trust::Also(path) => {
            let tls = ClientTls {
                ca_path: path.clone(),
                no_verify: false,
                ..ClientTls::default()
            };
            client_config(&tls).context("--ca")
        }
        Trust::Only(authority) => {
            let authority = CertificateDer::from_pem_slice(authority.as_bytes())?;
            Ok(client_config_from([authority])?)
        }
    }
}

/// A run comes once; its token is bound to it.
fn client_token() -> Result<ClientToken> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(ClientToken::strict(format!(
        "{:032x}",
        u128::from_ne_bytes(bytes)
    ))?)
}

impl LinkWriter {
    /// Sends bytes of the message stream; they are masked where they are.
    pub(super) async fn send(&mut self, bytes: &mut [u8]) -> Result<()> {
        for chunk in bytes.chunks_mut(FRAME_SIZE) {
            let frame = Frame::binary(Payload::BorrowedMut(chunk));
            self.socket.write_frame(frame).await?;
        }
        Ok(self.socket.flush().await?)
    }

    pub(super) async fn pong(&mut self, payload: Vec<u8>) -> Result<()> {
        let frame = Frame::pong(Payload::Owned(payload));
        self.socket.write_frame(frame).await?;
        Ok(self.socket.flush().await?)
    }

    /// Says that no more comes.
    pub(super) async fn close(&mut self) -> Result<()> {
        self.socket.write_frame(Frame::close(1000, b"")).await?;
        Ok(self.socket.flush().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_link_has_the_congestion_control_that_was_asked_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dialled = async |congestion: Option<&str>| {
            let settings = LinkSettings {
                endpoint: listener.local_addr().unwrap().to_string().parse().unwrap(),
                trust: Trust::Also(None),
                token: AccessToken::new("a-token".to_owned()).unwrap(),
                mode: Mode::Source,
                congestion: congestion.map(str::to_owned),
            };
            dial(&settings).await
        };
        let name = |socket: &TcpStream| {
            let name = SockRef::from(socket).tcp_congestion().unwrap();
            String::from_utf8(name.into_iter().take_while(|byte| *byte != 0).collect()).unwrap()
        };
        let usual = name(&dialled(None).await.unwrap());
        let known = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
        let known = std::fs::read_to_string(known).unwrap();
        // Reno is always there; where it is the system's, another shows that it was asked for.
        let other = known.split_whitespace().find(|it| *it != usual);
        let other = other.unwrap_or("reno");
        assert_eq!(name(&dialled(Some(other)).await.unwrap()), other);
        let told = format!("{:#}", dialled(Some("nonesuch")).await.unwrap_err());
        assert!(told.contains("congestion control nonesuch"), "{told}");
    }

    #[test]
    fn endpoints_are_read() {
        let endpoint = |host: &str, port| {
            Ok(Endpoint {
                host: host.to_owned(),
                port,
            })
        };
        for (text, expected) in [
            ("wss://127.0.0.1:4443", endpoint("127.0.0.1", 4443)),
            ("wss://host/", endpoint("host", 443)),
            ("host:1", endpoint("host", 1)),
            ("wss://[::1]:4443", endpoint("::1", 4443)),
            ("[::1]", endpoint("::1", 443)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
        for bad in [
            "",
            "ws://host",
            "wss://",
            "host:0",
            "host:x",
            ":1",
            "a b:1",
            "wss://a/b",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
        assert_eq!(
            Endpoint::of_region("cn-north-1").host,
            "data.tunneling.iot.cn-north-1.amazonaws.com.cn"
        );
    }
}
