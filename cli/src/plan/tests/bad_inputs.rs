//! Every bad input that the specification names, and more, against both personalities.

use super::*;
use crate::exit::ExitCode;
use proptest::prelude::*;

/// One line of `bad_inputs.txt`.
#[derive(Clone, Copy)]
struct Row {
    section: &'static str,
    arguments: &'static str,
    message: &'static str,
    hint: &'static str,
    reference: &'static str,
}

impl Row {
    fn line(&self) -> String {
        self.arguments.replace("{BEL}", "\x07")
    }
}

fn rows() -> Vec<Row> {
    let mut section = "";
    let mut rows = Vec::new();
    for line in include_str!("bad_inputs.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = name;
            continue;
        }
        let mut columns = line.split('|').map(str::trim);
        let mut column = || columns.next().unwrap_or_default();
        rows.push(Row {
            section,
            arguments: column(),
            message: column(),
            hint: column(),
            reference: column(),
        });
        assert_eq!(columns.next(), None, "{line}");
    }
    rows
}

fn bench() -> Bench {
    let bench = Bench::new()
        .file("unknown.conf", "\nregin = x")
        .file("region.conf", "region = EU")
        .file("mapping.conf", "source-listen-port = 0")
        .file("io.conf", "io = kqueue")
        .file("bad.json", "{,}")
        .file(
            "format.json",
            r#"{"tunneling":{"proxy":{"endpoint_format":"https://%s"}}}"#,
        );
    let shared = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(bench.directory.path().join("map/services"), shared).unwrap();
    bench
}

#[test]
fn adit_names_the_option_and_gives_a_hint() {
    let bench = bench();
    let rows = rows();
    assert!(rows.len() >= 95, "{}", rows.len());
    for row in rows {
        let line = row.line();
        let fault = match bench.plan(Adit, &line) {
            Err(refusal) => refusal.fault,
            Ok(plan) => panic!("{line:?} is accepted: {plan:?}"),
        };
        assert!(fault.message().contains(row.message), "{line:?}: {fault:?}");
        assert!(fault.hint().contains(row.hint), "{line:?}: {fault:?}");
        assert!(!fault.hint().is_empty(), "{line:?}: {fault:?}");
        let report = fault.report();
        assert!(
            report.starts_with("error: ") && report.contains("\nhint: "),
            "{report}"
        );
        assert_eq!(report.lines().count(), 2, "{report}");
        let code = match row.section {
            "files" => ExitCode::BadConfiguration,
            _ => ExitCode::Usage,
        };
        assert_eq!(fault.code(), code, "{line:?}");
    }
}

#[test]
fn localproxy_says_the_references_sentence() {
    let bench = bench();
    let rows = rows().into_iter().filter(|row| row.section != "own");
    let mut count = 0;
    for row in rows {
        let line = row.line();
        if row.reference == "accepted" {
            let plan = bench.plan(Localproxy, &line);
            assert!(
                plan.is_ok(),
                "{line:?} is accepted by the reference: {plan:?}"
            );
            continue;
        }
        let fault = bench.plan(Localproxy, &line).unwrap_err().fault;
        // What is wrong with JSON is said in the words of its parser.
        let text = fault.reference_text().split(": key must").next().unwrap();
        assert_eq!(text, row.reference, "{line:?}");
        match row.section {
            "usage" => assert_eq!(fault.class(), Class::Usage, "{line:?}"),
            "fatal" => assert_eq!(fault.class(), Class::Fatal, "{line:?}"),
            _ => {}
        }
        assert_eq!(fault.code().number(Localproxy), 1, "{line:?}");
        assert!(fault.explanation().starts_with("hint: "));
        count += 1;
    }
    assert!(count >= 75, "{count}");
}

#[test]
fn a_bad_value_in_a_file_is_the_files_fault() {
    let fault = bench()
        .plan(Adit, "-e h -s 1 --config io.conf")
        .unwrap_err()
        .fault;
    assert_eq!(
        fault.message(),
        "io.conf:1: io: `kqueue` is no kernel interface"
    );
    assert_eq!(fault.code(), ExitCode::BadConfiguration);
}

#[test]
fn long_values_hit_their_limits() {
    let bench = bench();
    for (option, size, reference) in [
        ("-t ", 4_096, "Access token exceeds maximum allowed length"),
        ("-e ", 253, "Proxy endpoint exceeds maximum allowed length"),
        ("-r ", 64, "Region exceeds maximum allowed length"),
        ("-b ", 253, "Bind address exceeds maximum allowed length"),
        ("-c ", 4_096, "Path exceeds maximum allowed length"),
        (
            "-i ",
            128,
            "Client token must be between 32 and 128 characters",
        ),
        ("-s ./", 105, "Path exceeds maximum allowed length"),
    ] {
        let endpoint = match option {
            "-e " | "-r " => "",
            _ => "-e h",
        };
        let side = if option.starts_with("-s") { "" } else { "-s 1" };
        let line = |size: usize| format!("{endpoint} {side} {option}{}", "a".repeat(size));
        let fits = bench.plan(Localproxy, &line(size));
        assert!(fits.is_ok(), "{option}: {fits:?}");
        for personality in [Adit, Localproxy] {
            let fault = bench.plan(personality, &line(size + 1)).unwrap_err().fault;
            assert_eq!(fault.reference_text(), reference);
            assert!(!fault.message().contains(&"a".repeat(40)), "{fault:?}");
        }
    }
}

