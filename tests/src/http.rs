//! Heads of HTTP messages, read by hand so that a test sees the literal bytes.

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The largest head that a test reads, in bytes.
const HEAD_SIZE_MAX: usize = 64 * 1024;

/// The head of a request or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Every byte up to and including the empty line.
    pub raw: Vec<u8>,
    /// `GET /tunnel… HTTP/1.1` or `HTTP/1.1 101 Switching Protocols`.
    pub start_line: String,
    /// Names as they came, values trimmed, in their order.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Reads one head and not a byte more.
    ///
    /// # Errors
    /// The connection ends, the head is too large, or is none.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Self> {
        let mut raw = Vec::new();
        while !raw.ends_with(b"\r\n\r\n") {
            ensure!(raw.len() < HEAD_SIZE_MAX, "a head without end");
            match from.read_u8().await {
                Ok(byte) => raw.push(byte),
                Err(error) => bail!(
                    "the head ended after {} bytes: {error}: {:?}",
                    raw.len(),
                    String::from_utf8_lossy(&raw)
                ),
            }
        }
        Self::parse(raw)
    }

    /// The value of the only header with this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.headers_named(name);
        match values[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    /// The values of all headers with this name.
    #[must_use]
    pub fn headers_named(&self, name: &str) -> Vec<&str> {
        let matching = self
            .headers
            .iter()
            .filter(|(header, _)| header.eq_ignore_ascii_case(name));
        matching.map(|(_, value)| value.as_str()).collect()
    }

    /// The status of a response.
    ///
    /// # Errors
    /// This is none.
    pub fn status(&self) -> Result<u16> {
        let mut words = self.start_line.split(' ');
        ensure!(
            words.next().is_some_and(|word| word.starts_with("HTTP/1.")),
            "no response: {}",
            self.start_line
        );
        Ok(words.next().context("no status")?.parse()?)
    }

    fn parse(raw: Vec<u8>) -> Result<Self> {
        let text = std::str::from_utf8(&raw).context("a head that is not UTF-8")?;
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let start_line = lines.next().context("an empty head")?.to_owned();
        let headers = lines.map(|line| {
            let (name, value) = line
                .split_once(':')
                .with_context(|| format!("no header: {line:?}"))?;
            Ok((name.to_owned(), value.trim().to_owned()))
        });
        let headers = headers.collect::<Result<Vec<_>>>()?;
        Ok(Self {
            start_line,
            headers,
            raw,
        })
    }
}

/// Reads a response's body: as long as its `Content-Length` says, or to the end.
///
/// # Errors
/// The connection ends too early.
pub async fn read_body(from: &mut (impl AsyncRead + Unpin), head: &Head) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    match head.header("content-length") {
        Some(size) => {
            body.resize(size.parse()?, 0);
            from.read_exact(&mut body).await.context("a short body")?;
        }
        None => {
            // A server that closes without TLS's own goodbye still has ended its body.
            let _ = from.read_to_end(&mut body).await;
        }
    }
    Ok(body)
}

/// The answer to a `Sec-WebSocket-Key` (RFC 6455, section 4.2.2).
#[must_use]
pub fn accept_key(key: &str) -> String {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
    use base64::Engine as _;
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_head_is_read_to_its_empty_line_and_no_further() {
        let mut bytes: &[u8] = b"HTTP/1.1 101 Switching\r\nA: 1\r\nb:2\r\na: 3\r\n\r\nrest";
        let head = Head::read(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"rest");
        assert_eq!(head.status().unwrap(), 101);
        assert_eq!(head.header("B"), Some("2"));
        assert_eq!(head.header("a"), None, "twice is not once");
        assert_eq!(head.headers_named("a"), ["1", "3"]);
    }

    /// The example of RFC 6455, section 1.3.
    #[test]
    fn the_accept_key_is_the_standards_own() {
        assert_eq!(
            accept_key("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
