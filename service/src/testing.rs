//! What the tests of several modules share: a relay that only remembers, a running service, a client.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adit_engine::link::RelayControl;
use adit_proto::handshake::{ServerRequest, parse_upgrade_request};
use adit_proto::{Mode, TunnelId};
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::access::sigv4::{Credentials, Moment, Signable, sign};
use crate::certificates::Identity;
use crate::service::{Running, Service, ServiceGate};
use crate::settings::{ApiSettings, Settings};

/// Where handshakes of tests come from.
pub(crate) const PEER: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 40_007);

/// SplitMix64: small, and good enough for repeatable variety.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// How often something is done: what the variable of this name says, or `usual`.
pub(crate) fn asked(name: &str, usual: usize) -> usize {
    let asked = std::env::var(name).ok();
    let number = |text: String| {
        let parsed = text.parse();
        parsed.unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}"))
    };
    asked.map_or(usual, number)
}

/// Whether what is measured has to reach its goal: only where nothing else uses the machine.
pub(crate) fn judges() -> bool {
    std::env::var("ADIT_JUDGE").is_ok_and(|value| value == "1")
}

/// `ADIT_SEED`, or another one each time; it is printed.
pub(crate) fn seed() -> u64 {
    let asked = std::env::var("ADIT_SEED").ok();
    let asked = asked.map(|text| text.parse().expect("ADIT_SEED is a number"));
    let seed = asked.unwrap_or_else(|| u64::from(getrandom::u32().unwrap()));
    eprintln!("ADIT_SEED={seed}");
    seed
}

/// Twenty ways of asking for what is for the thing `victim` (threat T-09).
pub(crate) const FOREIGN_FILTERS: [&str; 20] = [
    "#",
    "+",
    "$aws/#",
    "$aws/+/+/+/+",
    "$aws/things/#",
    "$aws/things/+/tunnels/notify",
    "$aws/things/victim/#",
    "$aws/things/victim/+/notify",
    "$aws/things/victim/tunnels/+",
    "$aws/things/victim/tunnels/#",
    "$aws/things/victim/tunnels/notify",
    "$aws/things/victim/tunnels/notify/#",
    "$aws/things/*/tunnels/notify",
    "$aws/things/vict?m/tunnels/notify",
    "$share/g/$aws/things/victim/tunnels/notify",
    "$share/g/#",
    "/$aws/things/victim/tunnels/notify",
    "$AWS/things/victim/tunnels/notify",
    "$aws/things/${iot:Connection.Thing.ThingName}/tunnels/notify",
    "+/things/victim/tunnels/notify",
];

/// Writes down what it is asked to cut.
#[derive(Default)]
pub(crate) struct FakeRelay {
    calls: Mutex<Vec<String>>,
}

impl FakeRelay {
    /// The calls since the last time.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl RelayControl for FakeRelay {
    fn end_side(&self, tunnel: &TunnelId, mode: Mode, _: u64) {
        let call = format!("end_side {tunnel} {mode}");
        self.calls.lock().unwrap().push(call);
    }

    fn end_tunnel(&self, tunnel: &TunnelId) {
        let call = format!("end_tunnel {tunnel}");
        self.calls.lock().unwrap().push(call);
    }
}

/// What a real data plane is started with.
pub(crate) struct StartedRelay {
    pub(crate) relay: FakeRelay,
    pub(crate) gate: Arc<ServiceGate>,
    pub(crate) identity: Identity,
    pub(crate) listener: TcpListener,
}

impl RelayControl for StartedRelay {
    fn end_side(&self, tunnel: &TunnelId, mode: Mode, newest: u64) {
        self.relay.end_side(tunnel, mode, newest);
    }

    fn end_tunnel(&self, tunnel: &TunnelId) {
        self.relay.end_tunnel(tunnel);
    }
}

/// A handshake as the data plane would have read it.
pub(crate) fn upgrade_request(
    mode: Mode,
    access_token: &str,
    client_token: Option<&str>,
) -> ServerRequest {
    let client_token = client_token.map_or(String::new(), |t| format!("client-token: {t}\r\n"));
    let text = format!(
        "GET /tunnel?local-proxy-mode={mode} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
         Connection: upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: aws.iot.securetunneling-3.0\r\n\
         access-token: {access_token}\r\n{client_token}\r\n"
    );
    parse_upgrade_request(text.as_bytes()).unwrap().unwrap().0
}

