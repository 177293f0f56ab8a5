//! What a client reads from a service after its upgrade request.

use httparse::{EMPTY_HEADER, Response, Status};

use super::head::{Fields, find_end};
use super::{
    CREDIT_HEADER, CREDIT_VERSION, HandshakeError, HeadError, accept_key, encode_key, name,
};
use crate::escape::escape_bytes;
use crate::limits::{
    MAX_CHUNKED_BODY_SIZE, MAX_HEADER_FIELDS, MAX_REFUSAL_BODY_SIZE, MAX_RESPONSE_HEAD_SIZE,
};

/// A service's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpgradeResponse {
    /// The WebSocket is open; what follows are frames.
    Accepted {
        /// The service's name for this session, escaped; for support.
        channel_id: Option<String>,
        /// What the service chose, escaped. Not checked against what was offered: the reference takes
        /// any, and the dialect does not depend on it (wire specification, sections 1.4 and 1.5).
        subprotocol: String,
        /// The service carries [`Credit`](crate::message::Credit).
        carries_credit: bool,
    },
    /// Any other status.
    Refused(Refusal),
}

/// A refused upgrade. Every text is escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status; anything but 101.
    pub status: u16,
    /// The phrase next to it.
    pub reason: String,
    /// The start of the body, trimmed: normally one sentence that says why.
    pub body: String,
    /// The `X-Status-Reason` header, which some services add.
    pub status_reason: Option<String>,
    /// The service's name for this attempt, for support.
    pub channel_id: Option<String>,
}

impl Refusal {
    /// Whether the same request may succeed later: 5xx only (section 1.6).
    pub const fn is_retryable(&self) -> bool {
        matches!(self.status, 500..=599)
    }

    /// The most telling of the texts that came: the body, else the header, else the phrase.
    pub fn text(&self) -> &str {
        let header = self.status_reason.as_deref().unwrap_or_default();
        [&self.body, header, &self.reason]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    }
}

/// Reads the answer to an upgrade request from everything received so far, and gives its size.
///
/// `key` is the request's. `Ok(None)` means "need more bytes"; when there will be none, call
/// [`finish_at_eof`]. Of a refusal's body only the first kibibyte is waited for and kept; the rest need
/// not be read, the connection is of no more use.
pub fn parse_upgrade_response(
    bytes: &[u8],
    key: &[u8; 16],
) -> Result<Option<(UpgradeResponse, usize)>, HandshakeError> {
    parse(bytes, key, false)
}

/// Reads the answer when the service has closed its side: a body may end here, a head may not.
pub fn finish_at_eof(bytes: &[u8], key: &[u8; 16]) -> Result<UpgradeResponse, HandshakeError> {
    match parse(bytes, key, true)? {
        Some((response, _)) => Ok(response),
        None => Err(HandshakeError::Closed {
            received: bytes.len(),
        }),
    }
}

fn parse(
    bytes: &[u8],
    key: &[u8; 16],
    at_eof: bool,
) -> Result<Option<(UpgradeResponse, usize)>, HandshakeError> {
    let mut start = 0;
    loop {
        let Some(end) = find_end(bytes, start, MAX_RESPONSE_HEAD_SIZE)? else {
            return Ok(None);
        };
        let mut fields = [EMPTY_HEADER; MAX_HEADER_FIELDS];
        let head = parse_head(&bytes[start..end], &mut fields)?;
        start = end;
        match head.code {
            Some(101) => {
                let accepted = parse_accepted(Fields(head.headers), key)?;
                return Ok(Some((accepted, start)));
            }
            // RFC 9110 §15.2: other interim answers come before the real one, and mean nothing here.
            Some(100..200) => {}
            _ => {
                let Some(body) = Body::read(&head, &bytes[start..], at_eof) else {
                    return Ok(None);
                };
                return Ok(Some((refused(&head, &body.kept), start + body.size)));
            }
        }
    }
}

/// Parses a whole head: up to and with its empty line.
pub(super) fn parse_head<'h, 'b>(
    bytes: &'b [u8],
    fields: &'h mut [httparse::Header<'b>],
) -> Result<Response<'h, 'b>, HeadError> {
    let mut head = Response::new(fields);
    match head.parse(bytes)? {
        Status::Complete(end) if end == bytes.len() => Ok(head),
        Status::Complete(_) | Status::Partial => Err(HeadError::Malformed("no status line")),
    }
}

/// RFC 6455 §4.1, the numbered list for clients, and the subprotocol that this protocol requires.
fn parse_accepted(
    fields: Fields<'_, '_>,
    key: &[u8; 16],
) -> Result<UpgradeResponse, HandshakeError> {
    let require = |holds: bool, header| match holds {
        true => Ok(()),
        false => Err(HandshakeError::NotUpgraded { header }),
    };
    require(fields.has_token(name::UPGRADE, "websocket"), "Upgrade")?;
    require(fields.has_token(name::CONNECTION, "upgrade"), "Connection")?;
    let expected = accept_key(&encode_key(key));
    let accept = fields.only(name::WEBSOCKET_ACCEPT);
    require(accept == Some(expected.as_bytes()), "Sec-WebSocket-Accept")?;
    if fields.elements(name::WEBSOCKET_EXTENSIONS).next().is_some() {
        return Err(HandshakeError::UnexpectedExtension);
    }
    if !fields.has(name::WEBSOCKET_PROTOCOL) {
        return Err(HandshakeError::MissingSubprotocol);
    }
    let subprotocol = fields.only(name::WEBSOCKET_PROTOCOL);
    require(
        subprotocol.is_some_and(|name| !name.is_empty()),
        "Sec-WebSocket-Protocol",
    )?;
    Ok(UpgradeResponse::Accepted {
        channel_id: first_text(fields, name::CHANNEL_ID),
        subprotocol: escape_bytes(subprotocol.unwrap_or_default()),
        carries_credit: fields.only(CREDIT_HEADER) == Some(CREDIT_VERSION.as_bytes()),
    })
}

