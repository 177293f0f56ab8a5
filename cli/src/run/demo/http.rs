//! One HTTP request on a connection of its own.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// Every answer of the demo is far smaller.
const BODY_SIZE_MAX: usize = 1024 * 1024;

/// On loopback, and generous.
const DEADLINE: Duration = Duration::from_secs(10);

/// Sends `request` on `stream` and returns the whole answer.
pub(super) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>> {
    let exchanged = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, BODY_SIZE_MAX).collect().await;
        let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
        drop(sender);
        connection.await??;
        Ok(Response::from_parts(head, body))
    };
    timeout(DEADLINE, exchanged)
        .await
        .with_context(|| format!("no whole answer within {DEADLINE:?}"))?
}
