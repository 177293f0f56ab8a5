//! A ledger as JSON.
//!
//! ```json
//! {"format": 1,
//!  "tunnels": [{"accessToken": "…", "clientToken": "…", "region": "eu-west-1", "services": ["SSH"], "ends": 1767225600000}],
//!  "seen": [["<SHA-256 of a token, hexadecimal>", 1767225600000]]}
//! ```

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::{AccessToken, ClientToken, Ledger, Millis, Record, SEEN_MAX, Seen, TokenHash};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    tunnels: Vec<WrittenTunnel>,
    seen: Vec<(String, Millis)>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WrittenTunnel {
    access_token: String,
    client_token: String,
    region: String,
    services: Vec<String>,
    ends: Millis,
}

impl Drop for WrittenTunnel {
    fn drop(&mut self) {
        self.access_token.zeroize();
        self.client_token.zeroize();
    }
}

/// The whole ledger. Holds tokens.
pub(super) fn encode(ledger: &Ledger) -> Zeroizing<Vec<u8>> {
    let tunnels = ledger.tunnels.iter().map(|tunnel| WrittenTunnel {
        access_token: tunnel.access_token.expose().to_owned(),
        client_token: tunnel.client_token.expose().to_owned(),
        region: tunnel.region.to_string(),
        services: tunnel.services.iter().map(ToString::to_string).collect(),
        ends: tunnel.ends,
    });
    let written = Written {
        format: FORMAT,
        tunnels: tunnels.collect(),
        seen: ledger
            .seen
            .iter()
            .map(|seen| (hex(seen.hash), seen.until))
            .collect(),
    };
    let size = 256 + ledger.tunnels.len() * TUNNEL_SIZE_MAX + ledger.seen.len() * SEEN_SIZE;
    // Never grown, so that no copy of a token stays in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size));
    serde_json::to_writer(&mut *bytes, &written)
        .expect("texts and numbers are JSON, and memory takes any");
    bytes
}

/// Reads a ledger. The error says what is wrong without a byte of the text.
pub(super) fn decode(text: &str) -> Result<Ledger, String> {
    let written: Written = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("line {line}, column {column} is not what was written there")
    })?;
    if written.format != FORMAT {
        return Err(format!("it has format {}, not {FORMAT}", written.format));
    }
    let mut ledger = Ledger::default();
    for (index, tunnel) in written.tunnels.iter().enumerate() {
        let record = record(tunnel).ok_or_else(|| format!("tunnels[{index}] cannot be used"))?;
        ledger.tunnels.push(record);
    }
    for (index, (hash, until)) in written.seen.iter().take(SEEN_MAX).enumerate() {
        let hash = unhex(hash).ok_or_else(|| format!("seen[{index}] is no hash"))?;
        let until = *until;
        ledger.seen.push_back(Seen { hash, until });
    }
    Ok(ledger)
}

fn record(written: &WrittenTunnel) -> Option<Record> {
    let services = written.services.iter().map(|name| name.parse().ok());
    Some(Record {
        access_token: AccessToken::new(written.access_token.clone()).ok()?,
        client_token: ClientToken::strict(written.client_token.clone()).ok()?,
        region: written.region.parse().ok()?,
        services: services.collect::<Option<_>>()?,
        ends: written.ends,
    })
}

fn hex(hash: TokenHash) -> String {
    hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<TokenHash> {
    let digits = text.as_bytes();
    let mut hash = TokenHash([0; 32]);
    if digits.len() != 2 * hash.0.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in hash.0.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

const FORMAT: u32 = 1;

/// Tokens, every character escaped, and the most and longest service ids, in bytes.
const TUNNEL_SIZE_MAX: usize = 2 * (4_096 + 128) + 128 * 131 + 256;
/// A hash, a number, and what is around them.
const SEEN_SIZE: usize = 64 + 20 + 8;

/// Largest file: as many tunnels as any configuration allows.
pub(super) const FILE_SIZE_MAX: u64 = (1_000 * TUNNEL_SIZE_MAX + SEEN_MAX * SEEN_SIZE + 256) as u64;

/// Reads a ledger of any bytes: what was read is written, and read again, as the same.
pub fn fuzz_ledger(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match decode(&text) {
        Ok(ledger) => {
            assert!(ledger.seen.len() <= SEEN_MAX);
            let written = encode(&ledger);
            let again = std::str::from_utf8(&written).map(decode);
            let again = again.expect("JSON is UTF-8").expect("our own writing");
            assert_eq!(encode(&again)[..], written[..]);
        }
        Err(problem) => assert!(!problem.contains(char::is_control)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{client_token, notification};
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for token in ["a", "b"] {
            ledger
                .admit(notification(token), client_token(), 20, 7)
                .unwrap();
        }
        ledger.end(TokenHash::of(&notification("a").access_token));
        ledger
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = encode(&ledger());
        let text = std::str::from_utf8(&bytes).unwrap();
        assert_eq!(decode(text).unwrap(), ledger());
        assert_eq!(
            decode(std::str::from_utf8(&encode(&Ledger::default())).unwrap()),
            Ok(Ledger::default())
        );
    }

    #[test]
    fn the_token_of_a_tunnel_that_ended_is_not_written() {
        let bytes = encode(&ledger());
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(text.contains(r#""accessToken":"b""#), "{text}");
        assert!(!text.contains(r#""accessToken":"a""#), "{text}");
    }

    #[test]
    fn the_largest_tunnel_fits_its_bound() {
        let mut largest = notification("x");
        largest.access_token = AccessToken::new("\\".repeat(4_096)).unwrap();
        largest.services = (0..128)
            .map(|index| format!("{index:0>128}").parse().unwrap())
            .collect();
        let mut ledger = Ledger::default();
        ledger
            .admit(largest, client_token(), 1, u64::MAX - 1)
            .unwrap();
        let bytes = encode(&ledger);
        assert!(
            bytes.len() <= 256 + TUNNEL_SIZE_MAX + SEEN_SIZE,
            "{}",
            bytes.len()
        );
    }

    #[test]
    fn damage_is_told_without_a_byte_of_it() {
        let good = encode(&ledger());
        let good = std::str::from_utf8(&good).unwrap();
        for (bad, problem) in [
            (String::new(), "line 1"),
            (good.replace("\"format\":1", "\"format\":2"), "format 2"),
            (good[..good.len() / 2].to_owned(), "line 1"),
            (good.replace("\"b\"", "\"\""), "tunnels[0]"),
            (good.replace("[[\"", "[[\"x"), "seen[0]"),
            (good.replace("\"region\"", "\"reg\""), "line 1"),
        ] {
            let error = decode(&bad).unwrap_err();
            assert!(error.contains(problem), "{error}");
            assert!(!error.contains("ccc"), "{error}");
        }
    }
}