fn refused(head: &Response<'_, '_>, body: &[u8]) -> UpgradeResponse {
    let fields = Fields(head.headers);
    let mut body = escape_bytes(body.trim_ascii());
    // Escaping makes it longer; the promise is about what is handed on.
    body.truncate(body.floor_char_boundary(MAX_REFUSAL_BODY_SIZE));
    UpgradeResponse::Refused(Refusal {
        status: head.code.unwrap_or_default(),
        reason: escape_bytes(head.reason.unwrap_or_default().as_bytes()),
        body,
        status_reason: first_text(fields, name::STATUS_REASON),
        channel_id: first_text(fields, name::CHANNEL_ID),
    })
}

fn first_text(fields: Fields<'_, '_>, name: &str) -> Option<String> {
    fields.all(name).next().map(escape_bytes)
}

/// As much of a refusal's body as we want.
#[derive(Default)]
struct Body {
    kept: Vec<u8>,
    /// Bytes of the input that were used.
    size: usize,
}

impl Body {
    /// `None`: more is to come, and wanted.
    ///
    /// RFC 9112 §6.3: some answers have no body; a transfer coding overrides a length; without either,
    /// the body ends with the connection.
    fn read(head: &Response<'_, '_>, bytes: &[u8], at_eof: bool) -> Option<Self> {
        let fields = Fields(head.headers);
        if matches!(head.code, Some(204 | 304)) {
            return Some(Self::default());
        }
        if fields.has_token(name::TRANSFER_ENCODING, "chunked") {
            return Self::unchunk(bytes, at_eof);
        }
        let size = fields
            .only(name::CONTENT_LENGTH)
            .and_then(|size| str::from_utf8(size).ok()?.parse().ok())
            .unwrap_or(usize::MAX);
        let wanted = size.min(MAX_REFUSAL_BODY_SIZE);
        let there = bytes.len().min(wanted);
        (there == wanted || at_eof).then(|| Self {
            kept: bytes[..there].to_vec(),
            size: there,
        })
    }

    /// Chunks: a size in hex, CRLF, that many bytes, CRLF; a size of 0 ends them (RFC 9112 §7.1).
    /// Trailers are not waited for. What is not in order ends the body: it is for reading only.
    fn unchunk(bytes: &[u8], at_eof: bool) -> Option<Self> {
        let bytes = &bytes[..bytes.len().min(MAX_CHUNKED_BODY_SIZE)];
        // Nothing more comes, or nothing more is looked at.
        let starved = at_eof || bytes.len() == MAX_CHUNKED_BODY_SIZE;
        let mut body = Self::default();
        loop {
            let rest = &bytes[body.size..];
            let (line_size, chunk_size) = match httparse::parse_chunk_size(rest) {
                Ok(Status::Complete(chunk)) => chunk,
                Ok(Status::Partial) => return starved.then_some(body),
                Err(_) => return Some(body),
            };
            if chunk_size == 0 {
                body.size += line_size;
                return Some(body);
            }
            let room = MAX_REFUSAL_BODY_SIZE - body.kept.len();
            let wanted = usize::try_from(chunk_size).unwrap_or(usize::MAX).min(room);
            let data = &rest[line_size..];
            if data.len() < wanted && !starved {
                return None;
            }
            let there = data.len().min(wanted);
            body.kept.extend_from_slice(&data[..there]);
            body.size += line_size + there;
            if there == room {
                return Some(body);
            }
            match bytes[body.size..] {
                [b'\r', b'\n', ..] => body.size += 2,
                [] | [b'\r'] if !starved => return None,
                _ => return Some(body),
            }
        }
    }
}

/// Reads an answer from any bytes; what is handed on must be bounded and escaped.
pub fn fuzz_upgrade_response(bytes: &[u8]) {
    let key = b"the sample nonce";
    let whole = parse_upgrade_response(bytes, key);
    if let Ok(Some((response, size))) = &whole {
        assert!(*size <= bytes.len());
        if let UpgradeResponse::Refused(refusal) = response {
            assert!(refusal.status != 101);
            assert!(refusal.body.len() <= MAX_REFUSAL_BODY_SIZE);
            assert!(!refusal.text().contains(char::is_control));
        }
        assert_eq!(finish_at_eof(bytes, key).as_ref(), Ok(response));
    }
    if let Err(error) = whole {
        assert_eq!(finish_at_eof(bytes, key), Err(error));
    }
}

#[cfg(test)]
mod tests;
