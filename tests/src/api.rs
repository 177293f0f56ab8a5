//! The control plane's API, as an unsigned AWS JSON 1.1 client sees it.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::deadline::within;
use crate::http::{Head, read_body};
use crate::pki::client_trusting;
use crate::secrets::Secrets;

/// Where the API is, and whom to trust.
#[derive(Clone, Debug)]
pub struct Api {
    host: String,
    port: u16,
    ca_pem: String,
    secrets: Secrets,
}

/// A new tunnel and its tokens.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// Its id.
    pub id: String,
    /// The token of the source side.
    pub source_token: String,
    /// The token of the destination side.
    pub destination_token: String,
}

impl Tunnel {
    /// What an OpenTunnel answered, or `adit tunnel open --json` printed.
    ///
    /// # Errors
    /// It lacks a member.
    pub fn read(answer: &Value) -> Result<Self> {
        Ok(Self {
            id: text(answer, "tunnelId")?,
            source_token: text(answer, "sourceAccessToken")?,
            destination_token: text(answer, "destinationAccessToken")?,
        })
    }
}

impl Api {
    /// The API at `https://HOST:PORT`. Tokens that it gives out are kept in `secrets`.
    ///
    /// # Errors
    /// That is no such address.
    pub fn at(url: &str, ca_pem: &str, secrets: Secrets) -> Result<Self> {
        let address = url.strip_prefix("https://").context("not https")?;
        let (host, port) = address.split_once(':').context("no port")?;
        Ok(Self {
            host: host.to_owned(),
            port: port.trim_end_matches('/').parse()?,
            ca_pem: ca_pem.to_owned(),
            secrets,
        })
    }

    /// Calls an operation, which must succeed.
    ///
    /// # Errors
    /// It does not; the answer is in the error.
    pub async fn call(&self, operation: &str, input: &Value) -> Result<Value> {
        let (status, output) = self.try_call(operation, input).await?;
        ensure!(status == 200, "{operation}: {status}: {output}");
        Ok(output)
    }

    /// Calls an operation and returns status and answer.
    ///
    /// # Errors
    /// The API does not answer, or not in JSON.
    pub async fn try_call(&self, operation: &str, input: &Value) -> Result<(u16, Value)> {
        let (status, output) = within(operation, self.exchange(operation, input)).await?;
        for side in ["sourceAccessToken", "destinationAccessToken"] {
            self.secrets.keep(output[side].as_str().unwrap_or_default());
        }
        Ok((status, output))
    }

    /// Opens a tunnel for these services.
    ///
    /// # Errors
    /// The API refuses.
    pub async fn open_tunnel(&self, services: &[&str]) -> Result<Tunnel> {
        let input = match services {
            [] => json!({}),
            _ => json!({ "destinationConfig": { "services": services } }),
        };
        let output = self.call("OpenTunnel", &input).await?;
        Tunnel::read(&output)
    }

    /// Replaces the token of the destination, which closes its link. Returns the new one.
    ///
    /// # Errors
    /// The API refuses.
    pub async fn rotate_destination(&self, id: &str) -> Result<String> {
        let input = json!({ "tunnelId": id, "clientMode": "DESTINATION" });
        let output = self.call("RotateTunnelAccessToken", &input).await?;
        text(&output, "destinationAccessToken")
    }

    /// Closes a tunnel.
    ///
    /// # Errors
    /// The API refuses.
    pub async fn close_tunnel(&self, id: &str) -> Result<()> {
        self.call("CloseTunnel", &json!({ "tunnelId": id })).await?;
        Ok(())
    }

    /// Whether source and destination are connected.
    ///
    /// # Errors
    /// The API refuses.
    pub async fn connected(&self, id: &str) -> Result<(bool, bool)> {
        let output = self
            .call("DescribeTunnel", &json!({ "tunnelId": id }))
            .await?;
        let is_connected = |side: &str| output["tunnel"][side]["status"] == "CONNECTED";
        Ok((
            is_connected("sourceConnectionState"),
            is_connected("destinationConnectionState"),
        ))
    }

    /// Waits until both sides of a tunnel are connected, or the ones that are wanted.
    ///
    /// # Errors
    /// They are not in time.
    pub async fn wait_connected(&self, id: &str, source: bool, destination: bool) -> Result<()> {
        within("waiting for the sides to connect", async {
            loop {
                let (has_source, has_destination) = self.connected(id).await?;
                if has_source >= source && has_destination >= destination {
                    return Ok(());
                }
                crate::deadline::pause(std::time::Duration::from_millis(10)).await;
            }
        })
        .await
    }

    async fn exchange(&self, operation: &str, input: &Value) -> Result<(u16, Value)> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let connector = TlsConnector::from(client_trusting(&self.ca_pem)?);
        let mut stream = connector
            .connect(self.host.clone().try_into()?, tcp)
            .await?;
        let body = input.to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {}:{}\r\nContent-Type: application/x-amz-json-1.1\r\n\
             X-Amz-Target: IoTSecuredTunneling.{operation}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            self.host,
            self.port,
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let head = Head::read(&mut stream).await?;
        let body = read_body(&mut stream, &head).await?;
        let output = serde_json::from_slice(&body)
            .with_context(|| format!("no JSON: {:?}", String::from_utf8_lossy(&body)))?;
        Ok((head.status()?, output))
    }
}

fn text(output: &Value, member: &str) -> Result<String> {
    match output[member].as_str() {
        Some(text) => Ok(text.to_owned()),
        None => bail!("no {member} in {output}"),
    }
}
