//! One request to the API, its caller known: what every operation is given.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Mutex;

use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::error::ApiError;
use super::target::Target;
use crate::access::Caller;
use crate::access::policy::Conditions;

/// A request, read as a whole, with a caller whose signature was good.
///
/// Its `Debug` shows neither headers nor body: both may hold secrets.
pub(crate) struct Call {
    /// Also in the answer's `x-amzn-RequestId` and in the audit.
    pub(crate) request_id: Uuid,
    /// The client's address.
    pub(crate) source: SocketAddr,
    /// Who calls.
    pub(crate) caller: Caller,
    pub(crate) method: Method,
    /// Path and query, decoded.
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    /// At most 320 KiB.
    pub(crate) body: Bytes,
    pub(super) trail: Mutex<Trail>,
}

/// What a call turned out to be about, for the audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trail {
    /// Like `iot:OpenTunnel`; empty when the call never got so far.
    pub(crate) action: String,
    /// ARNs.
    pub(crate) resources: Vec<String>,
}

impl Call {
    /// Whether the caller may do this to all of these resources, in these circumstances. To be asked
    /// after the input is parsed and before anything happens; the audit learns it either way.
    ///
    /// What is known about every request is added to the conditions: `aws:SecureTransport`,
    /// `aws:SourceIp`, `aws:username`.
    ///
    /// # Errors
    /// `AccessDeniedException` with user, action and resource.
    pub(crate) fn authorize(
        &self,
        action: &str,
        resources: &[String],
        conditions: &Conditions,
    ) -> Result<(), ApiError> {
        self.note(action, resources);
        let conditions = conditions
            .clone()
            .with("aws:SecureTransport", "true")
            .with("aws:SourceIp", self.source.ip().to_canonical().to_string())
            .with("aws:username", &*self.caller.user);
        let policy = &self.caller.policy;
        let allowed = |resource: &&String| policy.allows(action, resource, &conditions);
        match resources.iter().find(|resource| !allowed(resource)) {
            None => Ok(()),
            Some(resource) => Err(ApiError::access_denied(format!(
                "user {} is not authorized to perform {action} on resource {resource}",
                self.caller.user
            ))),
        }
    }

    /// Tells the audit what the call is about, where nobody has to be asked.
    pub(crate) fn note(&self, action: &str, resources: &[String]) {
        let mut trail = self.trail.lock().expect("nobody panics holding it");
        action.clone_into(&mut trail.action);
        trail.resources = resources.to_vec();
    }

    /// Tells the audit of one more resource, like one that the call has made.
    pub(crate) fn note_resource(&self, resource: String) {
        let mut trail = self.trail.lock().expect("nobody panics holding it");
        if !trail.resources.contains(&resource) {
            trail.resources.push(resource);
        }
    }

    /// A header that is there exactly once, as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        values.next().is_none().then(|| value.to_str().ok())?
    }

    /// The body, which has to be one JSON object; nothing counts as an empty one.
    ///
    /// # Errors
    /// `SerializationException`, which never repeats what was sent.
    pub(crate) fn json(&self) -> Result<Map<String, Value>, ApiError> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        // Positions and reasons, never the text itself: it may hold a token.
        let invalid = |error: serde_json::Error| {
            let (line, column) = (error.line(), error.column());
            let text =
                format!("the request's body is not a JSON object (line {line}, column {column})");
            ApiError::serialization(text)
        };
        serde_json::from_slice(&self.body).map_err(invalid)
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("request_id", &self.request_id)
            .field("source", &self.source)
            .field("caller", &self.caller)
            .field("method", &self.method)
            .field("path", &self.target.path)
            .finish_non_exhaustive()
    }
}
