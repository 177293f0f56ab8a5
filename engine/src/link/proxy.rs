//! The way through a web proxy: CONNECT (wire specification, section 14.4).

use adit_proto::handshake::{ConnectRequest, parse_connect_reply};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{ProxyError, WebProxy};

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
