//! Signatures of others verify; ours do, for any request; and whatever is changed, they do no more.

mod mutations;
mod vectors;

use std::time::Duration;

use adit_proto::Secret;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::*;

/// From the public examples of AWS.
const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const NOW: &str = "20261123T151813Z";

/// A request that owns its parts.
#[derive(Clone, Debug)]
struct Sent {
    method: String,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Sent {
    fn new(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: map,
            body: body.to_owned(),
        }
    }

    fn signable(&self) -> Signable<'_> {
        Signable {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            body: &self.body,
        }
    }

    fn signed(mut self, credentials: &Credentials, service: &str) -> Self {
        let added = sign(self.signable(), credentials, "eu-x-1", service, now()).unwrap();
        for (name, value) in added {
            self.headers.insert(name, value);
        }
        self
    }

    fn verify(&self, credentials: &Credentials) -> Result<VerifiedBy<()>, SignatureError> {
        self.verify_at(credentials, now())
    }

    fn verify_at(
        &self,
        credentials: &Credentials,
        at: Moment,
    ) -> Result<VerifiedBy<()>, SignatureError> {
        verify(self.signable(), at, SKEW_MAX, |id| {
            (id == credentials.access_key_id).then_some((credentials, ()))
        })
    }
}

fn now() -> Moment {
    Moment::parse(NOW).unwrap()
}

fn credentials(session_token: Option<&str>) -> Credentials {
    Credentials {
        access_key_id: KEY_ID.to_owned(),
        secret_access_key: Secret::new(SECRET.to_owned()),
        session_token: session_token.map(|token| Secret::new(token.to_owned())),
    }
}

