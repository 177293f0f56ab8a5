use super::*;
use crate::fault::Class;
use crate::world::testing::world;
use adit_engine::ring::IoChoice;
use adit_proto::{Dialect, Mode};
use std::fs;
use std::time::Duration;
use tempfile::TempDir;

mod bad_inputs;
mod serve;

use Personality::{Adit, Localproxy};

/// A directory with these files in it:
/// `token` (private), `ca/`, `map/services`, `empty/`.
struct Bench {
    directory: TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["ca", "map", "empty"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("map/services"), "SSH = 22\n").unwrap();
        fs::write(path("token"), "token-from-file\n").unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(path("token"), private).unwrap();
        Self {
            directory,
            variables: vec![("AWSIOT_TUNNEL_ACCESS_TOKEN", "token".into())],
        }
    }

    fn without_token() -> Self {
        Self {
            variables: Vec::new(),
            ..Self::new()
        }
    }

    fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.directory.path().join(name), text).unwrap();
        self
    }

    fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// The words of a line as arguments; `''` is an empty one. `proxy` is put in front for `adit`.
    fn plan(&self, personality: Personality, line: &str) -> Result<Plan, Refusal> {
        let mut arguments: Vec<OsString> = line
            .split_whitespace()
            .map(|word| if word == "''" { "" } else { word })
            .map(OsString::from)
            .collect();
        if personality == Adit {
            arguments.insert(0, "proxy".into());
        }
        let mut world = world(self.directory.path());
        for (name, value) in &self.variables {
            world.variables.insert((*name).to_owned(), value.into());
        }
        plan(personality, &arguments, &mut world)
    }

    fn settings(&self, personality: Personality, line: &str) -> (ProxySettings, Vec<String>) {
        match self.plan(personality, line) {
            Ok(Plan {
                job: Job::Proxy(settings),
                warnings,
                ..
            }) => (*settings, warnings),
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn the_shortest_invocation_has_these_settings() {
    for personality in [Adit, Localproxy] {
        let bench = Bench::new();
        let (settings, warnings) = bench.settings(personality, "-r eu-west-1 -s 5555");
        assert_eq!(settings.personality, personality);
        assert_eq!(settings.mode, Mode::Source);
        assert_eq!(settings.local_host, "localhost");
        assert_eq!(
            settings.service.to_string(),
            "data.tunneling.iot.eu-west-1.amazonaws.com:443"
        );
        assert_eq!(settings.access_token.expose(), "token");
        assert_eq!(settings.client_token.expose().len(), 64);
        assert_eq!(settings.dialect, None);
        assert!(settings.tls.verify && settings.tls.ca_path.is_none());
        assert_eq!(settings.web_proxy, None);
        assert_eq!(settings.payload_size_max, 64_512);
        assert_eq!(settings.io, IoChoice::Auto);
        assert_eq!(settings.retries.service_max, None);
        assert_eq!(settings.retries.service_delay, Duration::from_millis(2_500));
        assert!(settings.retries.reconnect);
        assert_eq!(warnings, Vec::<String>::new());
    }
}

#[test]
fn a_destination_dials_this_machine_unless_told_otherwise() {
    let bench = Bench::new();
    let host = |line: &str| bench.settings(Localproxy, line).0.local_host;
    assert_eq!(host("-e h -d 22"), "127.0.0.1");
    assert_eq!(host("-e h -d 22 -b 10.0.0.1"), "10.0.0.1");
    assert_eq!(host("-e h -d 22 -b [::1]"), "::1");
    assert_eq!(host("-e h -s 22 -b ::"), "::");
    assert_eq!(host("-e h -s 22 -b ''"), "localhost");
}

#[test]
fn the_command_line_wins_over_the_file_and_the_file_over_the_environment() {
    let bench = Bench::new()
        .variable("AWSIOT_TUNNEL_ENDPOINT", "from-environment")
        .file(
            "conf",
            "proxy-endpoint = from-file\nsource-listen-port = 1\nverbose = 5",
        );
    let host = |line: &str| bench.settings(Adit, line).0.service.host;
    assert_eq!(host("-s 1"), "from-environment");
    assert_eq!(host("--config conf"), "from-file");
    assert_eq!(host("--config conf -e from-line"), "from-line");
    let verbosity = |line: &str| bench.plan(Localproxy, line).unwrap().log.verbosity.0;
    assert_eq!(verbosity("-s 1"), 4);
    assert_eq!(verbosity("--config conf"), 5);
    assert_eq!(verbosity("--config conf -v -1"), 65_535);
}

#[test]
fn a_mode_can_stand_in_any_form() {
    let bench = Bench::new();
    for (word, mode) in [
        ("src", Mode::Source),
        ("source", Mode::Source),
        ("dst", Mode::Destination),
        ("destination", Mode::Destination),
    ] {
        let line = format!("-e h -m {word} --config-dir map");
        let (settings, warnings) = bench.settings(Localproxy, &line);
        assert_eq!(settings.mode, mode);
        assert_eq!(warnings, Vec::<String>::new());
        let services = ["SSH".parse().unwrap()];
        let resolved = settings.mapping.resolve(mode, &services).unwrap();
        assert_eq!(resolved[0].1.to_string(), "22");
    }
}

#[test]
fn an_empty_mapping_says_the_mode_and_leaves_the_rest_to_files() {
    let bench = Bench::new();
    let (settings, _) = bench.settings(Localproxy, "-e h -s '' --config-dir map");
    assert_eq!(settings.mode, Mode::Source);
    assert!(!settings.mapping.is_direct() && !settings.mapping.is_empty());
    let (settings, _) = bench.settings(Adit, "-e h -m src");
    assert!(settings.mapping.is_empty());
}

#[test]
fn risky_choices_are_warned_of() {
    let bench = Bench::new();
    for (personality, line, word) in [
        (Adit, "-e h -s 1 -k", "CERTIFICATE CHECKS ARE OFF"),
        (Localproxy, "-e h -s 1 -k", "CERTIFICATE CHECKS ARE OFF"),
        (Adit, "-e h -s 1 -t x", "AWSIOT_TUNNEL_ACCESS_TOKEN"),
        (
            Localproxy,
            "-e h -s 1 -t x",
            "Found access token supplied via CLI arg",
        ),
        (Localproxy, "-e h -s 1 -y v1", "V3 is assumed"),
        (Localproxy, "-e h -s 1 -c none", "no directory"),
        (Adit, "-e h -s A=1,A=2", "A is mapped more than once"),
    ] {
        let (_, warnings) = bench.settings(personality, line);
        assert!(
            warnings.len() == 1 && warnings[0].contains(word),
            "{line}: {warnings:?}"
        );
    }
}

#[test]
fn warnings_of_files_come_through() {
    let bench = Bench::new()
        .file(
            "s.json",
            r#"{"tunneling":{"proxy":{"tcp":{"max_active_connections":"x"}}}}"#,
        )
        .file("conf", "config = other")
        .file("map/bad", "no assignment");
    let line = "-e h -m src --settings-json s.json --config conf --config-dir map";
    let (_, warnings) = bench.settings(Adit, line);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].contains("conf:1: config has no effect"));
    assert!(warnings[1].contains("tcp.max_active_connections"));
    assert!(warnings[2].contains("bad:1: the line has no `=`"));
}

