//! Requests of any bytes, signed and checked.

use std::time::Duration;

use adit_proto::Secret;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::{Authorization, Credentials, Moment, SKEW_MAX, Signable, sign, verify};

/// Makes a request of any bytes: method, path, query, then headers as `name:value`, each on a line, and
/// after an empty line the body. What is signed is accepted; what is changed afterwards, one
/// part of it or another, is not; and what the bytes themselves give as a signature is judged without a panic, and never good.
pub fn fuzz_signature(bytes: &[u8]) {
    let mut rest = bytes;
    let mut line = || {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let (line, behind) = rest.split_at(end.unwrap_or(rest.len()));
        rest = behind.get(1..).unwrap_or_default();
        line
    };
    let mut text = || String::from_utf8_lossy(line()).into_owned();
    let (method, path, query) = (text(), text(), text());
    let mut headers = HeaderMap::new();
    loop {
        let line = line();
        if line.is_empty() || headers.len() >= HEADERS_MAX {
            break;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(&line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let request = Signable {
        method: &method,
        path: &path,
        query: &query,
        headers: &headers,
        body: rest,
    };
    judge_as_it_came(request);
    judge_signed(request);
}

/// Nobody signs by chance: the key is not in the bytes.
fn judge_as_it_came(request: Signable<'_>) {
    let credentials = credentials();
    let find = |_: &str| Some((&credentials, ()));
    let long = Duration::from_secs(u64::MAX / 4);
    match verify(request, now(), long, find) {
        Ok(_) => panic!("a signature was guessed"),
        Err(error) => assert!(!error.to_string().contains(char::is_control)),
    }
    for value in request.headers.get_all("authorization") {
        let Ok(parsed) = Authorization::parse(&String::from_utf8_lossy(value.as_bytes())) else {
            continue;
        };
        assert!(parsed.signed_headers.is_sorted());
        assert_eq!(parsed.scope.date.len(), 8);
    }
}

fn judge_signed(request: Signable<'_>) {
    let credentials = credentials();
    let mut headers = request.headers.clone();
    headers
        .entry("host")
        .or_insert(HeaderValue::from_static("api"));
    let request = Signable {
        headers: &headers,
        ..request
    };
    let Some(added) = sign(request, &credentials, "eu-west-1", "iot", now()) else {
        return;
    };
    let mut headers = headers.clone();
    for (name, value) in added {
        headers.insert(name, value);
    }
    let find = |key: &str| (key == credentials.access_key_id).then_some((&credentials, ()));
    let check = |request: Signable<'_>| verify(request, now(), SKEW_MAX, find);
    let signed = Signable {
        headers: &headers,
        ..request
    };
    if is_odd(&headers, signed) {
        return drop(check(signed));
    }
    if let Err(error) = check(signed) {
        panic!("what we sign we refuse: {error}");
    }
    let method = format!("{}x", request.method);
    let body = [request.body, b"x"].concat();
    let path = format!("{}/x", request.path);
    let query = format!("{}&x=1", request.query);
    // One change of four for each input: each check hashes the whole request anew.
    let changed = match request.body.len() % 4 {
        0 => Signable {
            method: &method,
            ..signed
        },
        1 => Signable {
            body: &body,
            ..signed
        },
        2 => Signable {
            path: &path,
            ..signed
        },
        _ => Signable {
            query: &query,
            ..signed
        },
    };
    assert!(check(changed).is_err(), "a change goes unnoticed");
}

/// Requests that a client can sign and that are refused all the same: with headers that the check
/// itself reads, twice or with other values.
fn is_odd(headers: &HeaderMap, request: Signable<'_>) -> bool {
    let hash = headers.get_all("x-amz-content-sha256");
    let hashes = hash
        .iter()
        .filter(|value| *value != request.body_hash().as_str());
    headers.contains_key("x-amz-security-token") || hash.iter().count() > 1 || hashes.count() > 0
}

fn credentials() -> Credentials {
    Credentials {
        access_key_id: "AKIDEXAMPLE".to_owned(),
        secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG".to_owned()),
        session_token: None,
    }
}

fn now() -> Moment {
    Moment::parse("20261123T151813Z").expect("a moment")
}

/// Headers of one request, at most.
const HEADERS_MAX: usize = 32;
