//! `Sec-WebSocket-Key` and the answer that proves it was read (RFC 6455 §1.3).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A client's key as the header carries it: 24 characters.
pub fn encode_key(key: &[u8; 16]) -> String {
    STANDARD.encode(key)
}

/// The `Sec-WebSocket-Accept` value for a `Sec-WebSocket-Key` value, as it was on the wire.
pub fn accept_key(key: &str) -> String {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, [key, GUID].concat().as_bytes());
    STANDARD.encode(digest)
}

/// Whether a header value is a key: 16 bytes in base64.
pub(super) fn is_key(value: &[u8]) -> bool {
    value.len() == KEY_TEXT_SIZE && STANDARD.decode(value).is_ok_and(|key| key.len() == 16)
}

const KEY_TEXT_SIZE: usize = 24;
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_6455() {
        assert_eq!(encode_key(b"the sample nonce"), "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(
            accept_key("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn a_key_is_16_bytes_in_base64() {
        assert!(is_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        for size in 0..40 {
            let text = STANDARD.encode(vec![7; size]);
            assert_eq!(is_key(text.as_bytes()), size == 16, "{size}");
        }
        for bad in [
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZ===",
            "dGhlIHNhbXBsZSB*b25jZQ==",
        ] {
            assert!(!is_key(bad.as_bytes()), "{bad}");
        }
    }
}