#[test]
fn the_dialect_can_be_forced() {
    let bench = Bench::new();
    let dialect = |personality, word: &str| {
        let line = format!("-e h -s 1 -y {word}");
        bench.settings(personality, &line).0.dialect
    };
    assert_eq!(dialect(Adit, "V1"), Some(Dialect::V1));
    assert_eq!(dialect(Localproxy, "V2"), Some(Dialect::V2));
    assert_eq!(dialect(Adit, "V3"), Some(Dialect::V3));
    assert_eq!(dialect(Localproxy, "v2"), None);
}

#[test]
fn settings_files_reach_the_settings_and_options_beat_them() {
    let bench = Bench::new().file(
        "s.json",
        r#"{"tunneling": {"proxy": {
            "default_bind_address": "0.0.0.0",
            "tcp": {"max_active_connections": 7, "connection_retry_count": "-1"},
            "websocket": {"ping_period_ms": "200", "connect_retry_count": 2}}}}"#,
    );
    let (settings, _) = bench.settings(Localproxy, "-e h -s 1 --settings-json s.json");
    assert_eq!(settings.local_host, "0.0.0.0");
    // Per service, as the reference means it; the limit over all of them is ours.
    assert_eq!(settings.limits.service_connections_max, Some(7));
    assert_eq!(settings.limits.connections_max, 16_384);
    assert_eq!(settings.limits.ping_interval, Duration::from_millis(200));
    assert_eq!(settings.retries.service_max, Some(2));
    assert_eq!(settings.retries.local_max, None);
    let line =
        "-e h -s 1 -b ::1 --settings-json s.json --max-connections 9 --ping-interval 1s --io epoll";
    let (settings, _) = bench.settings(Adit, line);
    assert_eq!(settings.local_host, "::1");
    assert_eq!(settings.limits.connections_max, 9);
    assert_eq!(settings.limits.service_connections_max, Some(7));
    assert_eq!(settings.limits.ping_interval, Duration::from_secs(1));
    assert_eq!(settings.io, IoChoice::Epoll);
}

