//! Words for what is refused before anybody here has seen it.
//!
//! A head that cannot be read, of another protocol, too large, or with two lengths, never becomes a request:
//! hyper answers it with a status and nothing else, and lets nobody change that. So its answer is exchanged on
//! the way out. It is known by what it lacks, a request id, which every answer of the API has; and it is the last
//! one of its connection, so that it stands at the end of what is written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::http::{HeaderValue, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;
use uuid::Uuid;

use super::MAX_HEAD_SIZE;
use crate::api::error::ApiError;
use crate::api::outcome::{Protocol, X_AMZN_ERROR_TYPE, X_AMZN_REQUEST_ID};

/// A connection whose bare refusals get a body and a request id.
pub(super) struct Worded<IO> {
    io: IO,
    /// What goes out in place of a bare refusal, with what was to go out before it.
    /// `written <= exchanged.len()`; empty as long as none was met.
    exchanged: Vec<u8>,
    written: usize,
}

impl<IO> Worded<IO> {
    pub(super) fn new(io: IO) -> Self {
        let (exchanged, written) = (Vec::new(), 0);
        Self {
            io,
            exchanged,
            written,
        }
    }
}

impl<IO: AsyncWrite + Unpin> Worded<IO> {
    fn poll_exchanged(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.exchanged.get(self.written..) {
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                size => self.written += size,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Worded<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

/// Not vectored, so that hyper puts an answer into one buffer.
impl<IO: AsyncWrite + Unpin> AsyncWrite for Worded<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_exchanged(cx))?;
        match bare_refusal(bytes) {
            None => Pin::new(&mut self.io).poll_write(cx, bytes),
            Some((before, head)) => {
                self.exchanged = [before, &in_words(head)].concat();
                self.written = 0;
                Poll::Ready(Ok(bytes.len()))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_exchanged(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_exchanged(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The refusal at the end of these bytes that none of us has written, and what stands before it.
///
/// Nothing of ours looks like it: no body of ours has a bare carriage return, and each head has an id.
fn bare_refusal(bytes: &[u8]) -> Option<(&[u8], &str)> {
    if !bytes.ends_with(END_OF_HEAD) {
        return None;
    }
    let start = bytes.windows(VERSION.len()).rposition(|w| w == VERSION)?;
    let (before, head) = bytes.split_at(start);
    let head = str::from_utf8(head).ok()?;
    let is_refusal = head.get(VERSION.len() + 1..)?.starts_with(" 4");
    let has_id = head
        .to_ascii_lowercase()
        .contains(X_AMZN_REQUEST_ID.as_str());
    (is_refusal && !has_id).then_some((before, head))
}

/// The same refusal as the API words its own.
fn in_words(head: &str) -> Vec<u8> {
    let request_id = Uuid::new_v4();
    let mut lines = head.trim_end().split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.get(9..12).and_then(|code| code.parse().ok());
    let error = refusal(status.unwrap_or(StatusCode::BAD_REQUEST));
    let code = HeaderValue::from_static(error.code);
    debug!(%request_id, status = error.status.as_u16(), "the head of an API call cannot be read");
    let mut outcome = Protocol::Json.outcome(Err(error), request_id);
    // Which protocol it would have been is not known: here those look for the code that have no `__type`.
    outcome.headers.insert(X_AMZN_ERROR_TYPE, code);
    let mut answer = Vec::with_capacity(1024);
    let kept = lines.filter(|line| !line.starts_with("content-length:"));
    for line in [status_line].into_iter().chain(kept) {
        answer.extend_from_slice(line.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    for (name, value) in &outcome.headers {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    let size = outcome.body.len();
    answer.extend_from_slice(format!("content-length: {size}\r\n\r\n").as_bytes());
    answer.extend_from_slice(&outcome.body);
    answer
}

fn refusal(status: StatusCode) -> ApiError {
    match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => ApiError::new(
            status,
            "RequestEntityTooLargeException",
            format!(
                "the request's head is larger than {MAX_HEAD_SIZE} bytes, or has over 100 fields"
            ),
        ),
        status => ApiError::new(
            status,
            "SerializationException",
            "the request's head is not one of HTTP/1.1",
        ),
    }
}

const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const VERSION: &[u8] = b"HTTP/1.";

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    const OURS: &str = "HTTP/1.1 200 OK\r\nx-amzn-requestid: 1\r\ncontent-length: 2\r\n\r\n{}";
    const BARE: &str = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
                        content-length: 0\r\ndate: Sun, 29 Nov 2026 10:00:00 GMT\r\n\r\n";

    /// What comes out when this is written, through a pipe that takes a few bytes at a time.
    async fn written(parts: &[&str]) -> String {
        let (near, mut far) = tokio::io::duplex(7);
        let parts: Vec<_> = parts.iter().map(|part| (*part).to_owned()).collect();
        let writing = tokio::spawn(async move {
            let mut near = Worded::new(near);
            for part in parts {
                near.write_all(part.as_bytes()).await.unwrap();
            }
            near.shutdown().await.unwrap();
        });
        let mut text = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut far, &mut text)
            .await
            .unwrap();
        writing.await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_bare_refusal_gets_a_body_and_an_id_wherever_it_stands() {
        let both = format!("{OURS}{BARE}");
        for parts in [vec![BARE], vec![OURS, BARE], vec![&both], vec![&both[30..]]] {
            let text = written(&parts).await;
            let all = parts.concat();
            let start = text.find("HTTP/1.1 431").unwrap();
            assert_eq!(text[..start], all[..all.find("HTTP/1.1 431").unwrap()]);
            let (head, body) = text[start..].split_once("\r\n\r\n").unwrap();
            let body_size = format!("\r\ncontent-length: {}", body.len());
            assert!(
                head.ends_with(&body_size) && !head.contains("length: 0"),
                "{head}"
            );
            for line in [
                "connection: close",
                "date: Sun, 29 Nov 2026 10:00:00 GMT",
                "x-amzn-errortype: RequestEntityTooLargeException",
                "x-amzn-requestid: ",
            ] {
                assert!(head.contains(&format!("\r\n{line}")), "{line}: {head}");
            }
            assert!(
                body.starts_with(r#"{"__type":"RequestEntityTooLargeException","#),
                "{body}"
            );
        }
    }

    #[tokio::test]
    async fn answers_that_have_an_id_and_continues_are_left_alone() {
        for parts in [
            vec![OURS],
            vec!["HTTP/1.1 100 Continue\r\n\r\n", OURS],
            // To a HEAD.
            vec![
                "HTTP/1.1 405 Method Not Allowed\r\nX-Amzn-RequestId: 1\r\ncontent-length: 9\r\n\r\n",
            ],
            vec![
                "HTTP/1.1 400 Bad Request\r\nx-amzn-requestid: 1\r\n\r\n",
                "{\"a\":1}",
            ],
        ] {
            assert_eq!(written(&parts).await, parts.concat());
        }
    }
}