fn list_tunnels() -> Sent {
    let headers = [
        ("Host", "localhost:7401"),
        ("Content-Type", "application/x-amz-json-1.1"),
        ("X-Amz-Target", "IoTSecuredTunneling.ListTunnels"),
        ("User-Agent", "tests"),
    ];
    Sent::new("POST", "/", &headers, br#"{"maxResults": 1}"#)
}

#[test]
fn clocks_may_differ_by_five_minutes() {
    let credentials = credentials(None);
    let sent = list_tunnels().signed(&credentials, "IoTSecuredTunneling");
    let at = |offset: i64| {
        let millis = 1_795_447_093_000_i64 + offset * 1_000;
        Moment::at(crate::clock::Timestamp::from_millis(millis as u64))
    };
    assert_eq!(at(0), now());
    for offset in -3_600..=3_600 {
        let verdict = sent.verify_at(&credentials, at(offset));
        if (-300..=300).contains(&offset) {
            assert!(verdict.is_ok(), "{offset} s: {verdict:?}");
            continue;
        }
        let Err(SignatureError::Skew {
            signed, allowed, ..
        }) = verdict
        else {
            panic!("{offset} s: {verdict:?}");
        };
        assert_eq!((signed, allowed), (now(), 300));
    }
    // The setting counts, not the default.
    let wide = Duration::from_secs(900);
    let find = |_: &str| Some((&credentials, ()));
    verify(sent.signable(), at(900), wide, find).unwrap();
    assert!(verify(sent.signable(), at(901), wide, find).is_err());
}

#[test]
fn what_decides_has_to_be_signed() {
    let credentials = credentials(None);
    for (name, value) in [
        ("content-type", "text/plain"),
        ("x-amz-target", "IoTSecuredTunneling.CloseTunnel"),
        ("x-amz-security-token", "other"),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        ("x-amzn-principal", "arn:aws:iot:r:000000000000:cert/ab"),
    ] {
        let mut sent = list_tunnels();
        sent.headers.remove(name);
        let mut sent = sent.signed(&credentials, "IoTSecuredTunneling");
        sent.verify(&credentials).unwrap();
        sent.headers.insert(name, value.parse().unwrap());
        let expected = SignatureError::NotSigned(name.to_owned());
        assert_eq!(sent.verify(&credentials), Err(expected));
    }
    let mut sent = list_tunnels();
    sent.headers.remove("host");
    let sent = sent.signed(&credentials, "IoTSecuredTunneling");
    let expected = SignatureError::NotSigned("host".to_owned());
    assert_eq!(sent.verify(&credentials), Err(expected));
}

#[test]
fn a_hash_of_the_body_that_was_sent_has_to_be_right() {
    let credentials = credentials(None);
    let right = list_tunnels().signable().body_hash();
    for (hash, good) in [
        (right.as_str(), true),
        ("UNSIGNED-PAYLOAD", false),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", false),
        (&right.to_uppercase(), false),
        ("", false),
    ] {
        let mut sent = list_tunnels();
        sent.headers
            .insert("x-amz-content-sha256", hash.parse().unwrap());
        // The signature covers the header, so only its content can be at fault.
        let verdict = sent.signed(&credentials, "iot").verify(&credentials);
        assert_eq!(
            verdict.err(),
            (!good).then_some(SignatureError::BodyHash),
            "{hash}"
        );
    }
}

#[test]
fn a_session_token_goes_with_its_key() {
    let with = credentials(Some("token"));
    let other = credentials(Some("t0ken"));
    let without = credentials(None);
    for (client, service, good) in [
        (&with, &with, true),
        (&without, &without, true),
        (&with, &other, false),
        (&with, &without, false),
        (&without, &with, false),
    ] {
        let verdict = list_tunnels().signed(client, "iot").verify(service);
        let expected = (!good).then_some(SignatureError::SessionToken);
        assert_eq!(verdict.err(), expected);
    }
}

#[test]
fn the_signing_name_counts_in_the_case_it_came_in() {
    let credentials = credentials(None);
    for service in ["IoTSecuredTunneling", "iotsecuredtunneling", "iot"] {
        let sent = list_tunnels().signed(&credentials, service);
        assert_eq!(sent.verify(&credentials).unwrap().service, service);
        let mut changed = sent;
        let header = changed.headers["authorization"].to_str().unwrap();
        let header = header.replace(service, &service.to_uppercase());
        changed
            .headers
            .insert("authorization", header.parse().unwrap());
        assert_eq!(changed.verify(&credentials), Err(SignatureError::Mismatch));
    }
}

#[test]
fn each_refusal_says_what_is_wrong() {
    let own = credentials(None);
    let sent = list_tunnels().signed(&own, "iot");
    let changed = |name: &str, value: Option<&str>| {
        let mut sent = sent.clone();
        match value {
            Some(value) => drop(sent.headers.insert(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            )),
            None => drop(sent.headers.remove(name)),
        }
        sent.verify(&own).unwrap_err()
    };
    assert_eq!(changed("authorization", None), SignatureError::Missing);
    assert_eq!(changed("x-amz-date", None), SignatureError::Date);
    assert_eq!(changed("x-amz-date", Some("now")), SignatureError::Date);
    assert_eq!(
        changed("x-amz-date", Some("20261124T151813Z")),
        SignatureError::Date,
        "the scope has another date"
    );
    assert_eq!(changed("user-agent", None), SignatureError::HeaderMissing);
    assert_eq!(changed("user-agent", Some("x")), SignatureError::Mismatch);
    assert!(matches!(
        changed("authorization", Some("Bearer x")),
        SignatureError::Malformed(_)
    ));
    let mut twice = sent.clone();
    let header = twice.headers["authorization"].clone();
    twice.headers.append("authorization", header);
    assert!(matches!(
        twice.verify(&own),
        Err(SignatureError::Malformed(_))
    ));
    let mut other = credentials(None);
    other.access_key_id = "AKIAOTHER".to_owned();
    assert_eq!(sent.verify(&other), Err(SignatureError::UnknownKey));
    other = credentials(None);
    other.secret_access_key = Secret::new(SECRET.replace('w', "W"));
    assert_eq!(sent.verify(&other), Err(SignatureError::Mismatch));
}
