//! Pages: how long, and where the next one begins.
//!
//! A token names the last entry of its page, so that pages do not shift when others come or go. The
//! model calls it `marker` in some operations and `nextToken` in others, and allows standard base64.

use std::num::NonZeroUsize;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::constraints::{MARKER, PAGE_SIZE};
use super::read;
use crate::api::call::Call;
use crate::api::error::ApiError;
use crate::clock::Timestamp;
use crate::registry::{ByAge, ByKey, CertificateId, PolicyName};
use crate::tunnels::ThingName;

/// What the model calls the two parameters of a page.
#[derive(Clone, Copy)]
pub(super) struct Parameters {
    size: &'static str,
    token: &'static str,
}

pub(super) const BY_TOKEN: Parameters = Parameters {
    size: "maxResults",
    token: "nextToken",
};
pub(super) const BY_MARKER: Parameters = Parameters {
    size: "pageSize",
    token: "marker",
};

/// Something that lists are ordered by.
pub(super) trait Key: Sized {
    fn to_text(&self) -> String;
    fn from_text(text: &str) -> Option<Self>;
}

impl Key for ThingName {
    fn to_text(&self) -> String {
        self.as_str().to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        Self::new(text)
    }
}

impl Key for PolicyName {
    fn to_text(&self) -> String {
        self.as_str().to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        Self::new(text)
    }
}

impl Key for CertificateId {
    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: &str) -> Option<Self> {
        Self::from_hex(text)
    }
}

/// When and what.
impl<K: Key> Key for (Timestamp, K) {
    fn to_text(&self) -> String {
        format!("{} {}", self.0.millis(), self.1.to_text())
    }

    fn from_text(text: &str) -> Option<Self> {
        let (millis, key) = text.split_once(' ')?;
        let created = Timestamp::from_millis(millis.parse().ok()?);
        Some((created, K::from_text(key)?))
    }
}

impl Parameters {
    pub(super) fn count(self, call: &Call) -> Result<NonZeroUsize, ApiError> {
        let count = read::integer(call, self.size, &PAGE_SIZE)?;
        let count = count.and_then(|count| NonZeroUsize::new(count.try_into().ok()?));
        Ok(count.unwrap_or(DEFAULT_PAGE))
    }

    /// Where the page before ended.
    pub(super) fn after<K: Key>(self, call: &Call) -> Result<Option<K>, ApiError> {
        let Some(token) = call.target.parameter(self.token) else {
            return Ok(None);
        };
        MARKER.check(self.token, token)?;
        let unknown = || read::refused(self.token, "one that this operation gave out");
        decode(token).map(Some).ok_or_else(unknown)
    }

    pub(super) fn by_key<K: Key>(self, call: &Call) -> Result<ByKey<K>, ApiError> {
        Ok(ByKey {
            after: self.after(call)?,
            count: self.count(call)?,
        })
    }

    /// The order is in the query too. Unless told otherwise, the newest come first.
    pub(super) fn by_age<K: Key>(self, call: &Call) -> Result<ByAge<K>, ApiError> {
        Ok(ByAge {
            ascending: read::flag(call, "isAscendingOrder")?,
            after: self.after(call)?,
            count: self.count(call)?,
        })
    }
}

/// The token of the next page; `None` when there is none.
pub(super) fn next<K: Key>(more: bool, last: Option<K>) -> Option<String> {
    let last = last.filter(|_| more)?;
    Some(STANDARD_NO_PAD.encode(format!("{VERSION}{}", last.to_text())))
}

fn decode<K: Key>(token: &str) -> Option<K> {
    let bytes = STANDARD_NO_PAD.decode(token.trim_end_matches('=')).ok()?;
    K::from_text(String::from_utf8(bytes).ok()?.strip_prefix(VERSION)?)
}

const VERSION: char = '1';

/// Of a hundred entries; clients that look at the first page only see most of what they look for.
const DEFAULT_PAGE: NonZeroUsize = NonZeroUsize::new(100).expect("100 > 0");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_lead_back_to_their_key() {
        let thing = ThingName::new(&"x".repeat(128)).unwrap();
        let id = CertificateId::of(b"x");
        let at = Timestamp::from_millis(1_763_900_000_250);
        let token = next(true, Some(thing.clone())).unwrap();
        MARKER.check("nextToken", &token).unwrap();
        assert_eq!(decode(&token), Some(thing.clone()));
        let token = next(true, Some((at, id))).unwrap();
        MARKER.check("marker", &token).unwrap();
        assert_eq!(decode(&token), Some((at, id)));
        assert_eq!(next(false, Some(thing)), None);
        assert_eq!(next::<ThingName>(true, None), None);
    }

    #[test]
    fn tokens_of_another_list_or_of_nobody_are_refused() {
        let of_things = next(true, ThingName::new("a/b").or(ThingName::new("a"))).unwrap();
        assert_eq!(decode::<CertificateId>(&of_things), None);
        assert_eq!(decode::<(Timestamp, PolicyName)>(&of_things), None);
        for token in ["", "A", "MQ", "/w", "MSAg", &STANDARD_NO_PAD.encode("2a")] {
            assert_eq!(decode::<ThingName>(token), None, "{token}");
        }
    }
}
