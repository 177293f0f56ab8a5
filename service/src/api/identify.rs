//! From a request to its caller.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::request::Parts;

use super::error::ApiError;
use super::outcome::Protocol;
use crate::access::Caller;
use crate::access::keys::AccessKeys;
use crate::access::sigv4::{Moment, Signable, verify};
use crate::clock::Timestamp;

/// Whose requests are answered.
pub(crate) enum Access {
    /// Anybody's; a signature is not looked at.
    Unsigned,
    /// Only those signed with one of these keys.
    Signed {
        keys: Arc<AccessKeys>,
        /// How far the client's clock may be off.
        skew_max: Duration,
    },
}

impl Access {
    pub(super) fn identify(
        &self,
        protocol: Protocol,
        head: &Parts,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Caller, ApiError> {
        let Self::Signed { keys, skew_max } = self else {
            return Ok(Caller::anonymous());
        };
        let request = Signable {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
            headers: &head.headers,
            body,
        };
        let now = Moment::at(now);
        let keys = keys.table();
        let find = |id: &str| keys.find(id).map(|key| (&key.credentials, key));
        let verified = verify(request, now, *skew_max, find)?;
        check_service(protocol, &verified.service)?;
        let key = verified.key;
        if key.expires.is_some_and(|end| end.is_over(now)) {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "ExpiredTokenException",
                "the access key has expired",
            ));
        }
        Ok(key.caller.clone())
    }
}

/// A signature for one service is none for another. Some clients write the name in lower case, and
/// models of `iot` before 2023 (AWS CLI 2.9 has one) sign for `execute-api`.
fn check_service(protocol: Protocol, signed_for: &str) -> Result<(), ApiError> {
    let (name, former) = match protocol {
        Protocol::Json => ("IoTSecuredTunneling", None),
        Protocol::Rest => ("iot", Some("execute-api")),
        Protocol::Query => ("sts", None),
    };
    if signed_for.eq_ignore_ascii_case(name) || former == Some(signed_for) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "InvalidSignatureException",
        format!("the credential must be scoped to the service {name}"),
    ))
}
