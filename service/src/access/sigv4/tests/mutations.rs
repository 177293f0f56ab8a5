//! Random requests, and random changes to them, from a fixed seed.

use axum::http::HeaderValue;

use super::*;
use crate::api::target::{Target, encode};
use crate::testing::{Random, asked};

impl Random {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn text(&mut self, size_max: usize) -> String {
        let size = self.below(size_max + 1);
        let alphabet: Vec<char> = "abcXYZ019-_.~ :/+=&%?#é漢\"".chars().collect();
        (0..size)
            .map(|_| alphabet[self.below(alphabet.len())])
            .collect()
    }

    fn request(&mut self) -> Sent {
        let segments = (0..self.below(4)).map(|_| encode(&self.text(12)).into_owned());
        let segments: Vec<_> = segments
            .filter(|s| !matches!(&**s, "" | "." | ".."))
            .collect();
        let query = (0..self.below(4)).map(|_| {
            let (name, value) = (self.text(6), self.text(10));
            format!("n{}={}", encode(&name), encode(&value))
        });
        let query: Vec<_> = query.collect();
        let target = format!("/{}?{}", segments.join("/"), query.join("&"));
        let agent = self.text(20);
        let mut headers = vec![
            ("host", "localhost:7401"),
            ("user-agent", agent.trim()),
            ("x-amz-target", "IoTSecuredTunneling.OpenTunnel"),
        ];
        if self.below(2) == 0 {
            headers.push(("content-type", "application/x-amz-json-1.1"));
        }
        let body = self.text(60);
        let method = self.pick(&["GET", "POST", "PUT", "DELETE", "PATCH"]);
        Sent::new(method, &target, &headers, body.as_bytes())
    }
}

#[test]
fn every_request_that_we_sign_verifies() {
    let mut random = Random(1);
    for round in 0..2_000 {
        let token = (random.below(3) == 0).then_some("session/token+=");
        let credentials = credentials(token);
        let service = random.pick(&["IoTSecuredTunneling", "iotsecuredtunneling", "iot", "sts"]);
        let sent = random.request().signed(&credentials, service);
        let verdict = sent.verify(&credentials);
        assert_eq!(verdict.unwrap().service, service, "round {round}: {sent:?}");
    }
}

/// T-24 of the reliability plan. `ADIT_MUTATIONS` asks for another count.
#[test]
fn of_10_000_mutated_signatures_none_is_accepted() {
    let mutations = asked("ADIT_MUTATIONS", 10_000);
    let mut random = Random(2);
    let credentials = credentials(None);
    let sent = list_tunnels().signed(&credentials, "IoTSecuredTunneling");
    sent.verify(&credentials).unwrap();
    let header = sent.headers["authorization"].to_str().unwrap();
    let (front, signature) = header.rsplit_once('=').unwrap();
    for round in 0..mutations {
        let mut digits = signature.as_bytes().to_vec();
        for _ in 0..=random.below(3) {
            let index = random.below(digits.len());
            digits[index] = b"0123456789abcdefABCDEF"[random.below(22)];
        }
        match random.below(20) {
            0 => drop(digits.pop()),
            1 => digits.push(b'0'),
            _ => {}
        }
        if digits == signature.as_bytes() {
            continue;
        }
        let mut changed = sent.clone();
        let header = format!("{front}={}", String::from_utf8(digits).unwrap());
        changed
            .headers
            .insert("authorization", header.parse().unwrap());
        let verdict = changed.verify(&credentials);
        assert_eq!(
            verdict,
            Err(SignatureError::Mismatch),
            "round {round}: {header}"
        );
    }
}

#[test]
fn one_bit_changed_anywhere_is_refused() {
    let mut random = Random(3);
    let credentials = credentials(Some("token"));
    let mut tried = 0;
    for round in 0..300 {
        let sent = random.request().signed(&credentials, "IoTSecuredTunneling");
        for _ in 0..20 {
            let mut changed = sent.clone();
            if flip_one_bit(&mut random, &mut changed) && !same(&sent, &changed) {
                let verdict = changed.verify(&credentials);
                assert!(
                    verdict.is_err(),
                    "round {round}: {sent:?} became {changed:?}"
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 3_000, "only {tried} changes were possible");
}

/// Changes one bit of the method, path, query, a header's value, or the body; `false` when no HTTP
/// request can be like that.
fn flip_one_bit(random: &mut Random, sent: &mut Sent) -> bool {
    fn flip(random: &mut Random, bytes: &mut [u8]) -> bool {
        if bytes.is_empty() {
            return false;
        }
        let index = random.below(bytes.len());
        bytes[index] ^= 1 << random.below(8);
        true
    }
    fn flip_text(random: &mut Random, text: &mut String) -> bool {
        let mut bytes = text.clone().into_bytes();
        let flipped = flip(random, &mut bytes);
        match String::from_utf8(bytes) {
            Ok(changed) if flipped => {
                *text = changed;
                true
            }
            _ => false,
        }
    }
    match random.below(5) {
        0 => flip_text(random, &mut sent.method),
        1 => flip_text(random, &mut sent.path),
        2 => flip_text(random, &mut sent.query),
        3 => flip(random, &mut sent.body),
        _ => {
            let names: Vec<_> = sent.headers.keys().cloned().collect();
            let name = &names[random.below(names.len())];
            let mut value = sent.headers[name].as_bytes().to_vec();
            let flipped = flip(random, &mut value);
            match HeaderValue::from_bytes(&value) {
                Ok(value) if flipped => {
                    sent.headers.insert(name, value);
                    true
                }
                _ => false,
            }
        }
    }
}

/// Whether two requests ask for the same: `%3a` and `%3A` differ in one bit and in nothing else. So do
/// targets that are no targets at all.
fn same(one: &Sent, other: &Sent) -> bool {
    let parsed = |sent: &Sent| {
        let uri = format!("{}?{}", sent.path, sent.query);
        Some(Target::parse(&uri.parse().ok()?)?.query)
    };
    if other.query != one.query || other.path != one.path {
        let changed = parsed(other);
        return changed.is_none() || (one.path == other.path && changed == parsed(one));
    }
    false
}
