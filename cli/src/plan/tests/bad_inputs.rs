//! Every bad input that the specification names, and more, against both personalities.

use super::*;
use crate::exit::ExitCode;
use proptest::prelude::*;

/// Where the reference accepts it.
const ACCEPTED: &str = "";

/// Line, what our message contains, what our hint contains, the reference's sentence.
type Row = (&'static str, &'static str, &'static str, &'static str);

const ENDPOINT: &str =
    "Must specify one and only one of --region/-r or --proxy-endpoint/-e options";
const SIDE: &str =
    "Must specify one and only one of --source-listen-port/-s or --destination-app/-d";
const MODE: &str = "Must specify one of --source-listen-port/-s or --destination-app/-d or --mode";
const MODES: &str = "Mode value is wrong! Allowed values are: src, dst, source, destination";
const PORT: &str = "Port must be between 1 and 65535";
const MAPPINGS: &str = "Wrong format for the port mappings! Example: SSH1=5555,SSH2=6666.";
const HOSTS: &str = "Bind address contains invalid characters";
const SERVICES: &str =
    "Service ID must contain only alphanumeric characters, hyphens, and underscores";

/// Reported as usage errors by both.
const USAGE: &[Row] = &[
    (
        "-s 5555",
        "neither a region nor an endpoint",
        "--region",
        ENDPOINT,
    ),
    (
        "-r a -e b -s 5555",
        "--region and --proxy-endpoint are both",
        "either",
        ENDPOINT,
    ),
    (
        "-r a -s 1 -d 2",
        "--source-listen-port and --destination-app",
        "one side",
        SIDE,
    ),
    (
        "-r a -s 1 -d 2 -m src",
        "--source-listen-port and --destination-app",
        "one side",
        SIDE,
    ),
    ("-r a", "which side", "-s MAPPING", MODE),
    (
        "-r a -m bogus",
        "--mode: `bogus` is no mode",
        "src, source, dst",
        MODES,
    ),
    (
        "-r a -m Source",
        "--mode: `Source` is no mode",
        "src, source, dst",
        MODES,
    ),
    (
        "-r a -m ''",
        "--mode: `` is no mode",
        "src, source, dst",
        MODES,
    ),
    (
        "-r a -s 5555 -m dst",
        "--source-listen-port does not go with mode destination",
        "leave out --mode",
        "-s and --mode have mismatched mode. Mode is set to destination!",
    ),
    (
        "-r a -d 22 -m source",
        "--destination-app does not go with mode source",
        "leave out --mode",
        "-d and --mode have mismatched mode. Mode is set to source!",
    ),
    ("-Z", "no option -Z", "", "unrecognised option '-Z'"),
    (
        "--zone=1",
        "no option --zone",
        "",
        "unrecognised option '--zone'",
    ),
    (
        "-v",
        "--verbose needs a value",
        "",
        "the required argument for option '--verbose' is missing",
    ),
    (
        "-t",
        "--access-token needs a value",
        "",
        "the required argument for option '--access-token' is missing",
    ),
    (
        "-v x -r a -s 1",
        "--verbose: `x` is no level",
        "6 trace",
        "the argument ('x') for option '--verbose' is invalid",
    ),
    (
        "-v 65536 -r a -s 1",
        "--verbose: `65536` is no level",
        "6 trace",
        "the argument ('65536') for option '--verbose' is invalid",
    ),
    (
        "-r a -r a -s 1",
        "--region is given more than once",
        "keep one",
        "option '--region' cannot be specified more than once",
    ),
    (
        "-k -k",
        "--no-ssl-host-verify is given more than once",
        "keep one",
        "option '--no-ssl-host-verify' cannot be specified more than once",
    ),
    (
        "--no-ssl-host-verify=yes",
        "--no-ssl-host-verify takes no value",
        "alone",
        "option '--no-ssl-host-verify' does not take any arguments",
    ),
];

