//! A client of a running service: the API as an AWS client uses it, and the handshake of a proxy.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a client has to know.
pub(crate) struct Client {
    pub(crate) ca_pem: String,
    pub(crate) api: SocketAddr,
    pub(crate) tunnel: SocketAddr,
}

impl Client {
    async fn connect(&self, address: SocketAddr) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        let ca_pem = self.ca_pem.as_bytes();
        roots
            .add(CertificateDer::from_pem_slice(ca_pem).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let socket = TcpStream::connect(address).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, socket).await.unwrap()
    }

    /// One operation that succeeds.
    pub(crate) async fn api(&self, operation: &str, body: Value) -> Value {
        let mut stream = self.connect(self.api).await;
        let body = body.to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\
             X-Amz-Target: IoTSecuredTunneling.{operation}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
        serde_json::from_str(body).unwrap()
    }

    /// Shakes hands; gives the connection and the head of the answer, with its body if it is refused.
    pub(crate) async fn shake_hands(
        &self,
        mode: &str,
        token: &Value,
        client_token: Option<&str>,
    ) -> (TlsStream<TcpStream>, String) {
        let mut stream = self.connect(self.tunnel).await;
        let client = client_token.map_or(String::new(), |t| format!("client-token: {t}\r\n"));
        let request = format!(
            "GET /tunnel?local-proxy-mode={mode} HTTP/1.1\r\nHost: localhost\r\n\
             Upgrade: websocket\r\nConnection: upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: aws.iot.securetunneling-3.0\r\n\
             access-token: {}\r\n{client}\r\n",
            token.as_str().unwrap()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.contains("\r\n\r\n") {
            let mut bytes = [0; 4096];
            let size = stream.read(&mut bytes).await.unwrap();
            assert_ne!(size, 0, "{answer}");
            // Behind the head of a 101, the first frames may follow.
            answer += &String::from_utf8_lossy(&bytes[..size]);
        }
        if !answer.starts_with("HTTP/1.1 101 ") {
            let _ = stream.read_to_string(&mut answer).await;
        }
        (stream, answer)
    }
}
