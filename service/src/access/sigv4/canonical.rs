//! The form of a request that is hashed: one text for everything that must not change on the way.

use axum::http::HeaderMap;

use super::key::hex;
use crate::api::target::{encode, normalise};
use crate::token::sha256;

/// A request, as far as signatures are about it.
#[derive(Clone, Copy, Debug)]
pub struct Signable<'a> {
    /// Like `POST`.
    pub method: &'a str,
    /// As on the request line, percent-encoded.
    pub path: &'a str,
    /// As on the request line, without the question mark; may be empty.
    pub query: &'a str,
    /// All of them, signed or not.
    pub headers: &'a HeaderMap,
    /// As it came.
    pub body: &'a [u8],
}

impl Signable<'_> {
    /// SHA-256 of the body, in hexadecimal.
    pub(super) fn body_hash(&self) -> String {
        hex(&sha256(&[self.body]))
    }

    /// The canonical request over these headers. A name without a header gives `None`, and so does a
    /// query that is not UTF-8 once decoded.
    pub(super) fn canonical(&self, signed_headers: &[String]) -> Option<String> {
        let mut headers = String::new();
        for name in signed_headers {
            headers.push_str(name);
            headers.push(':');
            headers.push_str(&self.header_value(name)?);
            headers.push('\n');
        }
        Some(format!(
            "{}\n{}\n{}\n{headers}\n{}\n{}",
            self.method,
            canonical_path(self.path),
            canonical_query(self.query)?,
            signed_headers.join(";"),
            self.body_hash()
        ))
    }

    /// All values of a header with commas between them, trimmed, runs of spaces made one.
    fn header_value(&self, name: &str) -> Option<String> {
        let mut joined = String::new();
        let mut found = false;
        for value in self.headers.get_all(name) {
            if std::mem::replace(&mut found, true) {
                joined.push(',');
            }
            // Bytes above ASCII are taken as UTF-8: that is what clients hash.
            let text = std::str::from_utf8(value.as_bytes()).ok()?;
            let words = text.trim_matches([' ', '\t']).split(' ');
            let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
            joined.push_str(&words.join(" "));
        }
        found.then_some(joined)
    }
}

/// The path, encoded once more: `/things/a%3Ab` is signed as `/things/a%253Ab`. Only S3 does otherwise.
fn canonical_path(path: &str) -> String {
    let path = normalise(path);
    let segments: Vec<_> = path.split('/').map(encode).collect();
    segments.join("/")
}

/// Sorted by name, then by value, each decoded and encoded again, so that it does not matter which
/// characters the client found worth encoding.
fn canonical_query(query: &str) -> Option<String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<_> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let again = |text: &str| {
                let text = crate::api::target::decode(text)?;
                Some(encode(&text).into_owned())
            };
            Some((again(name)?, again(value)?))
        })
        .collect::<Option<_>>()?;
    pairs.sort();
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    Some(pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded_a_second_time() {
        for (path, expected) in [
            ("", "/"),
            ("/", "/"),
            ("/api/", "/api/"),
            ("/things/a%3Ab_c", "/things/a%253Ab_c"),
            ("/~a-b.c/é", "/~a-b.c/%C3%A9"),
            ("/a b", "/a%20b"),
            ("/./a//b/../c", "/a/c"),
        ] {
            assert_eq!(canonical_path(path), expected, "{path}");
        }
    }

    #[test]
    fn queries_are_sorted_and_encoded_the_same_way() {
        for (query, expected) in [
            ("", ""),
            ("b=2&a=1", "a=1&b=2"),
            ("a=2&a=1", "a=1&a=2"),
            ("a", "a="),
            ("a=x/y&b=x%2fy", "a=x%2Fy&b=x%2Fy"),
            ("a=1+1", "a=1%2B1"),
            ("a=%41&a%20b=~", "a=A&a%20b=~"),
            ("a=b=c", "a=b%3Dc"),
            ("newStatus=ACTIVE", "newStatus=ACTIVE"),
        ] {
            assert_eq!(canonical_query(query).unwrap(), expected, "{query}");
        }
        assert_eq!(canonical_query("a=%ff"), None);
    }

    #[test]
    fn header_values_are_joined_and_tidied() {
        let mut headers = HeaderMap::new();
        headers.append("a", " x   y ".parse().unwrap());
        headers.append("a", "z".parse().unwrap());
        let request = Signable {
            method: "GET",
            path: "/",
            query: "",
            headers: &headers,
            body: b"",
        };
        assert_eq!(request.header_value("a").unwrap(), "x y,z");
        assert_eq!(request.header_value("b"), None);
        assert!(request.canonical(&["b".to_owned()]).is_none());
    }
}