/// Fatal errors of the reference.
const FATAL: &[Row] = &[
    (
        "-r '' -s 1",
        "--region: the region is empty",
        "eu-west-1",
        "Region cannot be empty",
    ),
    (
        "-r EU -s 1",
        "--region: `EU` has something else than lower-case",
        "--proxy-endpoint",
        "Region must contain only lowercase letters, numbers, and hyphens",
    ),
    (
        "-r a.b -s 1",
        "--region: `a.b`",
        "eu-west-1",
        "Region must contain only lowercase letters, numbers, and hyphens",
    ),
    (
        "-e '' -s 1",
        "--proxy-endpoint: the endpoint is empty",
        "HOST:PORT",
        "Proxy endpoint cannot be empty",
    ),
    (
        "-e wss://h -s 1",
        "`wss://h` has a character",
        "without `wss://`",
        "Proxy endpoint contains invalid characters",
    ),
    (
        "-e h_1 -s 1",
        "`h_1` has a character",
        "HOST:PORT",
        "Proxy endpoint contains invalid characters",
    ),
    (
        "-e h: -s 1",
        "`h:`: port `` is not a number",
        "HOST:PORT",
        "Invalid endpoint specified: h:",
    ),
    (
        "-e H:x -s 1",
        "`H:x`: port `x` is not a number",
        "HOST:PORT",
        "Invalid endpoint specified: h:x",
    ),
    (
        "-e h:65536 -s 1",
        "port 65536 is above 65535",
        "HOST:PORT",
        "Invalid endpoint specified: h:65536",
    ),
    (
        "-e ::1 -s 1",
        "`::1`: an IPv6 address needs brackets",
        "[IPV6]",
        "Invalid endpoint specified: ::1",
    ),
    (
        "-e [::1 -s 1",
        "the bracket is not closed",
        "[IPV6]",
        "Invalid endpoint specified: [::1",
    ),
    (
        "-e :443 -s 1",
        "there is no host",
        "HOST:PORT",
        "Invalid endpoint specified: :443",
    ),
    (
        "-e h:0 -s 1",
        "port 0 cannot be connected to",
        "HOST:PORT",
        ACCEPTED,
    ),
    (
        "-e h -s 1 -t ''",
        "--access-token: the access token is empty",
        "1 to 4096",
        "Access token cannot be empty",
    ),
    (
        "-e h -s 1 -t a\x07",
        "control character",
        "printable",
        "Access token contains invalid control characters",
    ),
    (
        "-e h -s 1 -t é",
        "outside ASCII",
        "printable",
        "Access token contains invalid control characters",
    ),
    (
        "-e h -s 1 -i short",
        "--client-token: client token of 5 bytes",
        "32 to 128",
        "Client token must be between 32 and 128 characters",
    ),
    (
        "-e h -s 1 -i !aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "--client-token: client token has a character",
        "letters, digits and hyphens",
        ACCEPTED,
    ),
    (
        "-e h -s 1 -b a_b",
        "--local-bind-address: `a_b`",
        "localhost",
        HOSTS,
    ),
    (
        "-e h -s 1 -b a/b",
        "--local-bind-address: `a/b`",
        "0.0.0.0",
        HOSTS,
    ),
    (
        "-e h -s 1 -c ''",
        "--capath: the path is empty",
        "PEM",
        "Path cannot be empty",
    ),
    (
        "-e h -s 1 -c none",
        "--capath: `none` is no directory",
        "PEM",
        ACCEPTED,
    ),
    (
        "-e h -s 1 -y v1",
        "--destination-client-type: `v1` is no version",
        "V1, V2 and V3",
        ACCEPTED,
    ),
    // Section 11.1.
    (
        "-e h -s 22,23",
        "`22` names no service",
        "-s SSH=5555",
        MAPPINGS,
    ),
    (
        "-e h -d A=1,22",
        "`22` names no service",
        "-d SSH=22",
        MAPPINGS,
    ),
    (
        "-e h -s =22",
        "`=22` names no service",
        "-s SSH=5555",
        "Wrong format for the port mappings: =22 .Example: SSH1=5555",
    ),
    (
        "-e h -s A=",
        "in `A=`: the endpoint is empty",
        "PORT",
        "Wrong format for the port mappings: A= .Example: SSH1=5555",
    ),
    (
        "-e h -s a.b=22",
        "service id has a character",
        "letters, digits",
        SERVICES,
    ),
    (
        "-e h -s a+b=22",
        "service id has a character",
        "first `=`",
        SERVICES,
    ),
    // Section 11.2.
    (
        "-e h -s 0",
        "port 0 is outside 1 to 65535",
        "1 to 65535",
        PORT,
    ),
    ("-e h -d 65536", "port 65536 is outside", "1 to 65535", PORT),
    ("-e h -d h:0", "port 0 is outside", "1 to 65535", PORT),
    (
        "-e h -s h:65536",
        "port 65536 is outside",
        "1 to 65535",
        PORT,
    ),
    (
        "-e h -d 99999999999",
        "port 99999999999 is outside",
        "1 to 65535",
        "Port value is too large",
    ),
    (
        "-e h -d h:ssh",
        "port `ssh` is not a number",
        "1 to 65535",
        "Port must contain only digits",
    ),
    (
        "-e h -d h:-1",
        "port `-1` is not a number",
        "1 to 65535",
        "Port must contain only digits",
    ),
    (
        "-e h -d host",
        "`host` has no port",
        "host:22",
        "`host` has no port",
    ),
    (
        "-e h -s host",
        "`host` has no port",
        "host:22",
        "`host` has no port",
    ),
    (
        "-e h -d host:",
        "`host:` has no port",
        "host:22",
        "`host:` has no port",
    ),
    (
        "-e h -d :22",
        "`:22` has no host",
        "port alone",
        "`:22` has no host",
    ),
    (
        "-e h -d ::1:22",
        "needs brackets",
        "[::1]:22",
        "`::1:22` needs brackets around its IPv6 address",
    ),
    (
        "-e h -d [::1",
        "no IPv6 address in brackets",
        "[::1]:22",
        "`[::1` is no IPv6 address in brackets with a port",
    ),
    (
        "-e h -d h!st:22",
        "`h!st:22` has a character",
        "HOST:PORT",
        HOSTS,
    ),
    (
        "-e h -d stdio:",
        "`stdio:` works for a source only",
        "-s",
        "`stdio:` works for a source only",
    ),
    (
        "-e h -s A=stdio:,B=2",
        "cannot stand beside",
        "alone",
        "`stdio:` carries one service, it cannot stand beside others",
    ),
    (
        "-e h -s A=1,B=1",
        "A and B would both listen on 1",
        "its own",
        "A and B would both listen on 1",
    ),
    (
        "-e h -m dst",
        "nothing to dial",
        "-d 22",
        "No port mapping exists",
    ),
    (
        "-e h -d ''",
        "nothing to dial",
        "-d 22",
        "No port mapping exists",
    ),
    (
        "-e h -d ,,",
        "nothing to dial",
        "-d 22",
        "No port mapping exists",
    ),
];

