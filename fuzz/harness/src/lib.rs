//! What is fuzzed: the table of targets, one that needs a second WebSocket library, and a mutator for
//! machines without a fuzzer.
//!
//! The fuzzed functions stand beside the code that they test, as `fuzz_*`, and are compiled always, so
//! that they cannot rot; no program calls them, so the linker leaves them out. This crate is *not* a
//! part of any program. The fuzzer's own crate is one directory up, outside of the workspace: it has a
//! few lines for each row of [`TARGETS`]. `cargo test` replays the corpora without it.

#![forbid(unsafe_code)]

mod differential;
pub mod mutate;

/// One thing to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Of its directory in `fuzz/corpus` and its program in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Panics when it finds something wrong.
    pub run: fn(&[u8]),
}

impl Target {
    const fn new(name: &'static str, run: fn(&[u8])) -> Self {
        Self { name, run }
    }
}

/// All of them.
pub const TARGETS: [Target; 25] = [
    Target::new("frames", adit_proto::websocket::fuzz_frames),
    Target::new("frames_tungstenite", differential::fuzz_frames),
    Target::new("messages", adit_proto::framing::fuzz_messages),
    Target::new("message", adit_proto::message::fuzz_parse),
    Target::new("message_rewrite", adit_proto::message::fuzz_rewrite),
    Target::new(
        "upgrade_request",
        adit_proto::handshake::fuzz_upgrade_request,
    ),
    Target::new(
        "upgrade_response",
        adit_proto::handshake::fuzz_upgrade_response,
    ),
    Target::new("connect_reply", adit_proto::handshake::fuzz_connect_reply),
    Target::new("tokens", adit_proto::handshake::fuzz_tokens),
    Target::new("notification", adit_proto::notification::fuzz_notification),
    Target::new("mapping", adit_engine::tunnel::mapping::fuzz_mapping),
    Target::new("web_proxy", adit_engine::link::fuzz_web_proxy),
    Target::new("tls_records", adit_engine::tls::fuzz_records),
    Target::new("source", adit_engine::tunnel::fuzzing::fuzz_source),
    Target::new(
        "destination",
        adit_engine::tunnel::fuzzing::fuzz_destination,
    ),
    Target::new("relay", adit_engine::tunnel::fuzzing::fuzz_relay),
    Target::new("signature", adit_service::access::sigv4::fuzz_signature),
    Target::new("policy", adit_service::access::policy::fuzz_policy),
    Target::new("mqtt_packets", adit_service::mqtt::fuzz_packets),
    Target::new("settings_json", adit_cli::settings::json::fuzz_settings),
    Target::new("config_file", adit_cli::args::file::fuzz_config_file),
    Target::new(
        "services_file",
        adit_cli::settings::config_dir::fuzz_services_file,
    ),
    Target::new("agent_config", adit_cli::agent::config::fuzz_agent_config),
    Target::new("aws_profiles", adit_cli::aws::fuzz_profiles),
    Target::new("agent_ledger", adit_cli::agent::fuzz_ledger),
];

/// The function of the target of this name: in a `const`, so that a program holds what it fuzzes and nothing
/// else, and the fuzzer looks through no counters that its target cannot move.
///
/// # Panics
/// When there is none.
#[must_use]
pub const fn target(name: &str) -> fn(&[u8]) {
    let mut at = 0;
    while at < TARGETS.len() {
        if same(TARGETS[at].name, name) {
            return TARGETS[at].run;
        }
        at += 1;
    }
    panic!("there is no target of this name");
}

/// `==`, which no constant may use.
const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}
