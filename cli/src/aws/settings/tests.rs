use std::fs;
use std::path::Path;

use super::*;
use crate::exit::ExitCode;
use crate::world::testing::world;

/// A home directory, the variables around it, and the options.
struct Bench {
    directory: tempfile::TempDir,
    world: World,
    args: ApiArgs,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut world = world(directory.path());
        let home = directory.path().as_os_str().to_owned();
        world.variables.insert("HOME".into(), home);
        Self {
            directory,
            world,
            args: ApiArgs::default(),
        }
    }

    fn keyed() -> Self {
        let bench = Self::new().variable("AWS_ACCESS_KEY_ID", "ENV");
        bench.variable("AWS_SECRET_ACCESS_KEY", "canary")
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.world.variables.insert(name.into(), value.into());
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn args(mut self, change: impl FnOnce(&mut ApiArgs)) -> Self {
        change(&mut self.args);
        self
    }

    fn settings(&self) -> ApiSettings {
        ApiSettings::resolve(&self.args, Api::Tunneling, &self.world).unwrap()
    }

    fn fault(&self) -> BadInput {
        let fault = ApiSettings::resolve(&self.args, Api::Tunneling, &self.world).unwrap_err();
        assert!(!format!("{fault:?}").contains("canary"), "{fault:?}");
        fault
    }

    fn key(&self) -> String {
        self.settings().credentials.unwrap().access_key_id
    }
}

const LAB: &str = "[default]\nregion = eu-central-1\nendpoint_url = https://all\nservices = lab\n\
                   [services lab]\niot =\n  endpoint_url = https://iot\n";

#[test]
fn endpoints_come_from_the_nearest_place() {
    let bench = Bench::keyed().file(".aws/config", LAB);
    let urls = |bench: &Bench| {
        let settings = bench.settings();
        [settings.tunneling.to_string(), settings.iot.to_string()]
    };
    assert_eq!(urls(&bench), ["https://all", "https://iot"]);
    let bench = bench.variable("AWS_ENDPOINT_URL", "https://env");
    assert_eq!(urls(&bench), ["https://env", "https://env"]);
    let bench = bench.variable("AWS_ENDPOINT_URL_IOTSECURETUNNELING", "https://tunneling");
    assert_eq!(urls(&bench), ["https://tunneling", "https://env"]);
    let bench = bench.args(|args| args.endpoint = Some("https://typed".into()));
    assert_eq!(urls(&bench), ["https://typed", "https://typed"]);
    let bench = bench.args(|args| args.endpoint = None);
    let bench = bench.variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "True");
    let aws = "https://api.tunneling.iot.eu-central-1.amazonaws.com";
    assert_eq!(urls(&bench)[0], aws);
    let tunnel = bench.settings().tunnel.unwrap().to_string();
    assert_eq!(tunnel, "data.tunneling.iot.eu-central-1.amazonaws.com:443");
    assert!(bench.settings().carries_at_aws());
}

#[test]
fn a_bad_endpoint_is_named_by_where_it_stands() {
    for (name, value) in [
        ("AWS_ENDPOINT_URL", "localhost:7401"),
        ("AWS_ENDPOINT_URL_IOT", "http://h"),
        ("AWSIOT_TUNNEL_ENDPOINT", "wss://h"),
    ] {
        let fault = Bench::keyed()
            .variable(name, value)
            .variable("AWS_REGION", "r")
            .fault();
        assert!(fault.message().starts_with(name), "{fault:?}");
        assert_eq!(fault.code(), ExitCode::Usage);
    }
}

#[test]
fn keys_come_from_environment_then_files_and_an_option_turns_that_around() {
    let bench = Bench::keyed()
        .variable("AWS_REGION", "r")
        .file(
            ".aws/credentials",
            "[default]\naws_access_key_id=FILE\naws_secret_access_key=canary\n\
             [dev]\naws_access_key_id=DEV\naws_secret_access_key=canary\naws_session_token=canary\n",
        )
        .file(
            ".aws/config",
            "[profile dev]\naws_access_key_id=CONFIG\naws_secret_access_key=canary\n\
             [profile only]\naws_access_key_id=ONLY\naws_secret_access_key=canary\n",
        );
    assert_eq!(bench.key(), "ENV");
    // As AWS's tools have it: the variable does not turn it around.
    let bench = bench.variable("AWS_PROFILE", "dev");
    assert_eq!(bench.key(), "ENV");
    let bench = bench
        .variable("AWS_ACCESS_KEY_ID", "")
        .variable("AWS_SECRET_ACCESS_KEY", "");
    assert_eq!(bench.key(), "DEV");
    assert!(
        bench
            .settings()
            .credentials
            .unwrap()
            .session_token
            .is_some()
    );
    let bench = bench
        .variable("AWS_ACCESS_KEY_ID", "ENV")
        .variable("AWS_SECRET_ACCESS_KEY", "s");
    let bench = bench.args(|args| args.profile = Some("only".into()));
    assert_eq!(bench.key(), "ONLY");
    let bench = bench.args(|args| args.no_sign_request = true);
    assert!(bench.settings().credentials.is_none());
    assert!(!format!("{:?}", bench.settings()).contains("canary"));
}