/// Mistakes in or about files: exit code 6 for us.
const FILES: &[Row] = &[
    (
        "-e h -s 1 --config none",
        "--config: cannot read `none`",
        "readable",
        "can not read options configuration file 'none'",
    ),
    (
        "-e h -s 1 --config map",
        "--config: cannot read `map`",
        "readable",
        "can not read options configuration file 'map'",
    ),
    (
        "-e h -s 1 --config unknown.conf",
        "unknown.conf:2: there is no option `regin`",
        "long options",
        "unrecognised option 'regin'",
    ),
    (
        "-s 1 --config region.conf",
        "region.conf:1: region: `EU`",
        "eu-west-1",
        "Region must contain only lowercase letters, numbers, and hyphens",
    ),
    (
        "-e h --config mapping.conf",
        "mapping.conf:1: source-listen-port: in `0`",
        "1 to 65535",
        PORT,
    ),
    (
        "-e h -s 1 --settings-json none",
        "--settings-json: cannot read `none`",
        "readable",
        "none: cannot open file",
    ),
    (
        "-e h -s 1 --settings-json bad.json",
        "bad.json:1:2",
        "JSON object",
        "bad.json(1): ",
    ),
    (
        "-r x --settings-json format.json -s 1",
        "`https://x`",
        "endpoint_format",
        "Invalid endpoint specified: https://x",
    ),
    (
        "-e h -m src --config-dir none",
        "--config-dir: `none`",
        "directory",
        "Invalid configuration directory: none",
    ),
    (
        "-e h -m src --config-dir token",
        "--config-dir: `token`",
        "directory",
        "Invalid configuration directory: token",
    ),
    (
        "-e h -s 1 --config-dir empty",
        "the directory is empty",
        "directory",
        "Invalid configuration directory: empty",
    ),
];

