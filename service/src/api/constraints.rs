//! The scalar constraints of the API (control-plane specification, section 3.1).

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use regex::Regex;

use super::error::ApiError;

/// What a text member has to be.
pub(crate) struct Text {
    /// In characters.
    size: RangeInclusive<usize>,
    /// As the service model writes it, which is how a refusal quotes it.
    pattern: &'static str,
    compiled: LazyLock<Regex>,
}

impl Text {
    /// For [`text!`] alone, which gives a pattern that compiles.
    pub(crate) const fn new(
        size: RangeInclusive<usize>,
        pattern: &'static str,
        compile: fn() -> Regex,
    ) -> Self {
        Self {
            size,
            pattern,
            compiled: LazyLock::new(compile),
        }
    }
}

/// A [`Text`]: its size, and its pattern as the model and as the regex crate writes it.
macro_rules! text {
    ($size:expr, $pattern:literal, $regex:literal) => {
        $crate::api::constraints::Text::new($size, $pattern, || {
            ::regex::Regex::new($regex).expect("a pattern of the model")
        })
    };
}
pub(crate) use text;

pub(crate) static TUNNEL_ID: Text = text!(
    1..=128,
    r"[a-zA-Z0-9_\-+=:]{1,128}",
    r"^[a-zA-Z0-9_\-+=:]+$"
);
pub(crate) static THING_NAME: Text = text!(1..=128, "[a-zA-Z0-9:_-]+", "^[a-zA-Z0-9:_-]+$");
pub(crate) static SERVICE: Text = text!(1..=128, "[a-zA-Z0-9:_-]+", "^[a-zA-Z0-9:_-]+$");
pub(crate) static DESCRIPTION: Text = text!(1..=2048, r"[^\p{C}]{1,2048}", r"^[^\p{C}]+$");
pub(crate) static NEXT_TOKEN: Text = text!(1..=4096, "[a-zA-Z0-9_=-]{1,4096}", "^[a-zA-Z0-9_=-]+$");
pub(crate) static RESOURCE_NAME: Text = text!(1..=1011, ".*", "(?s)^.*$");
pub(crate) static TAG_KEY: Text = text!(
    1..=128,
    r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$",
    r"^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$"
);
pub(crate) static TAG_VALUE: Text = text!(
    0..=256,
    r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$",
    r"^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$"
);

pub(crate) const MAX_RESULTS: RangeInclusive<i64> = 1..=100;
pub(crate) const LIFETIME_MINUTES: RangeInclusive<i64> = 1..=720;
/// The upper bound of services is a quota, not a constraint.
pub(crate) const SERVICE_LIST: RangeInclusive<usize> = 1..=usize::MAX;
pub(crate) const TAG_LIST: RangeInclusive<usize> = 1..=200;
pub(crate) const TAG_KEY_LIST: RangeInclusive<usize> = 0..=200;

impl Text {
    pub(crate) fn check(&self, path: &str, text: &str) -> Result<(), ApiError> {
        check_size(path, text.chars().count(), &self.size)?;
        if !self.compiled.is_match(text) {
            let pattern = self.pattern;
            let constraint = format!("Member must satisfy regular expression pattern: {pattern}");
            return Err(ApiError::constraint(path, &constraint));
        }
        Ok(())
    }
}

/// The length of a text in characters, or of a list in items.
pub(crate) fn check_size(
    path: &str,
    size: usize,
    allowed: &RangeInclusive<usize>,
) -> Result<(), ApiError> {
    check_bounds(path, size, allowed, "length")
}

/// A number.
pub(crate) fn check_value(
    path: &str,
    value: i64,
    allowed: &RangeInclusive<i64>,
) -> Result<(), ApiError> {
    check_bounds(path, value, allowed, "value")
}

fn check_bounds<T: PartialOrd + std::fmt::Display>(
    path: &str,
    value: T,
    allowed: &RangeInclusive<T>,
    what: &str,
) -> Result<(), ApiError> {
    let (bound, direction) = if value < *allowed.start() {
        (allowed.start(), "greater")
    } else if value > *allowed.end() {
        (allowed.end(), "less")
    } else {
        return Ok(());
    };
    let constraint = format!("Member must have {what} {direction} than or equal to {bound}");
    Err(ApiError::constraint(path, &constraint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(constraint: &Text, text: &str) -> bool {
        constraint.check("x", text).is_ok()
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        for (constraint, min, max) in [
            (&TUNNEL_ID, 1, 128),
            (&THING_NAME, 1, 128),
            (&SERVICE, 1, 128),
            (&DESCRIPTION, 1, 2048),
            (&NEXT_TOKEN, 1, 4096),
            (&RESOURCE_NAME, 1, 1011),
            (&TAG_KEY, 1, 128),
            (&TAG_VALUE, 0, 256),
        ] {
            for (size, good) in [(min, true), (max, true), (max + 1, false)] {
                assert_eq!(fits(constraint, &"a".repeat(size)), good, "{size}");
            }
            assert_eq!(fits(constraint, ""), min == 0);
        }
        assert!(fits(&DESCRIPTION, &"🚇".repeat(2048)));
        assert!(fits(&TAG_KEY, &"ключ".repeat(32)));
    }

    #[test]
    fn ids_take_their_alphabet_and_nothing_else() {
        for byte in 0..=127u8 {
            let c = char::from(byte);
            let text = format!("a{c}");
            let common = c.is_ascii_alphanumeric() || c == '_' || c == '-';
            assert_eq!(
                fits(&TUNNEL_ID, &text),
                common || "+=:".contains(c),
                "{c:?}"
            );
            assert_eq!(fits(&THING_NAME, &text), common || c == ':', "{c:?}");
            assert_eq!(fits(&SERVICE, &text), common || c == ':', "{c:?}");
            assert_eq!(fits(&NEXT_TOKEN, &text), common || c == '=', "{c:?}");
        }
        assert!(!fits(&THING_NAME, "gerät"));
    }

    #[test]
    fn descriptions_take_everything_but_control_and_unassigned_characters() {
        for good in ["a b", "é", "漢字", "🚇", "\u{2028}", "<&>\"\\"] {
            assert!(fits(&DESCRIPTION, good), "{good:?}");
        }
        // Cc, Cf, Co, Cn.
        for bad in [
            "a\n", "\0", "\u{7f}", "\u{85}", "\u{200b}", "\u{e000}", "\u{378}",
        ] {
            assert!(!fits(&DESCRIPTION, bad), "{bad:?}");
        }
    }

    #[test]
    fn tags_take_letters_numbers_separators_and_some_signs() {
        for good in [
            "a_.:/=+-@",
            "Überschrift 1",
            "²",
            "Ⅷ",
            "a\u{a0}b",
            "\u{2029}",
        ] {
            assert!(fits(&TAG_KEY, good) && fits(&TAG_VALUE, good), "{good:?}");
        }
        for bad in ["#", "a*b", "a\tb", "a\nb", "🚇", "e\u{301}", "a,b", "\""] {
            assert!(!fits(&TAG_KEY, bad) && !fits(&TAG_VALUE, bad), "{bad:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_member_and_the_bound_but_not_the_value() {
        let error = TAG_KEY.check("tags.1.member.key", "secret\n").unwrap_err();
        assert!(error.message.contains("'tags.1.member.key'"), "{error:?}");
        assert!(!error.message.contains("secret"), "{error:?}");
        let error = check_value("maxResults", 101, &MAX_RESULTS).unwrap_err();
        assert_eq!(
            error.message,
            "1 validation error detected: Value at 'maxResults' failed to satisfy constraint: \
             Member must have value less than or equal to 100"
        );
    }
}
