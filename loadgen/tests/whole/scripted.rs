//! Services that are late, or go, at a moment of the test's choice.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use adit_loadgen::direct::{self, DirectSettings, LinkSettings, Load, Trust};
use adit_loadgen::profile::Shape;
use adit_loadgen::report::Summary;
use adit_proto::handshake::{encode_accept, parse_upgrade_request};
use adit_proto::message::encode_service_ids;
use adit_proto::{AccessToken, Mode, Subprotocol};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use crate::support::EXECUTABLE;

/// A service with one client, to which it tells no service but the one without a name.
struct Service {
    address: SocketAddr,
    /// PEM.
    authority: String,
}

/// What it does, and when.
#[derive(Clone, Copy)]
struct Script {
    /// After the upgrade, it tells its services.
    tells_after: Duration,
    /// After that, it is gone.
    goes_after: Duration,
}

impl Service {
    fn start(script: Script) -> Self {
        let identity = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let authority = identity.cert.pem();
        let chain = vec![CertificateDer::from(identity.cert)];
        let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tls = TlsAcceptor::from(Arc::new(config));
        thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(serve(listener, tls, script));
        });
        Self { address, authority }
    }

    fn link(&self) -> LinkSettings {
        LinkSettings {
            endpoint: self.address.to_string().parse().unwrap(),
            trust: Trust::Only(self.authority.clone()),
            token: AccessToken::new("a-token".to_owned()).unwrap(),
            mode: Mode::Source,
            congestion: None,
        }
    }
}

async fn serve(listener: std::net::TcpListener, tls: TlsAcceptor, script: Script) {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    let mut stream = tls.accept(socket).await.unwrap();
    let mut head = Vec::new();
    let request = loop {
        stream.read_buf(&mut head).await.unwrap();
        if let Some((request, _)) = parse_upgrade_request(&head).unwrap() {
            break request;
        }
    };
    let mut answer = Vec::new();
    encode_accept(&request.key, Subprotocol::V3, "", &mut answer);
    stream.write_all(&answer).await.unwrap();
    tokio::time::sleep(script.tells_after).await;
    let mut content = Vec::new();
    encode_service_ids([].iter(), false, &mut content);
    // A final binary frame, unmasked.
    let mut frame = vec![0x82, u8::try_from(content.len()).unwrap()];
    frame.extend(content);
    stream.write_all(&frame).await.unwrap();
    let gone = tokio::time::sleep(script.goes_after);
    let mut sink = tokio::io::sink();
    tokio::select! {
        // It answers nothing.
        _ = tokio::io::copy(&mut stream, &mut sink) => {}
        () = gone => {}
    }
}

#[test]
fn load_begins_once_the_services_are_told() {
    let script = Script {
        tells_after: Duration::from_millis(1500),
        goes_after: Duration::from_secs(60),
    };
    let service = Service::start(script);
    let begun = Instant::now();
    // The reported time, and that of the accounts, begins with the return of this.
    let tunnel = direct::connect(DirectSettings {
        source: service.link(),
        destination: None,
        load: Load {
            asks: 1,
            ..Load::none(Shape::fixed(64, 64), None)
        },
        duration: Duration::from_secs(1),
        grace: Duration::from_secs(1),
        seed: 1,
        stop: Arc::default(),
    });
    assert!(tunnel.is_ok());
    assert!(begun.elapsed() >= script.tells_after, "they were told");
}

#[test]
fn a_tunnel_that_went_tells_no_memory_of_its_connections() {
    let run = |goes_after, duration: &str| {
        let service = Service::start(Script {
            tells_after: Duration::ZERO,
            goes_after,
        });
        let directory = tempfile::tempdir().unwrap();
        let authority = directory.path().join("ca.pem");
        std::fs::write(&authority, &service.authority).unwrap();
        let out = directory.path().join("out");
        let output = Command::new(EXECUTABLE)
            .args(["idle", "--connections", "10", "--duration", duration])
            .args(["--grace", "100ms", "--quiet", "--source-token", "a-token"])
            .args(["--endpoint", &format!("wss://{}", service.address)])
            .args(["--pid", &format!("{}=tester", std::process::id())])
            .args(["--ca".as_ref(), authority.as_os_str()])
            .args(["--out".as_ref(), out.as_os_str()])
            .output();
        let words = String::from_utf8_lossy(&output.unwrap().stderr).into_owned();
        let summary = Summary::load(&out).expect(&words);
        let of_memory = |name: &&String| name.contains("per_connection");
        summary.figures.keys().filter(of_memory).count()
    };
    // Cut before its time; whole until then, and no connection proves to be.
    assert_eq!(run(Duration::from_millis(300), "600s"), 0);
    assert_eq!(run(Duration::from_secs(60), "500ms"), 0);
}