/// Options and rules of our own.
const OWN: &[Row] = &[
    ("5555", "`5555` belongs to no option", "-s 5555", ""),
    ("-e h -s 1 --io kqueue", "--io: `kqueue`", "epoll", ""),
    (
        "-e h -s 1 --log-format xml",
        "--log-format: `xml`",
        "json",
        "",
    ),
    (
        "-e h -s 1 --max-connections 0",
        "--max-connections: `0` is out of range",
        "1 to 1000000",
        "",
    ),
    (
        "-e h -s 1 --connection-buffer 1",
        "--connection-buffer: `1` is out of range",
        "64KiB",
        "",
    ),
    (
        "-e h -s 1 --tunnel-buffer big",
        "--tunnel-buffer: `big` cannot be read",
        "8MiB",
        "",
    ),
    (
        "-e h -s 1 --stall-timeout 0",
        "--stall-timeout: `0` is out of range",
        "100ms",
        "",
    ),
    (
        "-e h -s 1 --half-close-grace 1d",
        "--half-close-grace: `1d` cannot be read",
        "2m",
        "",
    ),
    (
        "-e h -s 1 --ping-interval 1ms",
        "--ping-interval: `1ms` is out of range",
        "10ms to 1h",
        "",
    ),
    (
        "-e h -s 1 --drain-timeout=-1",
        "--drain-timeout: `-1` cannot be read",
        "0s to 1h",
        "",
    ),
    (
        "-e h -s 1 --access-token-file none -k",
        "--access-token-file: cannot read `none`",
        "token",
        "",
    ),
    (
        "-e h -s 1 --access-token-file map/services",
        "mode 06",
        "chmod 600",
        "",
    ),
    (
        "-e h -s 1 -t x --access-token-file token",
        "are both given",
        "keep one",
        "",
    ),
    (
        "-e h -s stdio: --access-token-file -",
        "both want standard input",
        "file",
        "",
    ),
    (
        "-e h -s 1 --source 2",
        "--source-listen-port is given more than once",
        "keep one",
        "",
    ),
    (
        "-e h --config io.conf -s 1",
        "io.conf:1: io: `kqueue`",
        "epoll",
        "",
    ),
];

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
    let tables = [
        (USAGE, ExitCode::Usage),
        (FATAL, ExitCode::Usage),
        (FILES, ExitCode::BadConfiguration),
    ];
    let rows = tables
        .iter()
        .flat_map(|(rows, code)| rows.iter().map(move |row| (row, Some(*code))))
        .chain(OWN.iter().map(|row| (row, None)));
    let mut count = 0;
    for ((line, message, hint, _), code) in rows {
        let fault = match bench.plan(Adit, line) {
            Err(refusal) => refusal.fault,
            Ok(plan) => panic!("{line:?} is accepted: {plan:?}"),
        };
        assert!(fault.message().contains(message), "{line:?}: {fault:?}");
        assert!(
            !fault.hint().is_empty() && fault.hint().contains(hint),
            "{line:?}: {fault:?}"
        );
        let report = fault.report();
        assert!(
            report.starts_with("error: ") && report.contains("\nhint: "),
            "{report}"
        );
        assert_eq!(report.lines().count(), 2, "{report}");
        assert!(
            code.is_none_or(|code| fault.code() == code),
            "{line:?}: {fault:?}"
        );
        assert_ne!(fault.code().number(Adit), 0);
        count += 1;
    }
    assert!(count >= 60, "{count}");
}

#[test]
fn localproxy_says_the_references_sentence() {
    let bench = bench();
    let tables = [(USAGE, Class::Usage), (FATAL, Class::Fatal)];
    let rows = tables
        .iter()
        .flat_map(|(rows, class)| rows.iter().map(move |row| (row, Some(*class))))
        .chain(FILES.iter().map(|row| (row, None)));
    let mut count = 0;
    for ((line, _, _, reference), class) in rows {
        if *reference == ACCEPTED {
            let plan = bench.plan(Localproxy, line);
            assert!(
                plan.is_ok(),
                "{line:?} is accepted by the reference: {plan:?}"
            );
            continue;
        }
        let fault = bench.plan(Localproxy, line).unwrap_err().fault;
        let text = fault.reference_text();
        let exact =
            text == *reference || (reference.ends_with(": ") && text.starts_with(reference));
        assert!(exact, "{line:?}: {text:?}");
        assert!(
            class.is_none_or(|class| fault.class() == class),
            "{line:?}: {fault:?}"
        );
        assert_eq!(fault.code().number(Localproxy), 1, "{line:?}");
        assert!(fault.explanation().starts_with("hint: "));
        count += 1;
    }
    assert!(count >= 60, "{count}");
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
    assert_eq!(fault.reference_text(), ENDPOINT);
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
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

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
