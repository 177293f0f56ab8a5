//! AWS's secure tunnelling API: AWS JSON 1.1 over HTTP/1.1 (control-plane specification, sections 1, 3
//! and 4).
//!
//! A request is routed by its `X-Amz-Target`, whatever its path. Every answer is JSON, errors of the
//! transport included, because clients cannot read anything else.
//!
//! Requests are not signed yet. So this is only ever mounted on loopback (see
//! [`ApiSettings`](crate::settings::ApiSettings)), and answers only requests that name it.

mod constraints;
mod error;
mod host;
mod input;
mod naming;
mod operations;
mod output;
mod page_token;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::debug;
use uuid::Uuid;

use crate::control::ControlPlane;
use crate::store::Store;
use error::ApiError;
use operations::{Answer, Operation};

pub use naming::{InvalidNaming, Naming};

/// The API over a control plane.
pub(crate) struct Api<S> {
    control: Arc<ControlPlane<S>>,
    naming: Naming,
    /// For a whole body to arrive.
    body_timeout: Duration,
}

impl<S: Store> Api<S> {
    pub(crate) fn new(
        control: Arc<ControlPlane<S>>,
        naming: Naming,
        body_timeout: Duration,
    ) -> Self {
        Self {
            control,
            naming,
            body_timeout,
        }
    }

    /// Everything that the API's listener serves.
    pub(crate) fn router(self) -> Router {
        Router::new()
            .fallback(Self::handle)
            .with_state(Arc::new(self))
    }

    async fn handle(State(api): State<Arc<Self>>, request: Request<Body>) -> Response<Body> {
        let request_id = Uuid::new_v4();
        let answer = api.answer(request).await;
        if let Err(error) = &answer {
            debug!(%request_id, status = error.status.as_u16(), code = error.code, "API call refused");
        }
        response(answer, request_id)
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (head, body) = request.into_parts();
        host::check(&head.uri, &head.headers)?;
        if head.method != Method::POST {
            return Err(ApiError::method_not_allowed());
        }
        let mut targets = head.headers.get_all(X_AMZ_TARGET).iter();
        let target = targets.next().and_then(|target| target.to_str().ok());
        let operation = target
            .filter(|_| targets.next().is_none())
            .and_then(Operation::parse)
            .ok_or_else(|| {
                let text = "the X-Amz-Target header names no operation of IoTSecuredTunneling";
                ApiError::unknown_operation(text)
            })?;
        let body = tokio::time::timeout(self.body_timeout, read_body(body)).await;
        let body = body.map_err(|_| ApiError::too_slow())??;
        debug!(?operation, "API call");
        self.run(operation, &parse_body(&body)?).await
    }
}

/// The whole body. Of one that is too large, the rest is read and thrown away (within a bound): a client
/// that is still sending would see its connection reset instead of the answer.
async fn read_body(mut body: Body) -> Result<Vec<u8>, ApiError> {
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
    Ok(bytes)
}

fn parse_body(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    // Positions and reasons, never the text itself: it may hold a token.
    let invalid = |error: serde_json::Error| {
        let (line, column) = (error.line(), error.column());
        let text =
            format!("the request's body is not a JSON object (line {line}, column {column})");
        ApiError::serialization(text)
    };
    serde_json::from_slice(body).map_err(invalid)
}

fn response(answer: Answer, request_id: Uuid) -> Response<Body> {
    #[derive(Serialize)]
    struct ErrorBody<'a> {
        #[serde(rename = "__type")]
        code: &'a str,
        message: &'a str,
    }
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => {
            let body = ErrorBody {
                code: error.code,
                message: &error.message,
            };
            let body = serde_json::to_vec(&body).expect("two texts become JSON");
            (error.status, body)
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-amz-json-1.1"),
    );
    // Some answers hold tokens.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let request_id = request_id.to_string().parse();
    headers.insert(
        X_AMZN_REQUEST_ID,
        request_id.expect("a UUID is a header value"),
    );
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    if matches!(
        status,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT
    ) {
        // The rest of the body is not read, so nothing can follow it.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

const X_AMZ_TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const X_AMZN_REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// The longest description, 50 tags of full length and 128 services come to 45 KiB in ASCII.
const MAX_BODY_SIZE: usize = 64 * 1024;
const MAX_DISCARDED_SIZE: usize = 1024 * 1024;

#[cfg(test)]
mod tests;
