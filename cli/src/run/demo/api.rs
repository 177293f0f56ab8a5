//! The demo as a client of the service's API, like any other: HTTPS, AWS JSON 1.1.

use std::net::SocketAddr;
use std::sync::Arc;

use adit_proto::AccessToken;
use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, header};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::http::exchange;

/// Where the API is, and whom to trust.
pub(super) struct Api {
    pub(super) address: SocketAddr,
    pub(super) tls: Arc<ClientConfig>,
}

/// A new tunnel.
pub(super) struct Tunnel {
    pub(super) id: String,
    pub(super) source_token: AccessToken,
    pub(super) destination_token: AccessToken,
}

impl Api {
    /// Opens a tunnel that offers these services.
    pub(super) async fn open_tunnel(&self, services: &[&str]) -> Result<Tunnel> {
        let input = json!({
            "description": "adit demo",
            "destinationConfig": { "services": services },
        });
        let output = self.call("OpenTunnel", &input).await?;
        Ok(Tunnel {
            id: text(&output, "tunnelId")?.to_owned(),
            source_token: token(&output, "sourceAccessToken")?,
            destination_token: token(&output, "destinationAccessToken")?,
        })
    }

    /// Whether the service has both sides of the tunnel connected.
    pub(super) async fn is_connected(&self, tunnel: &str) -> Result<bool> {
        let output = self
            .call("DescribeTunnel", &json!({ "tunnelId": tunnel }))
            .await?;
        let tunnel = &output["tunnel"];
        let is_connected = |side: &str| tunnel[side]["status"] == "CONNECTED";
        Ok(is_connected("sourceConnectionState") && is_connected("destinationConnectionState"))
    }

    async fn call(&self, operation: &str, input: &Value) -> Result<Value> {
        self.try_call(operation, input)
            .await
            .with_context(|| format!("{operation} at https://{}", self.address))
    }

    async fn try_call(&self, operation: &str, input: &Value) -> Result<Value> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::from(self.address.ip());
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(name, stream).await?;
        let request = Request::post("/")
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, "application/x-amz-json-1.1")
            .header(header::CONNECTION, "close")
            .header("x-amz-target", format!("IoTSecuredTunneling.{operation}"))
            .body(Full::from(Bytes::from(input.to_string())))?;
        let response = exchange(stream, request).await?;
        let status = response.status();
        // An answer to OpenTunnel holds tokens: only that of a refusal is shown.
        ensure!(
            status.is_success(),
            "{status}: {}",
            String::from_utf8_lossy(response.body()).escape_debug()
        );
        serde_json::from_slice(response.body()).context("the answer is not JSON")
    }
}

fn text<'a>(output: &'a Value, member: &str) -> Result<&'a str> {
    match output[member].as_str() {
        Some(text) => Ok(text),
        None => bail!("the answer has no {member}"),
    }
}

fn token(output: &Value, member: &str) -> Result<AccessToken> {
    AccessToken::new(text(output, member)?.to_owned())
        .with_context(|| format!("{member} is no token"))
}
