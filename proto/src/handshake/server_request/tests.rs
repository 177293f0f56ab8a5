use super::*;
use crate::handshake::UpgradeRequest;

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const TOKEN: &str = "access-token: canary-token";
const CLIENT_TOKEN: &str = "client-token: 0123456789abcdef0123456789ABCDEF-";

/// The lines of a good request, by the name that `with` and `without` use.
const GOOD: [&str; 8] = [
    "GET /tunnel?local-proxy-mode=source HTTP/1.1",
    "Host: data.tunneling.example",
    "Upgrade: websocket",
    "Connection: upgrade",
    KEY,
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Protocol: aws.iot.securetunneling-3.0",
    TOKEN,
];

fn request(lines: &[&str]) -> Vec<u8> {
    let mut text = lines.join("\r\n");
    text.push_str("\r\n\r\n");
    text.into_bytes()
}

/// A good request in which the line that starts like `old` is replaced by any number of others.
fn replaced(old: &str, new: &[&str]) -> Vec<u8> {
    assert_eq!(GOOD.iter().filter(|line| line.starts_with(old)).count(), 1);
    let lines: Vec<&str> = GOOD
        .iter()
        .flat_map(|line| match line.starts_with(old) {
            true => new.to_vec(),
            false => vec![*line],
        })
        .collect();
    request(&lines)
}

fn with(line: &str) -> Vec<u8> {
    request(&[&GOOD[..], &[line]].concat())
}

/// Reads a request whole, cut anywhere, and a byte at a time: always the same.
fn parse(bytes: &[u8]) -> Result<Option<(ServerRequest, usize)>, RequestError> {
    fuzz_upgrade_request(bytes);
    let whole = parse_upgrade_request(bytes);
    let mut decided = false;
    for size in 0..bytes.len() {
        let part = parse_upgrade_request(&bytes[..size]);
        assert!(part == Ok(None) || part == whole, "{size} bytes: {part:?}");
        assert!(
            !decided || part == whole,
            "changed its mind at {size} bytes"
        );
        decided = part != Ok(None);
    }
    whole
}

fn accept(bytes: &[u8]) -> ServerRequest {
    let (request, size) = parse(bytes).unwrap().expect("the request is whole");
    assert_eq!(size, bytes.len());
    request
}

fn refuse(bytes: &[u8]) -> RequestError {
    let error = parse(bytes).expect_err("the request is refused");
    assert!((400..500).contains(&error.status()));
    let text = error.to_string();
    assert!(text.len() < 120 && text.is_ascii(), "{text}");
    assert!(text.ends_with('.') && !text.contains("canary"), "{text}");
    error
}

fn malformed(bytes: &[u8]) -> bool {
    matches!(refuse(bytes), RequestError::Head(HeadError::Malformed(_)))
}

