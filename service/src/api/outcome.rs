//! What an operation answers, and the three ways of writing it down.

use std::pin::Pin;

use axum::body::Body;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;
use uuid::Uuid;

use super::call::Call;
use super::error::ApiError;

/// A successful answer.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: StatusCode,
    /// In addition to those that every answer has, or in their place.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Outcome {
    /// 200 with a JSON body.
    pub(crate) fn json(output: &impl Serialize) -> Self {
        let body = serde_json::to_vec(output).expect("texts and numbers become JSON");
        Self::ok(body)
    }

    /// 200 with this body, of the protocol's own type.
    pub(crate) fn ok(body: Vec<u8>) -> Self {
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body,
        }
    }
}

/// What answers calls of one protocol.
///
/// Each operation parses its input, then asks [`Call::authorize`], then acts.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one call.
    fn handle<'a>(&'a self, call: &'a Call) -> Answer<'a>;
}

/// What a [`Handler`] gives: a future in a box, because there is a handler for each protocol.
pub(crate) type Answer<'a> = Pin<Box<dyn Future<Output = Result<Outcome, ApiError>> + Send + 'a>>;

/// How a request is written, so how its answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// AWS JSON 1.1: secure tunnelling.
    Json,
    /// REST with JSON bodies: the registry.
    Rest,
    /// A form in, XML out: sts.
    Query,
}

impl Protocol {
    /// The whole response.
    pub(super) fn response(
        self,
        answer: Result<Outcome, ApiError>,
        request_id: Uuid,
    ) -> Response<Body> {
        let outcome = self.outcome(answer, request_id);
        let mut response = Response::new(Body::from(outcome.body));
        *response.status_mut() = outcome.status;
        *response.headers_mut() = outcome.headers;
        response
    }

    /// The same, with all of its headers, as bytes.
    pub(crate) fn outcome(self, answer: Result<Outcome, ApiError>, request_id: Uuid) -> Outcome {
        let mut outcome = answer.unwrap_or_else(|error| self.refusal(&error, request_id));
        let mut headers = HeaderMap::new();
        let content_type = HeaderValue::from_static(self.content_type());
        headers.insert(CONTENT_TYPE, content_type);
        // Some answers hold tokens.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let request_id = request_id.to_string().parse();
        headers.insert(
            X_AMZN_REQUEST_ID,
            request_id.expect("a UUID is a header value"),
        );
        headers.extend(std::mem::take(&mut outcome.headers));
        outcome.headers = headers;
        outcome
    }

    fn refusal(self, error: &ApiError, request_id: Uuid) -> Outcome {
        let (status, code) = match self {
            Self::Json => (error.status, error.code),
            Self::Rest => error.for_rest(),
            Self::Query => (error.status, error.for_query()),
        };
        let mut outcome = match self {
            Self::Json | Self::Rest => Outcome::json(&JsonRefusal {
                code,
                message: &error.message,
            }),
            Self::Query => Outcome::ok(xml_refusal(code, &error.message, request_id).into_bytes()),
        };
        outcome.status = status;
        if self == Self::Rest {
            let code = HeaderValue::from_static(code);
            outcome.headers.insert(X_AMZN_ERROR_TYPE, code);
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            let post = HeaderValue::from_static("POST");
            outcome.headers.insert(ALLOW, post);
        }
        if matches!(
            status,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT
        ) {
            // The rest of the body is not read, so nothing can follow it.
            let close = HeaderValue::from_static("close");
            outcome.headers.insert(CONNECTION, close);
        }
        outcome
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-amz-json-1.1",
            Self::Rest => "application/json",
            Self::Query => "text/xml",
        }
    }
}

/// botocore reads the code from the body, the JavaScript and Rust SDKs from the header too
/// (control-plane specification, section 4): so both.
#[derive(Serialize)]
struct JsonRefusal<'a> {
    #[serde(rename = "__type")]
    code: &'a str,
    message: &'a str,
}

fn xml_refusal(code: &str, message: &str, request_id: Uuid) -> String {
    format!(
        "<ErrorResponse xmlns=\"{STS_NAMESPACE}\"><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>{}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>\n",
        escape_xml(message)
    )
}

/// A text as XML content.
pub(crate) fn escape_xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            // XML 1.0 has no way to write most of them.
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Of every answer of sts.
pub(crate) const STS_NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

pub(crate) const X_AMZN_REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
pub(crate) const X_AMZN_ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
