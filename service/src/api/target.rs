//! Path and query of a request: as they came, and decoded.

use std::borrow::Cow;

use axum::http::Uri;

/// Where a request points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As it came, still percent-encoded, without `.`, `..` and empty segments: what the signature is
    /// about, so that nobody can be led elsewhere.
    pub(crate) path: String,
    /// The path's segments, decoded after they were split: `/things/a%2Fb` has two.
    pub(crate) segments: Vec<String>,
    /// Names and values in the order they came, decoded; a plus is a plus.
    pub(crate) query: Vec<(String, String)>,
}

impl Target {
    /// `None` when something in it is not UTF-8 once decoded.
    pub(crate) fn parse(uri: &Uri) -> Option<Self> {
        let path = normalise(uri.path());
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        let segments = segments.map(decode).collect::<Option<_>>()?;
        let pairs = uri.query().unwrap_or_default().split('&');
        let query = pairs
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Some((decode(name)?, decode(value)?))
            })
            .collect::<Option<_>>()?;
        Some(Self {
            path,
            segments,
            query,
        })
    }

    /// The first value of a query parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.iter();
        let (_, value) = pairs.find(|(other, _)| other == name)?;
        Some(value)
    }

    /// The segments as slices, to match routes on.
    pub(crate) fn route(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }
}

/// RFC 3986 §5.2.4, and empty segments go too.
pub(crate) fn normalise(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{end}", kept.join("/"))
}

pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match (first, rest) {
            (b'%', [high, low, tail @ ..]) if let Some(byte) = hex(*high, *low) => {
                bytes.push(byte);
                rest = tail;
            }
            // A lone percent sign stands for itself, as most servers have it.
            _ => bytes.push(first),
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3), the way a path segment or a
/// query parameter is written.
pub(crate) fn encode(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(uri: &str) -> Target {
        Target::parse(&uri.parse().unwrap()).unwrap()
    }

    #[test]
    fn segments_are_decoded_after_they_are_split() {
        for (uri, path, segments) in [
            ("/", "/", &[][..]),
            ("/things/a%3Ab", "/things/a%3Ab", &["things", "a:b"]),
            ("/things/a%2Fb", "/things/a%2Fb", &["things", "a/b"]),
            ("//things//a/", "/things/a/", &["things", "a"]),
            ("/./x/../things/a", "/things/a", &["things", "a"]),
            ("/../..", "/", &[]),
            ("/a%2e%2e/%2E%2E", "/a%2e%2e/%2E%2E", &["a..", ".."]),
            ("/100%/%4/%zz", "/100%/%4/%zz", &["100%", "%4", "%zz"]),
        ] {
            let target = parse(uri);
            assert_eq!(
                (&*target.path, &target.route()[..]),
                (path, segments),
                "{uri}"
            );
        }
        assert_eq!(Target::parse(&"/%ff".parse().unwrap()), None);
    }

    #[test]
    fn parameters_are_found_decoded() {
        let target = parse("/endpoint?endpointType=iot%3AData-ATS&a&b=&c=1+1&c=2&&d=x=y");
        for (name, value) in [
            ("endpointType", Some("iot:Data-ATS")),
            ("a", Some("")),
            ("b", Some("")),
            ("c", Some("1+1")),
            ("d", Some("x=y")),
            ("e", None),
        ] {
            assert_eq!(target.parameter(name), value, "{name}");
        }
        assert_eq!(target.query.len(), 6);
    }

    #[test]
    fn encoding_is_what_decoding_undoes() {
        let all: String = ('\u{0}'..'\u{180}').collect();
        let encoded = encode(&all);
        assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic()));
        assert_eq!(decode(&encoded).unwrap(), all);
        assert_eq!(encode("a:b/c~d e"), "a%3Ab%2Fc~d%20e");
    }
}