#[test]
fn a_good_request_is_read() {
    let request = accept(&request(&GOOD));
    assert_eq!(request.mode, Mode::Source);
    assert_eq!(request.access_token.expose(), "canary-token");
    assert_eq!(request.client_token, None);
    assert_eq!(request.offered, [Subprotocol::V3]);
    assert_eq!(request.key, "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(request.user_agent, None);
    assert!(!format!("{request:?}").contains("canary"));
}

#[test]
fn what_our_client_writes_is_read() {
    let access_token = AccessToken::new("canary-token".into()).unwrap();
    let client_token = ClientToken::strict("a".repeat(32)).unwrap();
    for mode in [Mode::Source, Mode::Destination] {
        for client_token in [None, Some(&client_token)] {
            let sent = UpgradeRequest {
                host: "data.tunneling.example",
                mode,
                subprotocol: Subprotocol::V3.name(),
                access_token: &access_token,
                client_token,
                user_agent: "localproxy test",
                key: *b"the sample nonce",
            };
            let mut bytes = Vec::new();
            sent.encode(&mut bytes).unwrap();
            let read = accept(&bytes);
            assert_eq!(read.mode, mode);
            assert_eq!(read.access_token, access_token);
            assert_eq!(read.client_token.as_ref(), client_token);
            assert_eq!(read.user_agent.as_deref(), Some("localproxy test"));
        }
    }
}

#[test]
fn what_follows_the_request_is_left_alone() {
    let mut bytes = request(&GOOD);
    let size = bytes.len();
    bytes.extend(b"\x89\x80\x01\x02\x03\x04");
    assert_eq!(parse_upgrade_request(&bytes).unwrap().unwrap().1, size);
}

#[test]
fn case_and_space_do_not_matter_where_http_says_so() {
    let bytes = request(&[
        GOOD[0],
        "hOsT:data.tunneling.example",
        "UPGRADE: WebSocket",
        "CONNECTION: keep-alive,\tUpgrade",
        "sec-websocket-key:  dGhlIHNhbXBsZSBub25jZQ==  ",
        "SEC-WEBSOCKET-VERSION:13",
        "sec-websocket-protocol:aws.iot.securetunneling-3.0",
        "ACCESS-TOKEN:\tcanary-token ",
    ]);
    assert_eq!(accept(&bytes).access_token.expose(), "canary-token");
}

#[test]
fn the_path_is_exact() {
    for target in [
        "/",
        "/tunnel/",
        "/Tunnel",
        "//tunnel",
        "/tunnels",
        "http://h/tunnel",
        "*",
    ] {
        let line = format!("GET {target}?local-proxy-mode=source HTTP/1.1");
        assert_eq!(
            refuse(&replaced("GET", &[&line])),
            RequestError::Path,
            "{target}"
        );
    }
    assert_eq!(RequestError::Path.status(), 400);
}

#[test]
fn the_mode_is_there_once_and_known() {
    let ask = |query: &str| replaced("GET", &[&format!("GET /tunnel{query} HTTP/1.1")]);
    for (query, mode) in [
        ("?local-proxy-mode=source", Mode::Source),
        ("?local-proxy-mode=destination", Mode::Destination),
        ("?x=1&local-proxy-mode=destination&y", Mode::Destination),
    ] {
        assert_eq!(accept(&ask(query)).mode, mode);
    }
    for query in [
        "",
        "?",
        "?local-proxy-mode",
        "?local-proxy-mode=",
        "?local-proxy-mode=Source",
        "?local-proxy-mode=both",
        "?Local-Proxy-Mode=source",
        "?xlocal-proxy-mode=source",
        "?local-proxy-mode=source&local-proxy-mode=source",
        "?local-proxy-mode=source&local-proxy-mode=destination",
        "?local-proxy-mode=source#",
    ] {
        assert_eq!(refuse(&ask(query)), RequestError::Mode, "{query}");
    }
}

#[test]
fn only_get_and_http_1_1() {
    for method in ["POST", "get", "HEAD", "CONNECT"] {
        let line = format!("{method} /tunnel?local-proxy-mode=source HTTP/1.1");
        assert_eq!(refuse(&replaced("GET", &[&line])), RequestError::Method);
    }
    let old = "GET /tunnel?local-proxy-mode=source HTTP/1.0";
    assert_eq!(refuse(&replaced("GET", &[old])), RequestError::HttpVersion);
    assert!(malformed(&replaced(
        "GET",
        &["GET /tunnel?local-proxy-mode=source HTTP/2.0"]
    )));
    assert!(malformed(&replaced(
        "GET",
        &["GET /tunnel?local-proxy-mode=source"]
    )));
    assert!(malformed(&replaced(
        "GET",
        &["GET /tunnel?local-proxy-mode=source  HTTP/1.1"]
    )));
}

#[test]
fn one_host() {
    assert_eq!(refuse(&replaced("Host", &[])), RequestError::Host);
    assert_eq!(refuse(&with("Host: other")), RequestError::Host);
}

#[test]
fn an_upgrade_says_so_twice() {
    for (name, bad) in [
        ("Upgrade", "Upgrade: h2c"),
        ("Upgrade", "Upgrade: websockets"),
        ("Connection", "Connection: keep-alive"),
        ("Connection", "Connection: upgraded"),
    ] {
        assert_eq!(
            refuse(&replaced(name, &[bad])),
            RequestError::Upgrade,
            "{bad}"
        );
        assert_eq!(
            refuse(&replaced(name, &[])),
            RequestError::Upgrade,
            "no {name}"
        );
    }
    let split = replaced(
        "Connection",
        &["Connection: keep-alive", "Connection: , Upgrade"],
    );
    accept(&split);
    assert_eq!(RequestError::Upgrade.status(), 426);
}

#[test]
fn version_13_once() {
    let name = "Sec-WebSocket-Version";
    for bad in [
        &[][..],
        &["Sec-WebSocket-Version: 8"],
        &["Sec-WebSocket-Version: 13, 8"],
    ] {
        assert_eq!(refuse(&replaced(name, bad)), RequestError::WebSocketVersion);
    }
    let twice = with("Sec-WebSocket-Version: 13");
    assert_eq!(refuse(&twice), RequestError::WebSocketVersion);
}

#[test]
fn one_key_of_16_bytes() {
    for bad in [
        &[][..],
        &["Sec-WebSocket-Key:"],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, x"],
        &[KEY, KEY],
    ] {
        let bytes = replaced("Sec-WebSocket-Key", bad);
        assert_eq!(refuse(&bytes), RequestError::WebSocketKey, "{bad:?}");
    }
}

#[test]
fn known_subprotocols_are_picked_out_in_order() {
    use Subprotocol::*;
    let name = "Sec-WebSocket-Protocol";
    for (lines, offered) in [
        (
            &["Sec-WebSocket-Protocol: aws.iot.securetunneling-1.0"][..],
            &[V1][..],
        ),
        (
            &[
                "Sec-WebSocket-Protocol: mqtt,aws.iot.securetunneling-2.0 , ,aws.iot.securetunneling-3.0",
            ],
            &[V2, V3],
        ),
        (
            &[
                "Sec-WebSocket-Protocol: aws.iot.securetunneling-3.0,aws.iot.securetunneling-3.0",
                "Sec-WebSocket-Protocol: aws.iot.securetunneling-1.0",
            ],
            &[V3, V1],
        ),
    ] {
        assert_eq!(accept(&replaced(name, lines)).offered, offered);
    }
    for bad in [
        &[][..],
        &["Sec-WebSocket-Protocol:"],
        &["Sec-WebSocket-Protocol: aws.iot.securetunneling-4.0"],
        &["Sec-WebSocket-Protocol: AWS.IOT.SECURETUNNELING-3.0"],
        &["Sec-WebSocket-Protocol: aws.iot.securetunneling-3.0 aws.iot.securetunneling-2.0"],
    ] {
        assert_eq!(
            refuse(&replaced(name, bad)),
            RequestError::Subprotocol,
            "{bad:?}"
        );
    }
}

#[test]
fn the_access_token_may_come_as_a_cookie() {
    for cookie in [
        "Cookie: awsiot-tunnel-token=canary-token",
        "Cookie: a=b; awsiot-tunnel-token=canary-token;c=d",
        "cookie: xawsiot-tunnel-token=no; awsiot-tunnel-token=canary-token",
    ] {
        let request = accept(&replaced("access-token", &[cookie]));
        assert_eq!(request.access_token.expose(), "canary-token");
    }
    let two_headers = ["Cookie: a=b", "Cookie: awsiot-tunnel-token=canary-token=="];
    let request = accept(&replaced("access-token", &two_headers));
    assert_eq!(request.access_token.expose(), "canary-token==");
}

#[test]
fn exactly_one_access_token_in_total() {
    for none in [
        &[][..],
        &["Cookie: a=b"],
        &["Cookie: awsiot-tunnel-token"],
        &["Cookie: AWSIOT-TUNNEL-TOKEN=canary"],
        &["Cookie: awsiot-tunnel-token2=canary"],
    ] {
        let bytes = replaced("access-token", none);
        assert_eq!(refuse(&bytes), RequestError::AccessTokenMissing, "{none:?}");
    }
    for second in [
        "access-token: canary-token",
        "Access-Token: canary-2",
        "access-token:",
        "Cookie: awsiot-tunnel-token=canary-token",
        "Cookie: a=b;awsiot-tunnel-token=",
    ] {
        assert_eq!(
            refuse(&with(second)),
            RequestError::AccessTokenRepeated,
            "{second}"
        );
    }
    let cookies = "Cookie: awsiot-tunnel-token=canary; awsiot-tunnel-token=canary";
    let bytes = replaced("access-token", &[cookies]);
    assert_eq!(refuse(&bytes), RequestError::AccessTokenRepeated);
}

#[test]
fn access_tokens_have_a_shape() {
    for bad in [
        "access-token:",
        "access-token: canary\u{e9}",
        "access-token: a\tb",
    ] {
        let bytes = replaced("access-token", &[bad]);
        assert!(
            matches!(refuse(&bytes), RequestError::AccessToken(_)),
            "{bad:?}"
        );
    }
}

#[test]
fn at_most_one_client_token_of_the_documented_shape() {
    let token = accept(&with(CLIENT_TOKEN)).client_token.unwrap();
    assert_eq!(token.expose(), "0123456789abcdef0123456789ABCDEF-");
    let twice = request(&[&GOOD[..], &[CLIENT_TOKEN, CLIENT_TOKEN]].concat());
    assert_eq!(refuse(&twice), RequestError::ClientTokenRepeated);
    let (short, long) = ("a".repeat(31), "a".repeat(129));
    let list = format!("{0}, {0}", "a".repeat(40));
    for bad in ["", &short, &long, &list, &"a_".repeat(20)] {
        let error = refuse(&with(&format!("client-token: {bad}")));
        assert!(matches!(error, RequestError::ClientToken(_)), "{bad}");
    }
}

#[test]
fn no_body() {
    for bad in [
        "Content-Length: 1",
        "Content-Length: 00",
        "Content-Length: -1",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
    ] {
        assert_eq!(refuse(&with(bad)), RequestError::Body, "{bad}");
    }
    accept(&with("Content-Length: 0"));
}

#[test]
fn folded_lines_and_odd_names_are_refused() {
    for bad in [
        "X-A: 1\r\n folded",
        "X-A: 1\r\n\tfolded",
        "X A: 1",
        "X-A : 1",
        ": 1",
        "X-A",
    ] {
        assert!(malformed(&with(bad)), "{bad:?}");
    }
    assert!(malformed(b"\r\n\r\n"));
    assert!(malformed(&with("X-A: \0")));
    assert!(malformed(&with("X-A: \x1b[2J")));
}

/// Threat T-20: each of 256 bytes in a header value makes one header of it, or an error.
#[test]
fn no_byte_in_a_value_starts_another_header() {
    for byte in 0..=255 {
        let bytes = [&b"User-Agent: a"[..], &[byte], b"access-token: second"].concat();
        let line = request(&GOOD);
        let head = [&line[..line.len() - 2], &bytes, b"\r\n\r\n"].concat();
        if let Ok(Some((request, _))) = parse_upgrade_request(&head) {
            let agent = request.user_agent.expect("all of it is the value");
            assert!(agent.ends_with("access-token: second"), "{byte}");
            assert!(!agent.contains(char::is_control), "{byte}");
        }
    }
}

#[test]
fn half_line_ends_are_refused() {
    let good = String::from_utf8(request(&GOOD)).unwrap();
    for bad in [
        good.replacen("\r\n", "\n", 1),
        good.replacen("\r\n", "\r", 1),
        good.replace("\r\n", "\n"),
        good.replacen("\r\n\r\n", "\r\n\n", 1),
    ] {
        assert_eq!(
            refuse(bad.as_bytes()),
            RequestError::Head(HeadError::LineBreak)
        );
    }
}

#[test]
fn the_whole_request_has_at_most_4096_bytes() {
    let padding = |size: usize| {
        let frame = with("X-Padding: ").len();
        with(&format!("X-Padding: {}", "x".repeat(size - frame)))
    };
    accept(&padding(4096));
    let error = refuse(&padding(4097));
    assert_eq!(error, RequestError::Head(HeadError::TooLong { max: 4096 }));
    assert_eq!(error.status(), 431);
    // No line end at all: refused as soon as the limit is reached.
    assert_eq!(parse_upgrade_request(&[b'x'; 4095]), Ok(None));
    assert!(parse_upgrade_request(&[b'x'; 4096]).is_err());
}

#[test]
fn at_most_64_headers() {
    let lines = |count: usize| request(&[&GOOD[..], &vec!["X-A: 1"; count - 7]].concat());
    accept(&lines(64));
    let error = refuse(&lines(65));
    assert_eq!(error, RequestError::Head(HeadError::TooManyFields));
    assert_eq!(error.status(), 431);
}

#[test]
fn a_user_agent_is_escaped() {
    let request = accept(&with("User-Agent: caf\u{e9} \u{202e}x"));
    assert_eq!(request.user_agent.as_deref(), Some("caf\u{e9} \\u{202e}x"));
}

#[test]
fn other_protocols_are_not_waited_for() {
    // TLS on a plain port: a ClientHello has an LF soon enough, or reaches the limit.
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x0a";
    assert!(parse_upgrade_request(hello).is_err());
}
