//! Calls of the APIs: signed, tried again where that helps, answered in JSON.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adit_engine::tls::{ClientTls, client_config};
use adit_service::access::sigv4::{Moment, Signable, sign};
use adit_service::clock::Timestamp;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use rustls::ClientConfig;
use serde_json::Value;
use uuid::Uuid;

use super::answer;
use super::endpoint::{Api, Endpoint};
use super::fault::{CallFault, Failure};
use super::settings::ApiSettings;
use super::transport::{Way, exchange};
use crate::fault::BadInput;

/// Calls both APIs.
pub struct Client {
    settings: ApiSettings,
    tls: Arc<ClientConfig>,
}

/// One call, to be made up to [`ATTEMPTS`] times.
pub(crate) struct Call {
    pub(crate) api: Api,
    /// Its name in the API's documentation and in policies.
    pub(crate) operation: &'static str,
    pub(crate) method: Method,
    /// Percent-encoded, begins with a slash.
    pub(crate) path: String,
    /// Percent-encoded, without the question mark; may be empty.
    pub(crate) query: String,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Bytes,
    /// Doing it twice does no harm, so it is asked for again when an answer was lost.
    pub(crate) is_repeatable: bool,
}

impl Client {
    /// Reads the authorities that are to be trusted.
    ///
    /// # Errors
    /// They cannot be read, or there are none.
    pub fn new(settings: ApiSettings) -> Result<Self, BadInput> {
        let tls = ClientTls {
            ca_path: settings.ca.clone(),
            no_verify: false,
            ..ClientTls::default()
        };
        let tls = client_config(&tls).map_err(|fault| {
            let hint = "give a PEM file of the authority that signed the service's certificate";
            BadInput::fatal(format!("--ca-bundle: {fault}"), hint).in_file()
        })?;
        Ok(Self { settings, tls })
    }

    /// What it was made with.
    pub(crate) fn settings(&self) -> &ApiSettings {
        &self.settings
    }

    /// Calls an operation of secure tunnelling.
    pub(crate) async fn tunneling(
        &self,
        operation: &'static str,
        input: &Value,
    ) -> Result<Value, CallFault> {
        let target = format!("IoTSecuredTunneling.{operation}");
        self.call(&Call {
            api: Api::Tunneling,
            operation,
            method: Method::POST,
            path: "/".to_owned(),
            query: String::new(),
            headers: vec![
                (
                    header::CONTENT_TYPE,
                    "application/x-amz-json-1.1".to_owned(),
                ),
                (HeaderName::from_static("x-amz-target"), target),
            ],
            body: input.to_string().into(),
            // A second tunnel, or tokens that nobody got.
            is_repeatable: !matches!(operation, "OpenTunnel" | "RotateTunnelAccessToken"),
        })
        .await
    }

    /// Makes a call.
    pub(crate) async fn call(&self, call: &Call) -> Result<Value, CallFault> {
        let invocation = Uuid::new_v4();
        let mut attempt = 1;
        loop {
            let fault = match self.attempt(call, invocation, attempt).await {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            if attempt == ATTEMPTS || !fault.is_retryable(call.is_repeatable) {
                return Err(fault);
            }
            tracing::debug!(attempt, "{fault}; trying again");
            tokio::time::sleep(pause(attempt)).await;
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        call: &Call,
        invocation: Uuid,
        attempt: u32,
    ) -> Result<Value, CallFault> {
        let endpoint = match call.api {
            Api::Tunneling => &self.settings.tunneling,
            Api::Iot => &self.settings.iot,
        };
        let started = now();
        let request = self.request(call, endpoint, invocation, attempt, started);
        let request = request.ok_or_else(|| {
            let reason = "the access key has a character that cannot be sent".to_owned();
            failed(call, endpoint, reason, "copy it again")
        })?;
        let by = Way {
            tls: &self.tls,
            web_proxies: &self.settings.web_proxies,
        };
        let response = exchange(endpoint, by, call.operation, request).await;
        let response = response.map_err(|failure| CallFault::Failed(Box::new(failure)))?;
        self.read(call, endpoint, &response, started)
    }

    /// `None` where a part of the credentials cannot be in a header.
    fn request(
        &self,
        call: &Call,
        endpoint: &Endpoint,
        invocation: Uuid,
        attempt: u32,
        at: Timestamp,
    ) -> Option<Request<Full<Bytes>>> {
        let path = format!("{}{}", endpoint.path, call.path);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, endpoint.authority().parse().ok()?);
        for (name, value) in &call.headers {
            headers.insert(name, value.parse().ok()?);
        }
        // Every attempt names the call, so that a service can tell a repetition (section 4).
        let attempt = format!("attempt={attempt}; max={ATTEMPTS}");
        headers.insert(
            "amz-sdk-invocation-id",
            invocation.to_string().parse().ok()?,
        );
        headers.insert("amz-sdk-request", attempt.parse().ok()?);
        if let Some(credentials) = &self.settings.credentials {
            let signable = Signable {
                method: call.method.as_str(),
                path: &path,
                query: &call.query,
                headers: &headers,
                body: &call.body,
            };
            let (region, service) = (&self.settings.region, call.api.signing_name());
            let added = sign(signable, credentials, region, service, Moment::at(at))?;
            for (name, value) in added {
                headers.insert(name, value);
            }
        }
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let uri = match call.query.as_str() {
            "" => path,
            query => format!("{path}?{query}"),
        };
        let mut request = Request::builder().method(&call.method).uri(uri);
        *request.headers_mut()? = headers;
        request.body(Full::from(call.body.clone())).ok()
    }

    fn read(
        &self,
        call: &Call,
        endpoint: &Endpoint,
        response: &Response<Bytes>,
        started: Timestamp,
    ) -> Result<Value, CallFault> {
        if !response.status().is_success() {
            let mut refusal = answer::refusal(call.operation, response, started);
            let credentials = self.settings.credentials.as_ref();
            refusal.access_key_id = credentials.map(|key| key.access_key_id.clone());
            refusal.region.clone_from(&self.settings.region);
            return Err(CallFault::Refused(Box::new(refusal)));
        }
        if response.body().is_empty() {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        serde_json::from_slice(response.body()).map_err(|_| {
            // The body is not repeated: it may hold tokens.
            let reason = format!("{} and no JSON", response.status());
            let hint = "is --endpoint the URL of the API?";
            failed(call, endpoint, reason, hint)
        })
    }
}

fn failed(call: &Call, endpoint: &Endpoint, reason: String, hint: &str) -> CallFault {
    CallFault::Failed(Box::new(Failure {
        operation: call.operation,
        endpoint: endpoint.to_string(),
        reason,
        hint: hint.to_owned(),
        was_sent: true,
        is_passing: false,
    }))
}

/// Percent-encodes one segment of a path, or one value of a query.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A random time below a bound that doubles: 1 s, 2 s.
fn pause(attempt: u32) -> Duration {
    let bound = PAUSE * 2_u32.saturating_pow(attempt - 1);
    let mut bytes = [0; 4];
    // Without randomness the pause is the longest, which is safe.
    if getrandom::fill(&mut bytes).is_err() {
        return bound;
    }
    bound.mul_f64(f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX))
}

/// As the SDKs have it.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

const USER_AGENT: &str = concat!("adit/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests;
