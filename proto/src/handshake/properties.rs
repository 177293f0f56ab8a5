//! Properties over damaged handshakes: whatever comes, a verdict is sound and does not depend on how
//! the bytes were cut.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{
    fuzz_connect_reply, fuzz_tokens, fuzz_upgrade_request, fuzz_upgrade_response,
    parse_connect_reply, parse_upgrade_request, parse_upgrade_response,
};

const REQUEST: &str = "GET /tunnel?local-proxy-mode=source HTTP/1.1\r\n\
    Host: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Protocol: aws.iot.securetunneling-3.0\r\naccess-token: t\r\n\r\n";

const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    sec-websocket-protocol: aws.iot.securetunneling-3.0\r\n\r\n";

const REFUSED: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\n\r\nhello";

const CHUNKED: &str = "HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n\
    3\r\nhel\r\n2;x\r\nlo\r\n0\r\n\r\n";

const CONNECTED: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nVia: x\r\n\r\n";

/// One of the handshakes with up to four bytes or pieces changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let handshake = prop::sample::select(vec![REQUEST, ACCEPTED, REFUSED, CHUNKED, CONNECTED]);
    let piece = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"\r\n\r\n".to_vec()),
        Just(b"Content-Length: 3\r\n".to_vec()),
        Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        Just(b",;:= ".to_vec()),
        vec(any::<u8>(), 0..3),
    ];
    let changes = vec((any::<Index>(), 0..3usize, piece), 0..=4);
    (handshake, changes).prop_map(|(handshake, changes)| {
        let mut bytes = handshake.as_bytes().to_vec();
        for (at, removed, piece) in changes {
            let start = at.index(bytes.len() + 1);
            let end = (start + removed).min(bytes.len());
            bytes.splice(start..end, piece);
        }
        bytes
    })
}

/// Once a prefix has a verdict, every longer one has the same.
fn is_stable<T: PartialEq, E: PartialEq>(
    bytes: &[u8],
    parse: impl Fn(&[u8]) -> Result<Option<T>, E>,
) -> bool {
    let whole = parse(bytes);
    (0..bytes.len())
        .map(|size| parse(&bytes[..size]))
        .skip_while(|part| matches!(part, Ok(None)))
        .all(|part| part == whole)
}

proptest! {
    #[test]
    fn requests(bytes in damaged()) {
        fuzz_upgrade_request(&bytes);
        prop_assert!(is_stable(&bytes, parse_upgrade_request));
    }

    #[test]
    fn responses(bytes in damaged()) {
        fuzz_upgrade_response(&bytes);
        prop_assert!(is_stable(&bytes, |part| parse_upgrade_response(part, b"the sample nonce")));
    }

    #[test]
    fn connect_replies(bytes in damaged()) {
        fuzz_connect_reply(&bytes);
        prop_assert!(is_stable(&bytes, parse_connect_reply));
    }

    #[test]
    fn tokens(
        text in prop_oneof![
            "[!-~]{1,9}\n([a-zA-Z0-9-]{32,40})?\n[!-~]{1,9}\n[ -~]{0,9}",
            "[ -~é]{0,9}\n[ -~é]{0,40}\n[ -~\t]{0,9}\n[ -~\r]{0,9}",
        ],
    ) {
        fuzz_tokens(text.as_bytes());
    }
}

#[test]
fn the_undamaged_ones_are_good() {
    assert!(matches!(
        parse_upgrade_request(REQUEST.as_bytes()),
        Ok(Some(_))
    ));
    for response in [ACCEPTED, REFUSED, CHUNKED] {
        let parsed = parse_upgrade_response(response.as_bytes(), b"the sample nonce");
        assert!(matches!(parsed, Ok(Some(_))), "{response}");
    }
    assert!(matches!(
        parse_connect_reply(CONNECTED.as_bytes()),
        Ok(Some((200, _)))
    ));
}
