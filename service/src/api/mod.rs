//! The API's front: from a request to an operation, and back (control-plane specification, sections
//! 1 to 4 and 14.4).
//!
//! ```text
//! request ─► head, body, caller (Call) ─► X-Amz-Target ─► tunnelling
//!                                     ├─► POST, a form  ─► sts
//!                                     └─► any other path ─► registry
//! ```
//!
//! Every answer is in the protocol of its request, errors of the transport included, because clients
//! cannot read anything else.
//!
//! Where requests are not signed, this is only ever mounted on loopback (see
//! [`ApiSettings`](crate::settings::ApiSettings)), and answers only requests that name it.

pub(crate) mod call;
pub(crate) mod constraints;
pub(crate) mod error;
mod host;
pub(crate) mod input;
pub(crate) mod naming;
mod operations;
pub(crate) mod outcome;
mod output;
mod page_token;
pub(crate) mod target;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request, Response, Uri};
use axum::{Extension, Router};
use bytes::Bytes;
use http_body_util::BodyExt;
use tracing::debug;
use uuid::Uuid;

use crate::access::Caller;
use call::{Call, Trail};
use error::ApiError;
use outcome::{Handler, Outcome, Protocol};
use target::Target;

pub use naming::{InvalidNaming, Naming};
pub(crate) use operations::Tunnelling;

/// The front, with what answers behind it.
pub(crate) struct Api {
    pub(crate) tunnelling: Box<dyn Handler>,
    pub(crate) registry: Box<dyn Handler>,
    pub(crate) sts: Box<dyn Handler>,
    /// For a whole body to arrive.
    pub(crate) body_timeout: Duration,
}

/// The client's address, put into each request by the listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Api {
    /// Everything that the API's listener serves.
    pub(crate) fn router(self) -> Router {
        Router::new()
            .fallback(Self::receive)
            .with_state(Arc::new(self))
    }

    async fn receive(
        State(api): State<Arc<Self>>,
        Extension(Peer(source)): Extension<Peer>,
        request: Request<Body>,
    ) -> Response<Body> {
        let request_id = Uuid::new_v4();
        let (head, body) = request.into_parts();
        let protocol = protocol(&head.method, &head.uri, &head.headers);
        let answer = match api.call(request_id, source, head, body).await {
            Ok(call) => api.answer(protocol, &call).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &answer {
            debug!(%request_id, status = error.status.as_u16(), code = error.code, "API call refused");
        }
        protocol.response(answer, request_id)
    }

    /// Reads the request and finds out who sent it.
    async fn call(
        &self,
        request_id: Uuid,
        source: SocketAddr,
        head: Parts,
        body: Body,
    ) -> Result<Call, ApiError> {
        host::check(&head.uri, &head.headers)?;
        let target = Target::parse(&head.uri);
        let target = target.ok_or_else(|| ApiError::validation("the path is not UTF-8"))?;
        let body = tokio::time::timeout(self.body_timeout, read_body(body)).await;
        let body = body.map_err(|_| ApiError::too_slow())??;
        Ok(Call {
            request_id,
            source,
            caller: Caller::anonymous(),
            method: head.method,
            target,
            headers: head.headers,
            body,
            trail: Mutex::new(Trail::default()),
        })
    }

    async fn answer(&self, protocol: Protocol, call: &Call) -> Result<Outcome, ApiError> {
        let handler = match protocol {
            Protocol::Json => &self.tunnelling,
            Protocol::Rest => &self.registry,
            Protocol::Query => &self.sts,
        };
        handler.handle(call).await
    }
}

/// A path says nothing about calls that have a target: clients put paths of their own in front
/// (specification, section 1).
fn protocol(method: &Method, uri: &Uri, headers: &HeaderMap) -> Protocol {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
    let is_form = content_type
        .get(..FORM.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(FORM));
    if headers.contains_key("x-amz-target") {
        Protocol::Json
    } else if method == Method::POST && is_form {
        Protocol::Query
    } else if uri.path().trim_matches('/').is_empty() {
        Protocol::Json
    } else {
        Protocol::Rest
    }
}

/// The whole body. Of one that is too large, the rest is read and thrown away (within a bound): a client
/// that is still sending would see its connection reset instead of the answer.
async fn read_body(mut body: Body) -> Result<Bytes, ApiError> {
    let mut bytes = Vec::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let cut_off = |_| ApiError::serialization("the request's body was cut off");
        let Ok(data) = frame.map_err(cut_off)?.into_data() else {
            continue;
        };
        size += data.len();
        if size <= MAX_BODY_SIZE {
            bytes.extend_from_slice(&data);
        } else if size > MAX_DISCARDED_SIZE {
            break;
        }
    }
    if size > MAX_BODY_SIZE {
        return Err(ApiError::too_large(MAX_BODY_SIZE));
    }
    Ok(bytes.into())
}

const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// The longest description, 50 tags of full length and 128 services come to 45 KiB in ASCII.
const MAX_BODY_SIZE: usize = 64 * 1024;
const MAX_DISCARDED_SIZE: usize = 1024 * 1024;

#[cfg(test)]
mod tests;
