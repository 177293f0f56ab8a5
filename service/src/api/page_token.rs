//! `nextToken`: where a list goes on, opaque to the client.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::ApiError;
use crate::tunnels::Cursor;

pub(super) fn encode(cursor: Cursor) -> String {
    let mut bytes = [VERSION; 9];
    bytes[1..].copy_from_slice(&cursor.to_bits().to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn decode(token: &str) -> Result<Cursor, ApiError> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    match bytes.as_deref() {
        Some([VERSION, rest @ ..]) if let Ok(bits) = rest.try_into() => {
            Ok(Cursor::from_bits(u64::from_be_bytes(bits)))
        }
        _ => Err(ApiError::validation(
            "nextToken is not one that this service gave out",
        )),
    }
}

const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::super::constraints::NEXT_TOKEN;
    use super::*;

    #[test]
    fn tokens_lead_back_to_their_cursor() {
        for bits in [0, 1, 62, 63, 0xdead_beef, u64::MAX] {
            let token = encode(Cursor::from_bits(bits));
            NEXT_TOKEN.check("nextToken", &token).unwrap();
            assert_eq!(decode(&token), Ok(Cursor::from_bits(bits)));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let token = encode(Cursor::from_bits(7));
        for other in ["a", "=", "AAAA", &token[1..], &format!("{token}AAAA")] {
            assert!(decode(other).is_err(), "{other}");
        }
        assert!(decode(&token.replacen("AQ", "Ag", 1)).is_err());
    }
}