#[test]
fn a_missing_key_names_every_place_and_the_way_out() {
    let bench = Bench::new().variable("AWS_REGION", "r");
    let fault = bench.fault();
    for place in [
        "AWS_ACCESS_KEY_ID",
        "`default`",
        ".aws/credentials",
        ".aws/config",
    ] {
        assert!(fault.message().contains(place), "{fault:?}");
    }
    assert!(fault.hint().contains("--data-dir"));
    let bench = bench.file(
        ".aws/credentials",
        "[dev]\naws_access_key_id=a\naws_secret_access_key=b\n",
    );
    assert!(bench.fault().hint().contains("dev"), "{:?}", bench.fault());
    let bench = bench
        .file(".aws/config", "[x]\nregion = r\n")
        .args(|args| args.profile = Some("x".into()));
    assert!(bench.fault().hint().contains("[profile x]"));
    let half = Bench::new()
        .variable("AWS_SECRET_ACCESS_KEY", "canary")
        .variable("AWS_REGION", "r");
    assert!(
        half.fault()
            .message()
            .starts_with("AWS_SECRET_ACCESS_KEY is set")
    );
    let half = Bench::new().variable("AWS_REGION", "r");
    let half = half.file(
        ".aws/credentials",
        "[default]\naws_secret_access_key=canary\n",
    );
    assert!(half.fault().message().contains("no aws_access_key_id"));
}

/// Id and secret are swapped more easily than a character is mistyped, so neither is ever shown.
#[test]
fn what_is_no_access_key_id_is_told_by_its_place() {
    for (id, problem) in [
        ("canary/b", "character 7 is no letter, digit or _"),
        (
            "canary, Signature=x",
            "character 7 is no letter, digit or _",
        ),
        ("canaryé", "character 7 is no letter, digit or _"),
        (
            &"canary".repeat(22),
            "it has 132 characters, and 128 is the limit",
        ),
    ] {
        let text = format!("[default]\naws_access_key_id={id}\naws_secret_access_key=canary\n");
        let bench = Bench::new()
            .variable("AWS_REGION", "r")
            .file(".aws/credentials", &text);
        let fault = bench.fault();
        let place =
            ".aws/credentials: profile `default`: aws_access_key_id: this is no access key id: ";
        assert!(
            fault.message().ends_with(&format!("{place}{problem}")),
            "{fault:?}"
        );
        assert_eq!(fault.code(), ExitCode::BadConfiguration);
    }
    let bench = Bench::keyed().variable("AWS_REGION", "r");
    let fault = bench.variable("AWS_SESSION_TOKEN", "canary canary").fault();
    assert_eq!(
        fault.message(),
        "AWS_SESSION_TOKEN: this is no session token: character 7 is not visible ASCII"
    );
}

#[test]
fn ways_that_need_aws_own_tool_are_sent_there() {
    for line in [
        "sso_session = x",
        "role_arn = x",
        "credential_process = canary",
    ] {
        let text = format!("[profile x]\nregion = r\n{line}\n");
        let bench = Bench::new()
            .file(".aws/config", &text)
            .variable("AWS_PROFILE", "x");
        let fault = bench.fault();
        assert!(
            fault.hint().contains("export-credentials --profile x"),
            "{fault:?}"
        );
        assert!(fault.message().contains(line.split(' ').next().unwrap()));
    }
}

/// Keys beside a role are those of whoever takes it. The order is botocore's.
#[test]
fn a_role_is_not_passed_over_for_the_keys_beside_it() {
    let keys = |id: &str| format!("aws_access_key_id={id}\naws_secret_access_key=canary\n");
    let bench = |credentials: &str, config: &str| {
        Bench::new()
            .file(".aws/credentials", &format!("[prod]\n{credentials}"))
            .file(".aws/config", &format!("[profile prod]\n{config}"))
            .variable("AWS_REGION", "r")
            .variable("AWS_PROFILE", "prod")
    };
    let refused = |bench: &Bench, way: &str| {
        let fault = bench.fault();
        let message = format!("profile `prod` gets its keys by {way}, which adit cannot do");
        assert_eq!(fault.message(), message);
        assert!(fault.hint().contains("export-credentials --profile prod"));
        assert_eq!(fault.code(), ExitCode::BadConfiguration);
    };
    let role = "role_arn=arn:aws:iam::2:role/x\nsource_profile=prod\n";
    for (way, lines) in [
        ("role_arn", role),
        ("web_identity_token_file", "web_identity_token_file=/t\n"),
        ("sso_account_id", "sso_session=x\nsso_account_id=2\n"),
        ("sso_role_name", "sso_role_name=x\n"),
    ] {
        refused(&bench(&keys("FILE"), lines), way);
        refused(&bench(&format!("{}{lines}", keys("FILE")), ""), way);
        refused(&bench("", &format!("{lines}{}", keys("CONFIG"))), way);
    }
    for (way, line) in [
        ("credential_process", "credential_process=canary\n"),
        ("login_session", "login_session=x\n"),
    ] {
        assert_eq!(bench(&keys("FILE"), line).key(), "FILE");
        refused(&bench("", &format!("{line}{}", keys("CONFIG"))), way);
    }
    // A name for tokens of other services, which says nothing of keys.
    let named = bench("", &format!("sso_session=x\n{}", keys("CONFIG")));
    assert_eq!(named.key(), "CONFIG");

    let asked = bench(&keys("FILE"), role).args(|args| args.profile = Some("prod".into()));
    refused(&asked, "role_arn");
    assert!(asked.fault().hint().ends_with("leave --profile out"));
    let bench = bench(&keys("FILE"), role);
    let bench = bench.variable("AWS_ACCESS_KEY_ID", "ENV");
    let bench = bench.variable("AWS_SECRET_ACCESS_KEY", "canary");
    assert_eq!(bench.key(), "ENV");
}