#[test]
fn without_a_token_that_is_the_first_complaint() {
    let bench = Bench::without_token();
    for line in ["", "-r a -e b", "-s 1 -d 2 -m bogus"] {
        let fault = bench.plan(Localproxy, line).unwrap_err().fault;
        assert_eq!(
            fault.reference_text(),
            "the option '--access-token' is required but missing"
        );
        assert_eq!(fault.class(), Class::Usage);
        let fault = bench.plan(Adit, line).unwrap_err().fault;
        assert!(fault.message().contains("no access token"), "{fault:?}");
        assert!(fault.hint().contains("--access-token-file"));
    }
}

#[test]
fn options_of_ours_are_unknown_to_localproxy() {
    let bench = bench();
    for row in OPTIONS.iter().filter(|row| row.own) {
        let line = format!("--{}=1", row.long);
        let fault = bench.plan(Localproxy, &line).unwrap_err().fault;
        let text = format!("unrecognised option '--{}'", row.long);
        assert_eq!(fault.reference_text(), text);
    }
}

#[test]
fn variables_count_for_the_cross_checks() {
    let bench = Bench::new().variable("AWSIOT_TUNNEL_REGION", "eu-west-1");
    let fault = bench.plan(Localproxy, "-e h -s 1").unwrap_err().fault;
    assert_eq!(
        fault.reference_text(),
        "Must specify one and only one of --region/-r or --proxy-endpoint/-e options"
    );
    let fault = bench.plan(Adit, "-e h -s 1").unwrap_err().fault;
    assert!(
        fault
            .message()
            .contains("AWSIOT_TUNNEL_REGION and --proxy-endpoint"),
        "{fault:?}"
    );
}

#[test]
fn bad_variables_are_named_as_variables() {
    let bench = Bench::new().variable("AWSIOT_TUNNEL_ENDPOINT", "wss://h");
    let fault = bench.plan(Adit, "-s 1").unwrap_err().fault;
    assert!(
        fault.message().starts_with("AWSIOT_TUNNEL_ENDPOINT: "),
        "{fault:?}"
    );
}

#[test]
fn stray_words_are_ignored_as_localproxy_only() {
    let bench = bench();
    assert!(bench.plan(Localproxy, "-e h stray -s 1 more").is_ok());
    assert!(bench.plan(Adit, "-e h stray -s 1 more").is_err());
}

#[test]
fn refused_inputs_leave_the_references_warning() {
    let bench = bench();
    for (line, warning) in [
        (
            "-r EU -s 1",
            "SECURITY: Rejected input for 'region': invalid format",
        ),
        (
            "-e h! -s 1",
            "SECURITY: Rejected input for 'proxy-endpoint': invalid characters",
        ),
        (
            "-e h -s 1 -t ''",
            "SECURITY: Rejected input for 'access-token': empty token",
        ),
        (
            "-e h -s 1 -i x",
            "SECURITY: Rejected input for 'client-token': invalid length (must be 32-128 chars)",
        ),
        (
            "-e h -s 0",
            "SECURITY: Rejected input for 'port': out of valid range",
        ),
        (
            "-e h -s a.b=1",
            "SECURITY: Rejected input for 'service-id': invalid characters",
        ),
        (
            "-e h -s 1 -b a_b",
            "SECURITY: Rejected input for 'bind-address': invalid characters",
        ),
        (
            "-e h -s 1 -c ''",
            "SECURITY: Rejected input for 'path': empty path",
        ),
    ] {
        let fault = bench.plan(Localproxy, line).unwrap_err().fault;
        assert_eq!(fault.rejection().as_deref(), Some(warning), "{line}");
    }
}

/// Words that get a random command line past the first checks.
fn word() -> impl Strategy<Value = OsString> {
    let known: Vec<String> = OPTIONS
        .iter()
        .flat_map(|row| {
            let short = row.short.map(|short| format!("-{short}"));
            [Some(format!("--{}", row.long)), short]
        })
        .flatten()
        .chain(
            [
                "proxy",
                "serve",
                "demo",
                "eu-west-1",
                "h:1",
                "5555",
                "A=1,B=[::1]:2",
                "V1",
                "src",
                "map",
                "token",
                "conf",
                "s.json",
                "-",
                "--",
                "=",
                "-kv",
                "--acc=x",
                "0",
                "1s",
                "stdio:",
            ]
            .map(str::to_owned),
        )
        .collect();
    prop_oneof![
        4 => proptest::sample::select(known).prop_map(OsString::from),
        1 => "\\PC{0,12}".prop_map(OsString::from),
        1 => "-{0,2}[a-z-]{0,8}=?[ -~]{0,6}".prop_map(OsString::from),
        1 => proptest::collection::vec(any::<u8>(), 0..8)
            .prop_map(std::os::unix::ffi::OsStringExt::from_vec),
    ]
}

proptest! {
    /// Whatever the arguments are, there is a plan or a sentence, and the sentence is one line.
    #[test]
    fn no_command_line_panics(words in proptest::collection::vec(word(), 0..8), adit: bool) {
        let directory = tempfile::tempdir().unwrap();
        let mut world = world(directory.path());
        let personality = if adit { Adit } else { Localproxy };
        if let Err(refusal) = plan(personality, &words, &mut world) {
            let fault = refusal.fault;
            for text in [fault.message(), fault.hint(), fault.reference_text()] {
                prop_assert!(!text.chars().any(char::is_control), "{text:?}");
            }
            prop_assert_ne!(fault.code().number(personality), 0);
        }
    }

    /// The same for the contents of a file.
    #[test]
    fn no_configuration_file_panics(text in "(\\PC{0,20}[=\n#]?){0,6}") {
        let bench = Bench::new().file("conf", &text).file("s.json", &text).file("map/x", &text);
        for line in ["-s 1 --config conf", "-s 1 --settings-json s.json", "-m src --config-dir map"] {
            let _ = bench.plan(Adit, &format!("-e h {line}"));
        }
    }
}
