//! The heads of an upgrade, between a suite that knows nothing of tunnels and a program that does.

use adit_tests::http::Head;

/// The same head with this first line, and with these fields for all that only tunnels have.
pub(crate) fn changed(head: &Head, start_line: &str, fields: &[(&str, &str)]) -> String {
    let kept = head.headers.iter().filter(|(name, _)| {
        let mut of_tunnels = OF_TUNNELS.iter();
        !of_tunnels.any(|other| name.eq_ignore_ascii_case(other))
    });
    let kept = kept.map(|(name, value)| (name.as_str(), value.as_str()));
    let mut text = format!("{start_line}\r\n");
    for (name, value) in kept.chain(fields.iter().copied()) {
        text += &format!("{name}: {value}\r\n");
    }
    text + "\r\n"
}

const OF_TUNNELS: [&str; 4] = [
    "sec-websocket-protocol",
    "access-token",
    "client-token",
    "channel-id",
];
