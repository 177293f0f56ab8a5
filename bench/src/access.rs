//! Who may do what: tokens, signatures, policies, and the upgrade request that a token comes in.
//!
//! Held fixed: a request of OpenTunnel as the AWS CLI signs it, six signed headers and a body of
//! 109 bytes; a policy of four statements; an upgrade request of the reference client's shape.

use crate::Case;
use adit_proto::handshake::{UpgradeRequest, encode_accept, parse_upgrade_request};
use adit_proto::{AccessToken, ClientToken, Mode, Secret, Subprotocol, TunnelId};
use adit_service::access::policy::{Conditions, Decision, Policy};
use adit_service::access::sigv4::{Credentials, Moment, SKEW_MAX, Signable, sign, verify};
use adit_service::token::{RoutingKey, TokenHash};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use std::hint::black_box;

/// Operations of one run.
const COUNT: usize = 16;

/// Everything here.
pub fn cases() -> Vec<Case> {
    vec![
        sigv4_sign(),
        sigv4_verify(),
        policy_decide(),
        token_check(),
        upgrade_read(),
        upgrade_answer(),
    ]
}

const BODY: &[u8] = br#"{"description":"bench","destinationConfig":{"thingName":"thing-1","services":["SSH","HTTP"]},"tags":[]}"#;

fn request() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "localhost:8443"),
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", "IoTSecuredTunneling.OpenTunnel"),
        (
            "user-agent",
            "aws-cli/2.31.0 md/awscrt#0.27.6 ua/2.1 os/linux",
        ),
        ("accept-encoding", "identity"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    headers
}

fn signable(headers: &HeaderMap) -> Signable<'_> {
    Signable {
        method: "POST",
        path: "/",
        query: "",
        headers,
        body: BODY,
    }
}

fn credentials() -> Credentials {
    Credentials {
        // From the public examples of AWS.
        access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned()),
        session_token: None,
    }
}

fn moment() -> Moment {
    Moment::parse("20261123T151813Z").expect("a moment")
}

fn signed() -> HeaderMap {
    let mut headers = request();
    let added = sign(
        signable(&headers),
        &credentials(),
        "eu-central-1",
        "IoTSecuredTunneling",
        moment(),
    );
    for (name, value) in added.expect("signed") {
        headers.insert(name, value);
    }
    headers
}

fn sigv4_sign() -> Case {
    Case::new("sigv4/sign/OpenTunnel", COUNT, 0, || {
        let (headers, credentials) = (request(), credentials());
        move || {
            for _ in 0..COUNT {
                let added = sign(
                    black_box(signable(&headers)),
                    &credentials,
                    "eu-central-1",
                    "IoTSecuredTunneling",
                    moment(),
                );
                assert!(black_box(added).is_some());
            }
        }
    })
}

fn sigv4_verify() -> Case {
    Case::new("sigv4/verify/OpenTunnel", COUNT, 0, || {
        let (headers, credentials) = (signed(), credentials());
        move || {
            for _ in 0..COUNT {
                let request = black_box(signable(&headers));
                let verified = verify(request, moment(), SKEW_MAX, |id| {
                    (id == credentials.access_key_id).then_some((&credentials, ()))
                });
                assert!(black_box(verified).is_ok());
            }
        }
    })
}

const POLICY: &str = r#"{
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "iot:Describe*", "Resource": "*"},
        {"Effect": "Allow", "Action": ["iot:OpenTunnel", "iot:RotateTunnelAccessToken"],
         "Resource": "arn:aws:iot:*:*:thing/plant-*"},
        {"Effect": "Allow", "Action": "iot:CloseTunnel", "Resource": "arn:aws:iot:*:*:tunnel/*"},
        {"Effect": "Deny", "Action": "*", "Resource": "arn:aws:iot:*:*:thing/plant-7-*"}
    ]
}"#;

fn policy_decide() -> Case {
    Case::new("policy/decide/4_statements", COUNT, 0, || {
        let policy = Policy::parse(POLICY).expect("a policy");
        let conditions = Conditions::default();
        move || {
            for _ in 0..COUNT {
                let decision = policy.decide(
                    black_box("iot:OpenTunnel"),
                    "arn:aws:iot:eu-central-1:123456789012:thing/plant-12-press-3",
                    &conditions,
                );
                assert_eq!(decision, Decision::Allowed);
            }
        }
    })
}

/// A token of the shape that the service makes.
fn token() -> AccessToken {
    let text = "q3mJ0vYb1hXk9T2c.uY5n0RkS8dFq2LwZx7Vb4MjH1tGpC6eA9oIuN3yBsKr";
    AccessToken::new(text.to_owned()).expect("a token")
}

/// What a relay does with a presented token before it asks the store.
fn token_check() -> Case {
    Case::new("token/route_and_hash", COUNT, 0, || {
        let token = token();
        let stored = TokenHash::of(&token);
        let tunnel: TunnelId = "tunnel-1".parse().expect("an id");
        black_box(RoutingKey::of(&tunnel));
        move || {
            for _ in 0..COUNT {
                let token = black_box(&token);
                black_box(RoutingKey::in_front_of(token)).expect("it has our shape");
                assert!(bool::from(TokenHash::of(token).matches(&stored)));
            }
        }
    })
}

/// An upgrade request as a proxy sends it.
pub fn upgrade_request() -> Vec<u8> {
    let mut request = Vec::new();
    let client_token = ClientToken::strict("0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f".to_owned());
    UpgradeRequest {
        host: "data.tunneling.iot.eu-central-1.amazonaws.com",
        mode: Mode::Source,
        subprotocol: Subprotocol::V3.name(),
        access_token: &token(),
        client_token: Some(&client_token.expect("a token")),
        user_agent: "localproxy",
        key: [7; 16],
    }
    .encode(&mut request)
    .expect("a request");
    request
}

fn upgrade_read() -> Case {
    Case::new("upgrade/read_request", COUNT, 0, || {
        let request = upgrade_request();
        move || {
            for _ in 0..COUNT {
                let read = parse_upgrade_request(black_box(&request)).expect("a request");
                assert!(black_box(read).is_some());
            }
        }
    })
}

fn upgrade_answer() -> Case {
    Case::new("upgrade/write_answer", COUNT, 0, || {
        let mut out = Vec::new();
        move || {
            for _ in 0..COUNT {
                out.clear();
                encode_accept(
                    black_box("dGhlIHNhbXBsZSBub25jZQ=="),
                    Subprotocol::V3,
                    "5f0c8a5e-7d0b-4d43-9f0b-0e2a4b3c9d11",
                    &mut out,
                );
                black_box(&out);
            }
        }
    })
}
