//! Signing, as a client does.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::ALGORITHM;
use super::authorization::Scope;
use super::canonical::Signable;
use super::key::{Credentials, signature};
use super::moment::Moment;

/// Headers that a signed request has besides those it had before.
pub type SignedHeaders = Vec<(HeaderName, HeaderValue)>;

/// Signs a request with all headers it has, so none may be added or changed later; the headers returned
/// are to be added, in the place of others of their names.
///
/// `service` is the signing name, `IoTSecuredTunneling` or `iot` or `sts`. The request must have a
/// `host` header as it is sent, with its port unless that is the protocol's own.
///
/// # Errors
/// `None` when a header is not UTF-8, the query is not UTF-8 once decoded, or a part of the credentials
/// cannot be in a header.
pub fn sign(
    request: Signable<'_>,
    credentials: &Credentials,
    region: &str,
    service: &str,
    moment: Moment,
) -> Option<SignedHeaders> {
    let mut added = vec![(X_AMZ_DATE, moment.to_string().parse().ok()?)];
    if let Some(token) = &credentials.session_token {
        let mut token: HeaderValue = token.expose().parse().ok()?;
        token.set_sensitive(true);
        added.push((X_AMZ_SECURITY_TOKEN, token));
    }
    let mut headers: HeaderMap = request.headers.clone();
    headers.remove(AUTHORIZATION);
    for (name, value) in &added {
        headers.insert(name, value.clone());
    }
    let mut names: Vec<String> = headers.keys().map(|n| n.as_str().to_owned()).collect();
    names.sort();
    let scope = Scope {
        date: moment.date(),
        region: region.to_owned(),
        service: service.to_owned(),
    };
    let canonical = Signable {
        headers: &headers,
        ..request
    }
    .canonical(&names)?;
    let signature = signature(&credentials.secret_access_key, &scope, moment, &canonical);
    let value = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
        credentials.access_key_id,
        names.join(";")
    );
    added.push((AUTHORIZATION, value.parse().ok()?));
    Some(added)
}

pub(super) const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
pub(super) const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
