//! TLS alerts by number (RFC 8446 §6, and the numbers older versions used).

/// The name of an alert, `unknown` if it has none.
pub(super) fn alert_name(code: u8) -> &'static str {
    match code {
        CLOSE_NOTIFY => "close notify",
        UNEXPECTED_MESSAGE => "unexpected message",
        BAD_RECORD_MAC => "bad record",
        RECORD_OVERFLOW => "record overflow",
        40 => "handshake failure",
        42 => "bad certificate",
        43 => "unsupported certificate",
        44 => "certificate revoked",
        45 => "certificate expired",
        46 => "certificate unknown",
        ILLEGAL_PARAMETER => "illegal parameter",
        48 => "unknown authority",
        49 => "access denied",
        DECODE_ERROR => "decode error",
        51 => "decrypt error",
        70 => "protocol version",
        71 => "insufficient security",
        INTERNAL_ERROR => "internal error",
        86 => "inappropriate fallback",
        USER_CANCELED => "user canceled",
        100 => "no renegotiation",
        109 => "missing extension",
        110 => "unsupported extension",
        112 => "unrecognized name",
        113 => "bad certificate status",
        115 => "unknown key identity",
        116 => "certificate required",
        120 => "no application protocol",
        _ => "unknown",
    }
}

pub(super) const CLOSE_NOTIFY: u8 = 0;
pub(super) const UNEXPECTED_MESSAGE: u8 = 10;
pub(super) const BAD_RECORD_MAC: u8 = 20;
pub(super) const RECORD_OVERFLOW: u8 = 22;
pub(super) const ILLEGAL_PARAMETER: u8 = 47;
pub(super) const DECODE_ERROR: u8 = 50;
pub(super) const INTERNAL_ERROR: u8 = 80;
pub(super) const USER_CANCELED: u8 = 90;
