//! An API that a test plays: every call is answered by a function of it.

use std::sync::Arc;

use adit_tests::http::{Head, read_body};
use adit_tests::ports;
use adit_tests::scenario::Scenario;
use anyhow::{Context as _, Result};
use rustls::ServerConfig;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Listens on 127.0.0.1 with a certificate of the scenario's authority, and checks no signature; closed at its end.
pub(crate) struct ScriptedApi {
    pub(crate) port: u16,
    answering: JoinHandle<()>,
}

impl ScriptedApi {
    /// `answer` gets each operation by its name and says status and body, one after the other.
    pub(crate) async fn start(
        scenario: &Scenario,
        mut answer: impl FnMut(&str) -> (u16, Value) + Send + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = ports::of(&listener)?;
        let tls = scenario.pki().server()?;
        let answering = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // What goes wrong on the way shows at the client.
                let _ = serve(client, &tls, &mut answer).await;
            }
        });
        Ok(Self { port, answering })
    }
}

impl Drop for ScriptedApi {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

async fn serve(
    client: TcpStream,
    tls: &Arc<ServerConfig>,
    answer: &mut impl FnMut(&str) -> (u16, Value),
) -> Result<()> {
    let mut stream = TlsAcceptor::from(Arc::clone(tls)).accept(client).await?;
    let head = Head::read(&mut stream).await?;
    read_body(&mut stream, &head).await?;
    let target = head.header("x-amz-target").context("no operation")?;
    let operation = target.rsplit('.').next().unwrap_or_default();
    let (status, body) = answer(operation);
    let body = body.to_string();
    let size = body.len();
    let text = format!(
        "HTTP/1.1 {status} Scripted\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {size}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}
