//! Checking a signature, as the service does.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;

use super::authorization::{Authorization, MalformedAuthorization};
use super::canonical::Signable;
use super::key::{Credentials, signature};
use super::moment::Moment;
use super::sign::{X_AMZ_DATE, X_AMZ_SECURITY_TOKEN};

/// How far the client's clock may be off, either way, if nothing else is set. AWS allows 15 minutes;
/// within this time, whoever has seen a request may repeat it.
pub const SKEW_MAX: Duration = Duration::from_secs(5 * 60);

/// A signature that was good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBy<K> {
    /// What `find` gave for the access key.
    pub key: K,
    /// The signing name, as the client writes it.
    pub service: String,
}

/// Checks that the request was signed with the secret of the access key it names, recently, and that
/// nothing that counts has changed since.
///
/// `find` gives the secret for an access key id, with whatever the caller wants to have back.
/// Which service and region the signature is for is left to the caller.
///
/// # Errors
/// See [`SignatureError`]; whatever is wrong with a signature of 64 digits, it takes the same time.
pub fn verify<'k, K>(
    request: Signable<'_>,
    now: Moment,
    skew_max: Duration,
    find: impl FnOnce(&str) -> Option<(&'k Credentials, K)>,
) -> Result<VerifiedBy<K>, SignatureError> {
    let header = match one(request.headers, AUTHORIZATION.as_str()) {
        Ok(header) => header.ok_or(SignatureError::Missing)?,
        Err(Several) => return Err(MalformedAuthorization::Part.into()),
    };
    let authorization = Authorization::parse(header)?;
    let moment = check_date(&request, &authorization, now, skew_max)?;
    check_coverage(&request, &authorization.signed_headers)?;
    let (credentials, key) =
        find(&authorization.access_key_id).ok_or(SignatureError::UnknownKey)?;
    let canonical = request.canonical(&authorization.signed_headers);
    let canonical = canonical.ok_or(SignatureError::HeaderMissing)?;
    let secret = &credentials.secret_access_key;
    let expected = signature(secret, &authorization.scope, moment, &canonical);
    let same = expected
        .as_bytes()
        .ct_eq(authorization.signature.as_bytes());
    if !bool::from(same) {
        return Err(SignatureError::Mismatch);
    }
    check_session(request.headers, credentials)?;
    check_body(&request)?;
    Ok(VerifiedBy {
        key,
        service: authorization.scope.service,
    })
}

/// Why a signature is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// There is none.
    #[error("the request is not signed; give the client an access key of this service")]
    Missing,
    /// The `Authorization` header cannot be read.
    #[error(transparent)]
    Malformed(#[from] MalformedAuthorization),
    /// The time of the signature is missing or cannot be read.
    #[error(
        "the X-Amz-Date header must be there once, of the form YYYYMMDDTHHMMSSZ, with the date of the \
         credential"
    )]
    Date,
    /// A header that has to be signed is not.
    #[error("the header {0} must be signed")]
    NotSigned(String),
    /// No such access key.
    #[error("the security token included in the request is invalid: no such access key here")]
    UnknownKey,
    /// A session token with a key that has none, or another one, or none where one is needed.
    #[error(
        "the security token included in the request is invalid: it does not go with the access key"
    )]
    SessionToken,
    /// The clocks differ too much.
    #[error(
        "signature expired or not yet valid: it was made at {signed}, it is now {now}, and at most \
         {allowed} seconds may be between; set the client's clock"
    )]
    Skew {
        /// When the client signed, by its clock.
        signed: Moment,
        /// Our time.
        now: Moment,
        /// In seconds.
        allowed: u64,
    },
    /// A signed header is not there.
    #[error("a header that SignedHeaders names is missing or is not text")]
    HeaderMissing,
    /// `x-amz-content-sha256` is not the body's.
    #[error(
        "the x-amz-content-sha256 header must be the SHA-256 of the body; bodies that are not signed are \
         not accepted"
    )]
    BodyHash,
    /// The signature is another one.
    #[error(
        "the request signature we calculated does not match the signature you provided; check the secret \
         access key, and that nothing changes the request on its way"
    )]
    Mismatch,
}

/// The date comes first, so that a client with a wrong clock is told about that.
fn check_date(
    request: &Signable<'_>,
    authorization: &Authorization,
    now: Moment,
    skew_max: Duration,
) -> Result<Moment, SignatureError> {
    let date = one(request.headers, X_AMZ_DATE.as_str()).ok().flatten();
    let signed = date.and_then(Moment::parse).ok_or(SignatureError::Date)?;
    if signed.date() != authorization.scope.date {
        return Err(SignatureError::Date);
    }
    if signed.seconds_after(now).unsigned_abs() > skew_max.as_secs() {
        return Err(SignatureError::Skew {
            signed,
            now,
            allowed: skew_max.as_secs(),
        });
    }
    Ok(signed)
}

/// Everything that decides what a request does is signed: its host, its time, its target, the form of
/// its body, the principal that it is about.
fn check_coverage(request: &Signable<'_>, signed: &[String]) -> Result<(), SignatureError> {
    let is_signed = |name: &str| signed.iter().any(|other| other == name);
    for name in ["host", "x-amz-date"] {
        if !is_signed(name) {
            return Err(SignatureError::NotSigned(name.to_owned()));
        }
    }
    let counts = |name: &str| {
        name.starts_with("x-amz-") || matches!(name, "content-type" | "x-amzn-principal")
    };
    let mut present = request.headers.keys().map(|name| name.as_str());
    match present.find(|name| counts(name) && !is_signed(name)) {
        Some(name) => Err(SignatureError::NotSigned(name.to_owned())),
        None => Ok(()),
    }
}

fn check_session(headers: &HeaderMap, credentials: &Credentials) -> Result<(), SignatureError> {
    let sent = one(headers, X_AMZ_SECURITY_TOKEN.as_str());
    let sent = sent.map_err(|Several| SignatureError::SessionToken)?;
    let good = match (sent, &credentials.session_token) {
        (None, None) => true,
        (Some(sent), Some(own)) => bool::from(sent.as_bytes().ct_eq(own.expose().as_bytes())),
        (Some(_), None) | (None, Some(_)) => false,
    };
    if good {
        Ok(())
    } else {
        Err(SignatureError::SessionToken)
    }
}

fn check_body(request: &Signable<'_>) -> Result<(), SignatureError> {
    match one(request.headers, X_AMZ_CONTENT_SHA256) {
        Ok(None) => Ok(()),
        Ok(Some(hash)) if hash == request.body_hash() => Ok(()),
        // Also `UNSIGNED-PAYLOAD` and the streaming forms.
        Ok(Some(_)) | Err(Several) => Err(SignatureError::BodyHash),
    }
}

struct Several;

/// The one value of a header, which is `None` where there is none; a value that is no text counts as
/// several.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Several> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Several),
        (Some(_), Some(_)) => Err(Several),
    }
}

const X_AMZ_CONTENT_SHA256: &str = "x-amz-content-sha256";
