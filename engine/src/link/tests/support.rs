//! A relay, settings that reach it, and peers that say whatever a test wants.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adit_proto::handshake::ServerRequest;
use adit_proto::{AccessToken, Mode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::channel::Channel;
use super::super::{
    Admission, Deadlines, Denial, DialSettings, Dialer, Grant, Link, LinkTls, ServeConfig, serve,
};
use crate::tls::RecordsChoice;
use crate::tls::tests::support::{Certificate, configs_for, tls13_suites};

/// A token that no output may contain.
pub(super) const TOKEN: &str = "canary-token-5b1f";

/// Longer than anything here takes, even on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Settings for a plain connection to `address`.
pub(super) fn settings(address: SocketAddr) -> DialSettings {
    DialSettings {
        host: address.ip().to_string(),
        port: address.port(),
        mode: Mode::Source,
        access_token: AccessToken::new(TOKEN.to_owned()).unwrap(),
        client_token: None,
        subprotocol: "aws.iot.securetunneling-3.0".to_owned(),
        user_agent: "test".to_owned(),
        bind: None,
        web_proxy: None,
        tls: None,
        deadlines: Deadlines::default(),
    }
}

/// TLS for both ends; the certificate is for `localhost`.
pub(super) fn tls(certificate: Certificate, records: RecordsChoice) -> (LinkTls, ServeConfig) {
    let (client, server) = configs_for(tls13_suites()[0], certificate);
    let client = LinkTls::new(client, records);
    let server = ServeConfig {
        tls: Some(server),
        records,
        ..ServeConfig::default()
    };
    (client, server)
}

/// Admits everyone but those whose token says otherwise, and remembers what it heard.
#[derive(Default)]
pub(super) struct Doorman {
    heard: Mutex<Vec<String>>,
}

impl Doorman {
    fn note(&self, text: String) {
        self.heard.lock().unwrap().push(text);
    }

    pub(super) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// Waits until it has heard `text`.
    pub(super) async fn hears(&self, text: &str) {
        let wait = async {
            while !self.heard().iter().any(|it| it == text) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let result = timeout(PATIENCE, wait).await;
        assert!(
            result.is_ok(),
            "not heard: {text}; heard: {:?}",
            self.heard()
        );
    }
}

impl Admission for Doorman {
    async fn admit(
        &self,
        request: &ServerRequest,
        peer: SocketAddr,
        channel_id: &str,
    ) -> Result<Grant, Denial> {
        assert!(peer.ip().is_loopback() && peer.port() > 0, "{peer}");
        assert_eq!(channel_id.len(), 36);
        let token = request.access_token.expose();
        self.note(format!("admit {token}"));
        if let Some(status) = token.strip_prefix("deny-") {
            return Err(Denial {
                status: status.parse().unwrap(),
                text: "Not you: the token is not good.".to_owned(),
            });
        }
        if token.starts_with("slow") {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert!(!token.starts_with("panic"), "as the test wants it");
        Ok(Grant {
            tunnel: token.parse().unwrap(),
            mode: request.mode,
            services: Arc::from([]),
            session: 1,
            bytes_per_second: None,
            connections_per_second: None,
        })
    }

    fn connected(&self, grant: &Grant) {
        self.note(format!("connected {}", grant.tunnel));
    }

    fn disconnected(&self, grant: &Grant) {
        self.note(format!("disconnected {}", grant.tunnel));
    }
}

/// A relay on the loopback interface.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    pub(super) doorman: Arc<Doorman>,
    links: mpsc::UnboundedReceiver<(Grant, Link)>,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Relay {
    pub(super) async fn start(config: ServeConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let doorman = Arc::new(Doorman::default());
        let (sender, links) = mpsc::unbounded_channel();
        let (shutdown, asked) = oneshot::channel::<()>();
        let told = Arc::clone(&doorman);
        let on_link = move |grant: Grant, link: Link| {
            assert_ne!(
                grant.tunnel.as_str(),
                "break-the-relay",
                "as the test wants it"
            );
            told.connected(&grant);
            sender.send((grant, link)).unwrap();
        };
        let admission = Arc::clone(&doorman);
        let task = tokio::spawn(serve(listener, config, admission, on_link, async {
            let _ = asked.await;
        }));
        Self {
            address,
            doorman,
            links,
            shutdown: Some(shutdown),
            task,
        }
    }

    pub(super) async fn next_link(&mut self) -> (Grant, Link) {
        timeout(PATIENCE, self.links.recv()).await.unwrap().unwrap()
    }

    /// What `on_link` has been given and nobody has asked for.
    pub(super) fn take_links(&mut self) -> mpsc::UnboundedReceiver<(Grant, Link)> {
        std::mem::replace(&mut self.links, mpsc::unbounded_channel().1)
    }

    /// Connects a client that must be let in, and returns both ends.
    pub(super) async fn connect(&mut self, settings: DialSettings) -> (Link, Link) {
        let near = Dialer::new(settings).dial().await.unwrap();
        let (_, far) = self.next_link().await;
        (near, far)
    }

    pub(super) async fn stop(mut self) -> std::io::Result<()> {
        drop(self.shutdown.take());
        timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }
}

/// One end of a finished link, for a conversation.
pub(super) enum End {
    Tcp(Channel<TcpStream>),
    Local(Channel<UnixStream>),
}

impl End {
    pub(super) fn new(link: Link) -> Self {
        let is_local =
            socket2::SockRef::from(&link.socket).domain().unwrap() == socket2::Domain::UNIX;
        let Link {
            socket,
            records,
            opened,
            unread,
            ..
        } = link;
        if is_local {
            let socket = UnixStream::from_std(socket.into()).unwrap();
            let mut channel = Channel::new(socket, records, unread);
            channel.opened = opened;
            return Self::Local(channel);
        }
        let socket = TcpStream::from_std(socket.into()).unwrap();
        let mut channel = Channel::new(socket, records, unread);
        channel.opened = opened;
        Self::Tcp(channel)
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        let sent = match self {
            Self::Tcp(channel) => timeout(PATIENCE, channel.send(bytes)).await,
            Self::Local(channel) => timeout(PATIENCE, channel.send(bytes)).await,
        };
        sent.unwrap().unwrap();
    }

    /// Receives exactly `expected`.
    pub(super) async fn hears(&mut self, expected: &[u8]) {
        while self.opened().len() < expected.len() {
            assert!(
                self.receive().await,
                "ended after {} bytes",
                self.opened().len()
            );
        }
        assert!(self.opened() == expected, "other bytes");
        self.opened().clear();
    }

    pub(super) async fn ends(&mut self) {
        assert!(!self.receive().await, "more bytes");
    }

    async fn receive(&mut self) -> bool {
        let received = match self {
            Self::Tcp(channel) => timeout(PATIENCE, channel.receive()).await,
            Self::Local(channel) => timeout(PATIENCE, channel.receive()).await,
        };
        received.expect("an answer in time").unwrap()
    }

    fn opened(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Tcp(channel) => &mut channel.opened,
            Self::Local(channel) => &mut channel.opened,
        }
    }
}

/// Both ends talk, in pieces of many sizes.
pub(super) async fn converse(near: Link, far: Link, size: usize) {
    let (mut near, mut far) = (End::new(near), End::new(far));
    let mut bytes = crate::tls::tests::support::Bytes::new(size as u64);
    for (from, to) in [(&mut near, &mut far)] {
        let (there, back) = (bytes.take(size), bytes.take(size));
        tokio::join!(from.send(&there), to.hears(&there));
        tokio::join!(to.send(&back), from.hears(&back));
    }
    drop(near);
    far.ends().await;
}

/// A server that answers one connection with what `script` makes of it. Gives back all that it
/// received.
pub(super) async fn scripted<F, T>(script: F) -> (SocketAddr, JoinHandle<T::Output>)
where
    F: FnOnce(TcpStream) -> T,
    F: Send + 'static,
    T: Future + Send + 'static,
    T::Output: Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        drop(listener);
        script(socket).await
    });
    (address, task)
}

