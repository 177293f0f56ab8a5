//! The API's front: from a request to an operation, and back (control-plane specification, sections
//! 1 to 4 and 14.4).
//!
//! ```text
//! request ─► head, body, caller (Call) ─► X-Amz-Target ─► tunnelling
//!                                     ├─► POST, a form  ─► sts
//!                                     └─► any other path ─► registry
//! ```
//!
//! Every answer is in the protocol of its request, because clients cannot read anything else. A head that
//! cannot be read has none: the listener words its refusal as JSON (`listen/refusal.rs`).
//!
//! Where requests are not signed, this is only ever mounted on loopback (see
//! [`ApiSettings`](crate::settings::ApiSettings)), and answers only requests that name it.

pub(crate) mod call;
pub(crate) mod constraints;
pub(crate) mod error;
mod host;
mod identify;
pub(crate) mod input;
mod leave;
pub(crate) mod naming;
mod operations;
pub(crate) mod outcome;
mod output;
mod page_token;
pub(crate) mod target;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adit_engine::failpoint::failpoint;
use adit_proto::escape::escape_bytes;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, USER_AGENT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request, Response, Uri};
use axum::{Extension, Router};
use bytes::Bytes;
use http_body_util::BodyExt;
use tracing::{debug, error};
use uuid::Uuid;

use crate::access::rate::CallRate;
use crate::audit::{ApiCall, Audit, Event};
use crate::clock::Clock;
use call::{Call, Trail};
use error::ApiError;
use operations::Operation;
use outcome::{Handler, Outcome, Protocol};
use target::Target;

pub(crate) use identify::Access;
pub use naming::{InvalidNaming, Naming};
pub(crate) use operations::Tunnelling;

/// The front, with what answers behind it.
pub(crate) struct Api {
    pub(crate) tunnelling: Box<dyn Handler>,
    pub(crate) registry: Box<dyn Handler>,
    pub(crate) sts: Box<dyn Handler>,
    /// Whose requests are answered.
    pub(crate) access: Access,
    pub(crate) audit: Audit,
    /// How often requests that are refused before they are looked into get a record: each key's, and
    /// those that are nobody's.
    pub(crate) refused: CallRate,
    /// Those without, since the last record.
    pub(crate) unrecorded: AtomicU64,
    /// How often each may ask.
    pub(crate) rate: CallRate,
    pub(crate) clock: Clock,
    /// For a whole body to arrive.
    pub(crate) body_timeout: Duration,
}

