//! Secrets, and the signing keys that are derived from them.

use std::fmt;

use adit_proto::Secret;
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::authorization::Scope;
use super::moment::Moment;
use super::{ALGORITHM, TERMINATOR};
use crate::token::sha256;

/// What a client signs with. `Debug` shows the public half only.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: Secret,
    /// Goes with every request, for keys that have one.
    pub session_token: Option<Secret>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// The signature of a canonical request: 64 lower-case hexadecimal digits.
pub(super) fn signature(
    secret: &Secret,
    scope: &Scope,
    moment: Moment,
    canonical_request: &str,
) -> String {
    let digest = hex(&sha256(&[canonical_request.as_bytes()]));
    let to_sign = format!("{ALGORITHM}\n{moment}\n{scope}\n{digest}");
    let key = signing_key(secret, scope);
    hex(&*mac(&*key, to_sign.as_bytes()))
}

/// Good for one day, region and service.
fn signing_key(secret: &Secret, scope: &Scope) -> Zeroizing<[u8; 32]> {
    let mut first = Zeroizing::new(Vec::with_capacity(4 + secret.expose().len()));
    first.extend_from_slice(b"AWS4");
    first.extend_from_slice(secret.expose().as_bytes());
    let mut key = mac(&first, scope.date.as_bytes());
    for part in [&*scope.region, &*scope.service, TERMINATOR] {
        key = mac(&*key, part.as_bytes());
    }
    key
}

fn mac(key: &[u8], message: &[u8]) -> Zeroizing<[u8; 32]> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    Zeroizing::new(*tag.as_ref().first_chunk().expect("SHA-256 has 32 bytes"))
}

/// Lower case.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    let digits = |byte: &u8| [digit(byte >> 4), digit(byte & 15)];
    bytes.iter().flat_map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_public_example() {
        // The worked example that AWS publishes for the derivation of signing keys.
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned());
        let scope = Scope {
            date: "20120215".to_owned(),
            region: "us-east-1".to_owned(),
            service: "iam".to_owned(),
        };
        assert_eq!(
            hex(&*signing_key(&secret, &scope)),
            "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d"
        );
    }

    #[test]
    fn the_secret_is_not_printed() {
        let credentials = Credentials {
            access_key_id: "AK".to_owned(),
            secret_access_key: Secret::new("canary".to_owned()),
            session_token: Some(Secret::new("canary".to_owned())),
        };
        let printed = format!("{credentials:?}");
        assert!(
            printed.contains("AK") && !printed.contains("canary"),
            "{printed}"
        );
    }
}