/// Reads up to and with the empty line.
pub(super) async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).await.unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Everything until the end, whatever end it is.
pub(super) async fn read_rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(size @ 1..) = socket.read(&mut chunk).await {
        rest.extend_from_slice(&chunk[..size]);
    }
    rest
}

/// The value of a header in a head.
pub(super) fn header<'a>(head: &'a str, name: &str) -> &'a str {
    head.split("\r\n")
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .unwrap_or_else(|| panic!("no {name} in {head}"))
}

/// A 101 to the request in `head`.
pub(super) fn accepted(head: &str) -> String {
    let accept = adit_proto::handshake::accept_key(header(head, "Sec-WebSocket-Key"));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nsec-websocket-protocol: \
         aws.iot.securetunneling-3.0\r\nchannel-id: one\r\n\r\n"
    )
}

/// An upgrade request as a client would write it, with `extra` lines.
pub(super) fn request(token: &str, extra: &str) -> String {
    format!(
        "GET /tunnel?local-proxy-mode=source HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
         Connection: upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: aws.iot.securetunneling-3.0\r\n\
         access-token: {token}\r\n{extra}\r\n"
    )
}

/// Sends `bytes` to `address` and gives back everything that is answered.
pub(super) async fn ask(address: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
    read.expect("an end in time").expect("an orderly end");
    String::from_utf8(answer).unwrap()
}
