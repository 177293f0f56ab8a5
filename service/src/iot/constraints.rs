//! The scalar constraints of the registry's model.

use std::ops::RangeInclusive;

use crate::api::constraints::{Text, text};
use crate::registry::{CERTIFICATE_PEM_SIZE_MAX, POLICY_DOCUMENT_SIZE_MAX};

pub(super) use crate::api::constraints::THING_NAME;

/// Types have the names that things have.
pub(super) static THING_TYPE_NAME: &Text = &THING_NAME;
pub(super) static ATTRIBUTE_NAME: Text =
    text!(1..=128, "[a-zA-Z0-9_.,@/:#-]+", "^[a-zA-Z0-9_.,@/:#-]+$");
pub(super) static ATTRIBUTE_VALUE: Text = text!(
    0..=800,
    r"[a-zA-Z0-9_.,@/:#=\[\]-]*",
    r"^[a-zA-Z0-9_.,@/:#=\[\]-]*$"
);
pub(super) static CERTIFICATE_ID: Text = text!(64..=64, "(0x)?[a-fA-F0-9]+", "^[a-fA-F0-9]+$");
/// The model's `\w`, in ASCII, as ARNs have to be.
pub(super) static POLICY_NAME: Text = text!(1..=128, r"[\w+=,.@-]+", "^[a-zA-Z0-9_+=,.@-]+$");
pub(super) static POLICY_DOCUMENT: Text =
    text!(0..=POLICY_DOCUMENT_SIZE_MAX, r"[\s\S]*", r"^[\s\S]*$");
pub(super) static SIGNING_REQUEST: Text = text!(1..=4096, r"[\s\S]*", r"^[\s\S]*$");
pub(super) static CERTIFICATE_PEM: Text =
    text!(1..=CERTIFICATE_PEM_SIZE_MAX, r"[\s\S]*", r"^[\s\S]*$");
pub(super) static RESOURCE_NAME: Text = text!(1..=2048, r"[\s\S]*", r"^[\s\S]*$");
pub(super) static MARKER: Text = text!(1..=1024, "[A-Za-z0-9+/]+={0,2}", "^[A-Za-z0-9+/]+={0,2}$");

pub(super) const PAGE_SIZE: RangeInclusive<i64> = 1..=250;
pub(super) const VERSION: RangeInclusive<i64> = 0..=i64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_their_alphabet_and_nothing_else() {
        for byte in 0..=127u8 {
            let c = char::from(byte);
            let text = format!("a{c}");
            let fits = |rule: &Text| rule.check("x", &text).is_ok();
            let letter = c.is_ascii_alphanumeric();
            assert_eq!(fits(&ATTRIBUTE_NAME), letter || "_.,@/:#-".contains(c));
            assert_eq!(fits(&ATTRIBUTE_VALUE), letter || "_.,@/:#=[]-".contains(c));
            assert_eq!(fits(&POLICY_NAME), letter || "_+=,.@-".contains(c));
            assert_eq!(fits(&MARKER), letter || "+/=".contains(c), "{c:?}");
        }
        for (rule, min, max) in [
            (&ATTRIBUTE_NAME, 1, 128),
            (&ATTRIBUTE_VALUE, 0, 800),
            (&POLICY_NAME, 1, 128),
            (&CERTIFICATE_ID, 64, 64),
        ] {
            for (size, good) in [(min, true), (max, true), (max + 1, false)] {
                let fits = rule.check("x", &"a".repeat(size)).is_ok();
                assert_eq!(fits, good, "{size}");
            }
            assert_eq!(rule.check("x", "").is_ok(), min == 0);
        }
    }
}