/// A request, signed as an AWS SDK does it.
pub(crate) fn signed(
    mut request: Request<Body>,
    body: &[u8],
    credentials: &Credentials,
    service: &str,
    moment: Moment,
) -> Request<Body> {
    let (path, query) = (request.uri().path(), request.uri().query());
    let signable = Signable {
        method: request.method().as_str(),
        path,
        query: query.unwrap_or_default(),
        headers: request.headers(),
        body,
    };
    let added = sign(signable, credentials, "eu-x-1", service, moment).unwrap();
    for (name, value) in added {
        request.headers_mut().insert(name, value);
    }
    request
}

/// Settings on free ports of 127.0.0.1.
pub(crate) fn settings() -> Settings {
    let any = "127.0.0.1:0".parse().unwrap();
    Settings::new(ApiSettings::unsigned(any).unwrap(), any)
}

pub(crate) async fn start(settings: Settings) -> Running<StartedRelay> {
    Service::start(settings, async |listener, identity, gate| {
        Ok(StartedRelay {
            relay: FakeRelay::default(),
            gate,
            identity,
            listener,
        })
    })
    .await
    .unwrap_or_else(|error| panic!("{error}"))
}

/// TLS settings that trust this authority and nobody else.
pub(crate) fn client_config(ca_pem: &str) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let time = Arc::new(NearIssue::of(ca_pem));
    rustls::ClientConfig::builder_with_details(provider, time)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A client's clock that agrees with the service's, which a test may have set: two days after its
/// authority began.
#[derive(Debug)]
struct NearIssue(UnixTime);

impl NearIssue {
    fn of(ca_pem: &str) -> Self {
        let (_, pem) = x509_parser::pem::parse_x509_pem(ca_pem.as_bytes()).unwrap();
        let began = pem.parse_x509().unwrap().validity().not_before.timestamp();
        let seconds = u64::try_from(began).unwrap() + 2 * 24 * 3600;
        Self(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl rustls::time_provider::TimeProvider for NearIssue {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

/// A TLS connection to the API.
pub(crate) async fn connect(running: &Running<StartedRelay>) -> TlsStream<TcpStream> {
    let config = Arc::new(client_config(&running.ca_pem));
    let socket = TcpStream::connect(running.api_address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config)
        .connect(name, socket)
        .await
        .unwrap()
}

/// A client of the API with one connection that it keeps.
pub(crate) struct Client(http1::SendRequest<Body>);

/// An answer that was read to its end.
pub(crate) struct Answered {
    pub(crate) head: Response<()>,
    pub(crate) text: String,
}

impl Client {
    pub(crate) async fn new(running: &Running<StartedRelay>) -> Self {
        let stream = TokioIo::new(connect(running).await);
        let (sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    /// Any request.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Answered {
        self.0.ready().await.unwrap();
        let response = self.0.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answered {
            head: Response::from_parts(head, ()),
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// One operation as an AWS client would ask for it.
    pub(crate) async fn call(&mut self, operation: &str, body: &Value) -> Answered {
        self.send(request(operation, body.to_string())).await
    }

    /// One operation that succeeds.
    pub(crate) async fn ok(&mut self, operation: &str, body: Value) -> Value {
        let answered = self.call(operation, &body).await;
        let status = answered.head.status();
        assert_eq!(
            status,
            StatusCode::OK,
            "{operation} {body}: {}",
            answered.text
        );
        answered.json()
    }

    /// One operation that is refused: status, code, message.
    pub(crate) async fn refused(&mut self, operation: &str, body: Value) -> (u16, String, String) {
        let answered = self.call(operation, &body).await;
        answered.refusal()
    }
}

impl Answered {
    /// The body, after the checks that hold for every answer of this API.
    pub(crate) fn json(&self) -> Value {
        let headers = self.head.headers();
        assert_eq!(headers["content-type"], "application/x-amz-json-1.1");
        assert_eq!(headers["cache-control"], "no-store");
        let request_id = headers["x-amzn-requestid"].to_str().unwrap();
        request_id.parse::<uuid::Uuid>().unwrap();
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {:?}", self.text))
    }

    pub(crate) fn refusal(&self) -> (u16, String, String) {
        let json = self.json();
        let members: Vec<_> = json.as_object().unwrap().keys().collect();
        assert_eq!(members, ["__type", "message"], "{json}");
        let text = |name: &str| json[name].as_str().unwrap().to_owned();
        (self.head.status().as_u16(), text("__type"), text("message"))
    }
}

/// A request as boto3 sends it, without the signature.
pub(crate) fn request(operation: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post("/")
        .header("host", "localhost")
        .header("x-amz-target", format!("IoTSecuredTunneling.{operation}"))
        .header("content-type", "application/x-amz-json-1.1")
        .body(body.into())
        .unwrap()
}

/// Asks again and again until it is so; fails after ten seconds.
pub(crate) async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..1_000 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("this did not happen within ten seconds: {what}");
}