#[test]
fn files_elsewhere_and_broken_files() {
    let bench = Bench::new()
        .variable("AWS_SHARED_CREDENTIALS_FILE", "~/mine")
        .variable("AWS_REGION", "r")
        .file(
            "mine",
            "[default]\naws_access_key_id=MINE\naws_secret_access_key=canary\n",
        );
    assert_eq!(bench.key(), "MINE");
    let fault = bench.file("mine", "[default]\ncanary\n").fault();
    assert!(fault.message().contains("mine:2: neither"), "{fault:?}");
    assert_eq!(fault.code(), ExitCode::BadConfiguration);
}

#[test]
fn without_region_and_endpoint_there_is_no_service() {
    let bench = Bench::keyed();
    assert!(bench.fault().hint().contains("--data-dir DIR"));
    let bench = bench.args(|args| args.endpoint = Some("https://h".into()));
    let settings = bench.settings();
    assert_eq!((&*settings.region, settings.tunnel), ("us-east-1", None));
    let bench = bench.variable("AWS_DEFAULT_REGION", "b");
    assert_eq!(bench.settings().region, "b");
    let bench = bench.variable("AWS_REGION", "a");
    assert_eq!(bench.settings().region, "a");
    let bench = bench.args(|args| args.region = Some("a/b".into()));
    assert!(bench.fault().message().starts_with("--region: `a/b`"));
}

#[test]
fn only_the_api_that_is_called_has_to_be_somewhere() {
    let bench = Bench::keyed().variable("AWS_ENDPOINT_URL_IOTSECURETUNNELING", "https://h");
    assert_eq!(bench.settings().region, "us-east-1");
    let resolve = |bench: &Bench| ApiSettings::resolve(&bench.args, Api::Iot, &bench.world);
    assert!(resolve(&bench).unwrap_err().message().contains("no region"));
    let bench = Bench::keyed().variable("AWS_ENDPOINT_URL_IOT", "https://h");
    let settings = resolve(&bench).unwrap();
    assert!(settings.tunnel.is_none() && !settings.carries_at_aws());
}

#[test]
fn a_data_directory_says_everything() {
    let endpoints =
        r#"{"api":"https://localhost:7401","tunnel":"localhost:7443","mqtt":"localhost:1"}"#;
    let bench = Bench::keyed()
        .variable("AWS_ENDPOINT_URL", "https://elsewhere")
        .variable("AWS_CA_BUNDLE", "/elsewhere")
        .file("d/endpoints.json", endpoints)
        .file(
            "d/credentials",
            "[adit]\naws_access_key_id=LOCAL\naws_secret_access_key=canary\n",
        )
        .args(|args| args.data_dir = Some("d".into()));
    let settings = bench.settings();
    assert_eq!(settings.tunneling.to_string(), "https://localhost:7401");
    assert_eq!(settings.iot, settings.tunneling);
    assert_eq!(
        settings.tunnel.as_ref().unwrap().to_string(),
        "localhost:7443"
    );
    assert_eq!(settings.mqtt.as_deref(), Some("localhost:1"));
    assert_eq!(
        settings.ca.as_deref(),
        Some(bench.directory.path().join("d/ca.pem").as_path())
    );
    assert_eq!(bench.key(), "LOCAL");
    assert!(!settings.carries_at_aws());
    fs::remove_file(bench.directory.path().join("d/credentials")).unwrap();
    assert!(bench.fault().hint().contains("--no-sign-request"));
    let stopped = bench.args(|args| args.data_dir = Some("none".into()));
    assert!(stopped.fault().hint().contains("adit serve --data-dir"));
}

#[test]
fn authorities_come_from_the_nearest_place() {
    let bench = Bench::keyed().file(".aws/config", "[default]\nregion = r\nca_bundle = /file\n");
    let ca = |bench: &Bench| bench.settings().ca;
    assert_eq!(ca(&bench).as_deref(), Some(Path::new("/file")));
    let bench = bench.variable("AWS_CA_BUNDLE", "/env");
    assert_eq!(ca(&bench).as_deref(), Some(Path::new("/env")));
    let bench = bench.args(|args| args.ca_bundle = Some("/typed".into()));
    assert_eq!(ca(&bench).as_deref(), Some(Path::new("/typed")));
}