/// What `--export-default-settings` writes says nothing that would not hold without it.
#[test]
fn the_exported_defaults_change_nothing() {
    let bench = Bench::new().file("s.json", &json::export());
    for line in ["-e h -s 1", "-e h -d 1"] {
        let (mut plain, _) = bench.settings(Adit, line);
        let (loaded, warnings) = bench.settings(Adit, &format!("{line} --settings-json s.json"));
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(loaded.retries, plain.retries);
        // The file's limit is per service; it is as high as the one over all services.
        let max = plain.limits.connections_max;
        assert_eq!(plain.limits.service_connections_max.replace(max), None);
        assert_eq!(loaded.limits, plain.limits);
        assert_eq!(loaded.local_host, plain.local_host);
        assert_eq!(loaded.payload_size_max, plain.payload_size_max);
        assert_eq!(loaded.subprotocol, plain.subprotocol);
    }
}

#[test]
fn the_web_proxy_is_the_first_variable_that_is_set() {
    let line = "-e h -s 1";
    let proxy = |bench: Bench| {
        let settings = bench.settings(Adit, line).0;
        settings
            .web_proxy
            .map(|proxy| (proxy.variable, proxy.url.expose().to_owned()))
    };
    let both = Bench::new()
        .variable("https_proxy", "http://low")
        .variable("HTTPS_PROXY", "http://up");
    assert_eq!(proxy(both), Some(("https_proxy", "http://low".to_owned())));
    let upper = Bench::new().variable("HTTPS_PROXY", "http://up");
    assert_eq!(proxy(upper), Some(("HTTPS_PROXY", "http://up".to_owned())));
    let none = Bench::new()
        .variable("https_proxy", "")
        .variable("HTTPS_PROXY", "http://up");
    assert_eq!(proxy(none), None);
    let others = Bench::new()
        .variable("http_proxy", "http://a")
        .variable("ALL_PROXY", "http://b");
    assert_eq!(proxy(others), None);
}

#[test]
fn stdio_takes_standard_input_for_itself() {
    let bench = Bench::without_token();
    let (settings, _) = bench.settings(Adit, "-e h -s stdio: --access-token-file token");
    assert!(settings.mapping.is_stdio());
    let refusal = bench
        .plan(Adit, "-e h -s stdio: --access-token-file -")
        .unwrap_err();
    assert!(
        refusal.fault.message().contains("standard input"),
        "{refusal:?}"
    );
}

#[test]
fn help_version_and_export_need_nothing_else() {
    let bench = Bench::without_token();
    let shown = |line: &str| match bench.plan(Localproxy, line).unwrap().job {
        Job::ShowAside(text) => text,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(shown("-V"), "");
    assert_eq!(shown("--help --version"), "");
    let help = shown("-h -r a -e b");
    assert!(help.contains("-h [ --help ]") && help.contains("Show help message"));
    for row in OPTIONS {
        assert_eq!(
            help.contains(&format!("--{}", row.long)),
            !row.own,
            "{}",
            row.long
        );
    }
    for personality in [Adit, Localproxy] {
        let line = "--export-default-settings out.json";
        let Job::Export { path, text } = bench.plan(personality, line).unwrap().job else {
            panic!("{personality:?}");
        };
        assert_eq!((path.as_str(), text), ("out.json", json::export()));
    }
}

#[test]
fn levels_are_read_as_boost_reads_them() {
    let bench = Bench::new();
    let level = |personality, word: &str| {
        let line = format!("-e h -s 1 --verbose={word}");
        bench
            .plan(personality, &line)
            .map(|plan| plan.log.verbosity.0)
            .ok()
    };
    for (word, number) in [
        ("0", Some(0)),
        ("6", Some(6)),
        ("007", Some(7)),
        ("65535", Some(65_535)),
        ("-1", Some(65_535)),
        ("-0", Some(0)),
        ("+5", Some(5)),
        ("65536", None),
        ("-65536", None),
        ("4.0", None),
        ("0x5", None),
        ("-", None),
        ("info", None),
    ] {
        assert_eq!(level(Localproxy, word), number, "{word}");
    }
    assert_eq!(level(Adit, "5"), Some(5));
    assert_eq!(level(Adit, "-1"), None);
}

#[test]
fn no_debug_output_shows_a_secret() {
    let bench = Bench::without_token().variable("https_proxy", "http://u:canary@h");
    let line = format!("-e h -s 1 -t canary-a -i {}", "canary-b".repeat(5));
    let plan = bench.plan(Adit, &line).unwrap();
    assert!(!format!("{plan:?}").contains("canary"), "{plan:?}");
}
