//! The way through a web proxy: CONNECT (wire specification, section 14.4).

use std::sync::Arc;
use std::time::Duration;

use adit_proto::handshake::{ConnectRequest, parse_connect_reply};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::{LinkError, ProxyError, ProxyScheme, Step, WebProxy, dial_tcp};
use crate::tls;

/// A connection that a web proxy has opened.
pub trait Way: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Way for S {}

/// Connects to `host` through a web proxy, for a caller that speaks TLS to `host` by itself. `tls` is for
/// the proxy, where that is spoken to in TLS. `deadline` is for reaching the proxy, and once more for its
/// answer.
///
/// # Errors
///
/// [`LinkError::Dial`], [`LinkError::TimedOut`] or [`LinkError::Proxy`].
pub async fn dial_through(
    web_proxy: &WebProxy,
    tls: &Arc<ClientConfig>,
    host: &str,
    port: u16,
    deadline: Duration,
) -> Result<Box<dyn Way>, LinkError> {
    let mut socket = dial_tcp(&web_proxy.host, web_proxy.port, deadline)
        .await
        .map_err(|source| LinkError::Dial {
            host: web_proxy.host.clone(),
            source,
        })?;
    let asking = async {
        Ok::<Box<dyn Way>, ProxyError>(match web_proxy.scheme {
            ProxyScheme::Http => {
                ask(&mut socket, web_proxy, host, port).await?;
                Box::new(socket)
            }
            ProxyScheme::Https => Box::new(ask_in_tls(socket, web_proxy, tls, host, port).await?),
        })
    };
    match timeout(deadline, asking).await {
        Ok(way) => way.map_err(|source| LinkError::Proxy {
            proxy: web_proxy.to_string(),
            source,
        }),
        Err(_) => Err(LinkError::TimedOut {
            step: Step::Proxy,
            host: web_proxy.to_string(),
            after: deadline,
        }),
    }
}

/// As [`ask`], in TLS.
pub(super) async fn ask_in_tls(
    socket: TcpStream,
    web_proxy: &WebProxy,
    tls: &Arc<ClientConfig>,
    host: &str,
    port: u16,
) -> Result<TlsStream<TcpStream>, ProxyError> {
    let name = tls::server_name(&web_proxy.host).map_err(ProxyError::Tls)?;
    let stream = TlsConnector::from(Arc::clone(tls))
        .connect(name, socket)
        .await;
    let mut stream =
        stream.map_err(|error| ProxyError::Tls(tls::HandshakeError::from_io(error)))?;
    ask(&mut stream, web_proxy, host, port).await?;
    Ok(stream)
}

/// Asks the proxy at the other end of `stream` for a way to `host`. The access token is not
/// known here.
///
/// Returns once the proxy has said yes and nothing else.
pub(super) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    proxy: &WebProxy,
    host: &str,
    port: u16,
) -> Result<(), ProxyError> {
    let request = ConnectRequest {
        host,
        port,
        credentials: proxy
            .credentials
            .as_ref()
            .map(|it| (it.user.as_str(), &it.password)),
    };
    let mut bytes = Zeroizing::new(Vec::new());
    request.encode(&mut bytes)?;
    stream.write_all(&bytes).await?;
    stream.flush().await?;

    let mut answer = Vec::with_capacity(READ_SIZE);
    loop {
        // The parser refuses an answer without end, so this loop has one.
        if let Some((status, size)) = parse_connect_reply(&answer)? {
            return match status {
                200..=299 if answer.len() > size => Err(ProxyError::EarlyBytes {
                    size: answer.len() - size,
                }),
                200..=299 => Ok(()),
                _ => Err(ProxyError::Status { status }),
            };
        }
        answer.reserve(READ_SIZE);
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(ProxyError::Closed {
                received: answer.len(),
            });
        }
    }
}

const READ_SIZE: usize = 1024;
