//! Clients on a port of the broker's own that do nothing, and a device that wants to get past them.

use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::client::{LONG, connect_v3};
use super::*;
use crate::certificates::Certificates;
use crate::listen::{DeviceDoor, device_config};
use crate::testing::client_config;

/// A self-signed certificate and its key.
struct Papers {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Papers {
    fn new(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        Self {
            certificate: made.cert.der().clone(),
            key: made.signing_key.serialize_der(),
        }
    }

    /// TLS settings that show them.
    fn config(&self, ca_pem: &str) -> Arc<rustls::ClientConfig> {
        let mut config = client_config(ca_pem);
        let key = PrivateKeyDer::try_from(self.key.clone()).unwrap();
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
        let shown = rustls::sign::CertifiedKey::new(vec![self.certificate.clone()], key);
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(shown));
        Arc::new(config)
    }
}

#[tokio::test]
async fn clients_that_do_nothing_keep_no_device_out() {
    let lab = Lab::with(|l| {
        l.strangers_max = 4;
        l.patience = SHORT;
        // Nobody goes for another reason.
        l.handshake_timeout = LONG * 60;
    });
    let names = [ServerName::try_from("localhost").unwrap()];
    let now = crate::clock::Clock::system().now().wall.to_date_time();
    let certificates = Certificates::in_memory(&names, now).unwrap();
    let papers = Papers::new("a");
    let id = CertificateId::of(&papers.certificate);
    lab.device_with("a", id).await;
    let config = papers.config(certificates.ca_pem());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = device_config(certificates.identity(), Broker::look_up(&lab.broker)).unwrap();
    let door = DeviceDoor {
        tls: Arc::new(tls),
        broker: lab.broker.clone(),
    };
    tokio::spawn(door.serve_port(listener, lab.stop.subscribe()));
    let shake_hands = async || {
        let socket = TcpStream::connect(address).await.unwrap();
        let connector = TlsConnector::from(Arc::clone(&config));
        let stream = connector.connect(names[0].clone(), socket);
        timeout(LONG, stream).await.expect("a handshake").unwrap()
    };
    let (mut silent, mut wordless) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        silent.push(TcpStream::connect(address).await.unwrap());
        wordless.push(shake_hands().await);
    }
    let mut stream = shake_hands().await;
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move { copy_bidirectional(&mut far, &mut stream).await });
    let mut client = Client::new(near);
    assert_eq!(client.connect("a", true).await, (0, false));
    client.subscribe(&own_topic("a"), 1).await;
    // Once it is let in, it does not count among them.
    for _ in 0..8 {
        wordless.push(shake_hands().await);
    }
    lab.publish("a", "t", "one").await;
    assert_eq!(client.take().await, "one");
    // The oldest ones had to go, with or without TLS.
    let mut bytes = Vec::new();
    let ended = timeout(LONG, silent[0].read_to_end(&mut bytes)).await;
    assert!(ended.is_ok() && bytes.is_empty());
    let ended = timeout(LONG, wordless[0].read_to_end(&mut bytes)).await;
    assert!(ended.is_ok() && bytes.is_empty());
    // One that is left can still say who it is.
    let mut last = wordless.pop().unwrap();
    last.write_all(&connect_v3("a", true, 60)).await.unwrap();
    assert_eq!(last.read_u8().await.unwrap(), 0x20);
}