/// The client's address, put into each request by the listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Id of the access key that a request was signed with, put into its answer for the listener.
#[derive(Clone, Debug)]
pub(crate) struct CalledBy(pub(crate) Option<Arc<str>>);

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
        let (head, body) = request.into_parts();
        let protocol = protocol(&head.method, &head.uri, &head.headers);
        let request_id = Uuid::new_v4();
        // In a task of its own: a client that hangs up must not stop what it has begun half-way, nor
        // keep it out of the audit.
        let answered = tokio::spawn(api.carry_out(request_id, source, protocol, head, body));
        let (answer, caller) = answered.await.unwrap_or_else(|fault| {
            error!(%request_id, %fault, "an API call failed");
            (Err(ApiError::internal()), None)
        });
        let mut response = protocol.response(answer, request_id);
        response.extensions_mut().insert(CalledBy(caller));
        response
    }

    async fn carry_out(
        self: Arc<Self>,
        request_id: Uuid,
        source: SocketAddr,
        protocol: Protocol,
        head: Parts,
        body: Body,
    ) -> (Result<Outcome, ApiError>, Option<Arc<str>>) {
        failpoint("api-call", &head.uri.path());
        let api = self;
        let user_agent = head.headers.get(USER_AGENT);
        let user_agent = user_agent.map(|agent| escape_bytes(agent.as_bytes()));
        let call = api.call(request_id, source, protocol, head, body).await;
        let (answer, call, is_early) = match call {
            Ok(call) if !api.admits(&call) => {
                tokio::time::sleep(THROTTLED_FOR).await;
                (Err(ApiError::throttled()), Some(call), true)
            }
            Ok(call) => (api.answer(protocol, &call).await, Some(call), false),
            Err(error) => (Err(error), None, true),
        };
        if let Err(error) = &answer {
            debug!(%request_id, status = error.status.as_u16(), code = error.code, "API call refused");
        }
        let mut record = ApiCall {
            request_id,
            user: None,
            access_key_id: None,
            source,
            user_agent,
            action: String::new(),
            resources: Vec::new(),
            outcome: answer
                .as_ref()
                .map_or_else(|error| error.code, |_| "Success"),
            unrecorded: 0,
        };
        if let Some(call) = call {
            let trail = call.trail.into_inner().expect("nobody panics holding it");
            record.user = Some(call.caller.user);
            record.access_key_id = call.caller.access_key_id;
            record.action = trail.action;
            record.resources = trail.resources;
        }
        let caller = record.access_key_id.clone();
        api.record(record, is_early).await;
        (answer, caller)
    }

    /// Whether the caller may call so often. Which operation on tunnels it asked for is for the audit;
    /// calls to the registry are not looked into so far.
    fn admits(&self, call: &Call) -> bool {
        let key = call.caller.access_key_id.as_ref();
        let admits = self.rate.admit(key, self.clock.now().instant);
        if !admits && let Some(operation) = Operation::of(call) {
            call.note(operation.action(), &[]);
        }
        admits
    }

    /// Reads the request and finds out who sent it.
    async fn call(
        &self,
        request_id: Uuid,
        source: SocketAddr,
        protocol: Protocol,
        head: Parts,
        body: Body,
    ) -> Result<Call, ApiError> {
        if matches!(self.access, Access::Unsigned) {
            host::check(&head.uri, &head.headers)?;
        }
        let target = Target::parse(&head.uri);
        let target = target.ok_or_else(|| ApiError::validation("the path is not UTF-8"))?;
        let body = tokio::time::timeout(self.body_timeout, read_body(body)).await;
        let body = body.map_err(|_| ApiError::too_slow())??;
        let now = self.clock.now().wall;
        let caller = self.access.identify(protocol, &head, &body, now)?;
        Ok(Call {
            request_id,
            source,
            caller,
            method: head.method,
            target,
            headers: head.headers,
            body,
            trail: Mutex::new(Trail::default()),
        })
    }

    /// What is refused early is recorded so often only: a flood of it must not push everything else out
    /// of the audit.
    async fn record(&self, mut record: ApiCall, is_early: bool) {
        let now = self.clock.now();
        let key = record.access_key_id.as_ref();
        if is_early && !self.refused.admit(key, now.instant) {
            self.unrecorded.fetch_add(1, Ordering::Relaxed);
            return;
        }
        record.unrecorded = self.unrecorded.swap(0, Ordering::Relaxed);
        self.audit.record(now.wall, Event::Call(record)).await;
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

/// How long a throttled call waits for its answer. Who calls again at once, as programs do that know nothing of
/// throttling, takes a core with refusals alone otherwise.
const THROTTLED_FOR: Duration = match cfg!(test) {
    true => Duration::from_millis(1),
    false => Duration::from_millis(100),
};

/// Records in a second of one key's requests that were too many, and of all that nobody has signed, or
/// not well.
pub(crate) const RECORDS_OF_REFUSED_MAX: u32 = 10;

const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// The longest description, 50 tags of full length and 128 services come to 45 KiB in ASCII, and to 268 KiB from a
/// client that sends ASCII only, as boto3 does, where each character is outside the basic plane: `\ud841\udf0e`.
const MAX_BODY_SIZE: usize = 320 * 1024;
const MAX_DISCARDED_SIZE: usize = 1024 * 1024;

#[cfg(test)]
mod tests;
