//! What a service reads from a client that wants to open the WebSocket.

use httparse::{EMPTY_HEADER, Request, Status};

use super::accept_key::is_key;
use super::head::{Fields, find_end};
use super::{HeadError, MODE_PARAMETER, PATH, RequestError, TOKEN_COOKIE, name};
use crate::escape::escape_bytes;
use crate::ids::{Mode, Subprotocol};
use crate::limits::{MAX_HEADER_FIELDS, MAX_REQUEST_HEAD_SIZE};
use crate::secret::{AccessToken, ClientToken};

/// An upgrade request that is in order. Whether its tokens are good, others must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRequest {
    /// Which end of the tunnel the client says it is.
    pub mode: Mode,
    /// The one access token, from the header or the cookie.
    pub access_token: AccessToken,
    /// The client token that goes with it.
    pub client_token: Option<ClientToken>,
    /// The subprotocols that we know, in the client's order, each once. Never empty.
    pub offered: Vec<Subprotocol>,
    /// `Sec-WebSocket-Key` as it was sent: what [`super::encode_accept`] needs.
    pub key: String,
    /// The client's name for itself, escaped.
    pub user_agent: Option<String>,
}

/// Reads an upgrade request from everything received so far, and gives its size.
///
/// `Ok(None)` means "need more bytes"; past 4,096 bytes the request is refused instead. All rules of
/// the wire specification's section 1.3 that need no token store, and those of RFC 6455 §4.2.1.
pub fn parse_upgrade_request(bytes: &[u8]) -> Result<Option<(ServerRequest, usize)>, RequestError> {
    let Some(size) = find_end(bytes, 0, MAX_REQUEST_HEAD_SIZE)? else {
        return Ok(None);
    };
    let mut fields = [EMPTY_HEADER; MAX_HEADER_FIELDS];
    let mut request = Request::new(&mut fields);
    match request.parse(&bytes[..size]).map_err(HeadError::from)? {
        Status::Complete(end) if end == size => {}
        Status::Complete(_) | Status::Partial => {
            return Err(HeadError::Malformed("no request line").into());
        }
    }
    check_request_line(&request)?;
    let mode = parse_mode(request.path.unwrap_or_default())?;
    let fields = Fields(request.headers);
    check_http(fields)?;
    let key = parse_websocket(fields)?;
    let request = ServerRequest {
        mode,
        offered: parse_offer(fields)?,
        access_token: parse_access_token(fields)?,
        client_token: parse_client_token(fields)?,
        key,
        user_agent: fields.all(name::USER_AGENT).next().map(escape_bytes),
    };
    Ok(Some((request, size)))
}

fn check_request_line(request: &Request<'_, '_>) -> Result<(), RequestError> {
    if request.method != Some("GET") {
        return Err(RequestError::Method);
    }
    if request.version != Some(1) {
        return Err(RequestError::HttpVersion);
    }
    Ok(())
}

/// The path must be `/tunnel`, and of the query's parameters the mode must be there once. Others are
/// left to the future.
fn parse_mode(target: &str) -> Result<Mode, RequestError> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path != PATH {
        return Err(RequestError::Path);
    }
    let mut modes = query.split('&').filter_map(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (name == MODE_PARAMETER).then_some(value)
    });
    match (modes.next(), modes.next()) {
        (Some(mode), None) => Ok(mode.parse()?),
        _ => Err(RequestError::Mode),
    }
}

fn check_http(fields: Fields<'_, '_>) -> Result<(), RequestError> {
    if fields.only(name::HOST).is_none() {
        return Err(RequestError::Host);
    }
    // Bytes behind the head would be read as frames by us and as a body by a proxy before us.
    if fields.has(name::TRANSFER_ENCODING)
        || fields.all(name::CONTENT_LENGTH).any(|size| size != b"0")
    {
        return Err(RequestError::Body);
    }
    Ok(())
}

/// The rules of RFC 6455 §4.2.1; gives the key.
fn parse_websocket(fields: Fields<'_, '_>) -> Result<String, RequestError> {
    if !fields.has_token(name::UPGRADE, "websocket")
        || !fields.has_token(name::CONNECTION, "upgrade")
    {
        return Err(RequestError::Upgrade);
    }
    if fields.only(name::WEBSOCKET_VERSION) != Some(b"13") {
        return Err(RequestError::WebSocketVersion);
    }
    fields
        .only(name::WEBSOCKET_KEY)
        .filter(|key| is_key(key))
        .and_then(|key| String::from_utf8(key.to_vec()).ok())
        .ok_or(RequestError::WebSocketKey)
}

fn parse_offer(fields: Fields<'_, '_>) -> Result<Vec<Subprotocol>, RequestError> {
    let mut offered = Vec::with_capacity(Subprotocol::ALL.len());
    for element in fields.elements(name::WEBSOCKET_PROTOCOL) {
        let known = str::from_utf8(element).ok().and_then(Subprotocol::parse);
        if let Some(known) = known
            && !offered.contains(&known)
        {
            offered.push(known);
        }
    }
    if offered.is_empty() {
        return Err(RequestError::Subprotocol);
    }
    Ok(offered)
}

/// Exactly one access token, headers and cookies counted together.
fn parse_access_token(fields: Fields<'_, '_>) -> Result<AccessToken, RequestError> {
    let mut tokens = fields
        .all(name::ACCESS_TOKEN)
        .chain(fields.all(name::COOKIE).flat_map(token_cookies));
    let token = tokens.next().ok_or(RequestError::AccessTokenMissing)?;
    if tokens.next().is_some() {
        return Err(RequestError::AccessTokenRepeated);
    }
    AccessToken::new(text(token)).map_err(RequestError::AccessToken)
}

/// Values of our cookie in one `Cookie` header: `name=value; name=value` (RFC 6265 §4.2.1).
fn token_cookies(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    header.split(|byte| *byte == b';').filter_map(|pair| {
        pair.trim_ascii()
            .strip_prefix(TOKEN_COOKIE.as_bytes())?
            .strip_prefix(b"=")
    })
}

fn parse_client_token(fields: Fields<'_, '_>) -> Result<Option<ClientToken>, RequestError> {
    let mut tokens = fields.all(name::CLIENT_TOKEN);
    let Some(token) = tokens.next() else {
        return Ok(None);
    };
    if tokens.next().is_some() {
        return Err(RequestError::ClientTokenRepeated);
    }
    ClientToken::strict(text(token))
        .map(Some)
        .map_err(RequestError::ClientToken)
}

/// A header's value as text. What is not UTF-8 gets characters that no token may have.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// Reads an upgrade request from any bytes; what is accepted must be sound.
pub fn fuzz_upgrade_request(bytes: &[u8]) {
    let whole = parse_upgrade_request(bytes);
    if let Ok(Some((request, size))) = &whole {
        assert!(*size <= bytes.len() && *size <= MAX_REQUEST_HEAD_SIZE);
        assert!(!request.offered.is_empty() && request.offered.len() <= Subprotocol::ALL.len());
        assert!(is_key(request.key.as_bytes()));
        assert_eq!(parse_upgrade_request(&bytes[..*size]), whole);
        assert_eq!(parse_upgrade_request(&bytes[..*size - 1]), Ok(None));
    }
    if let Err(error) = whole {
        assert!((400..500).contains(&error.status()));
        assert!(!error.to_string().contains(char::is_control));
    }
}

#[cfg(test)]
mod tests;
