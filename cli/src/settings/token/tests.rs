use super::*;
use crate::world::testing::world;
use std::os::unix::fs::OpenOptionsExt as _;
use tempfile::TempDir;

const TOKEN: &str = "canary-token-0123456789";

struct Case {
    directory: TempDir,
    world: World,
    args: ProxyArgs,
}

fn case() -> Case {
    let directory = tempfile::tempdir().unwrap();
    let world = world(directory.path());
    Case {
        directory,
        world,
        args: ProxyArgs::default(),
    }
}

impl Case {
    fn with(mut self, option: Opt, value: &str, origin: Origin) -> Self {
        assert!(self.args.insert(option, value.to_owned(), origin));
        self
    }

    fn file(self, name: &str, text: &[u8], mode: u32) -> Self {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .unwrap();
        io::Write::write_all(&mut file, text).unwrap();
        // The process's mask does not count.
        file.set_permissions(std::fs::Permissions::from_mode(mode))
            .unwrap();
        self
    }

    fn read(&mut self, personality: Personality) -> (Result<String, BadInput>, Vec<String>) {
        let mut warnings = Vec::new();
        let token = access_token(&mut self.args, &mut self.world, personality, &mut warnings);
        (token.map(|token| token.expose().to_owned()), warnings)
    }
}

fn configured() -> Origin {
    Origin::File {
        path: "conf".into(),
        line: 1,
    }
}

#[test]
fn a_token_on_the_command_line_works_and_warns() {
    let (token, warnings) = case()
        .with(Opt::AccessToken, TOKEN, Origin::CommandLine)
        .read(Personality::Adit);
    assert_eq!(token.unwrap(), TOKEN);
    assert!(
        warnings[0].contains("AWSIOT_TUNNEL_ACCESS_TOKEN"),
        "{warnings:?}"
    );
    assert!(!format!("{warnings:?}").contains("canary"));
}

#[test]
fn a_token_from_the_environment_does_not_warn() {
    let variable = Origin::Environment("AWSIOT_TUNNEL_ACCESS_TOKEN");
    let (token, warnings) = case()
        .with(Opt::AccessToken, TOKEN, variable)
        .read(Personality::Adit);
    assert_eq!((token.unwrap().as_str(), warnings.len()), (TOKEN, 0));
}

#[test]
fn a_private_file_is_read_without_its_line_break() {
    for text in [
        "canary-token-0123456789",
        "canary-token-0123456789\n",
        "canary-token-0123456789\r\nmore\n",
    ] {
        let (token, _) = case()
            .file("t", text.as_bytes(), 0o600)
            .with(Opt::AccessTokenFile, "t", Origin::CommandLine)
            .read(Personality::Adit);
        assert_eq!(token.unwrap(), TOKEN);
    }
}

#[test]
fn a_file_that_others_can_access_is_refused() {
    for mode in [0o640, 0o604, 0o644, 0o620, 0o601] {
        let (token, _) = case()
            .file("t", TOKEN.as_bytes(), mode)
            .with(Opt::AccessTokenFile, "t", Origin::CommandLine)
            .read(Personality::Adit);
        let fault = token.unwrap_err();
        assert!(
            fault.message().contains(&format!("{mode:04o}")),
            "{fault:?}"
        );
        assert_eq!(fault.hint(), "chmod 600 t");
    }
}

#[test]
fn standard_input_gives_its_first_line() {
    let mut case = case().with(Opt::AccessTokenFile, "-", Origin::CommandLine);
    case.world.stdin = Box::new(io::Cursor::new(format!("{TOKEN}\nrest")));
    assert_eq!(case.read(Personality::Adit).0.unwrap(), TOKEN);
}

#[test]
fn the_stronger_source_counts() {
    let variable = Origin::Environment("AWSIOT_TUNNEL_ACCESS_TOKEN");
    let read = |direct: Origin, file: Origin| {
        case()
            .file("t", b"from-file", 0o600)
            .with(Opt::AccessToken, "direct", direct)
            .with(Opt::AccessTokenFile, "t", file)
            .read(Personality::Adit)
            .0
    };
    assert_eq!(
        read(variable.clone(), Origin::CommandLine).unwrap(),
        "from-file"
    );
    assert_eq!(read(variable, configured()).unwrap(), "from-file");
    assert_eq!(read(Origin::CommandLine, configured()).unwrap(), "direct");
    assert_eq!(
        read(configured(), Origin::CommandLine).unwrap(),
        "from-file"
    );
    let fault = read(Origin::CommandLine, Origin::CommandLine).unwrap_err();
    assert!(fault.message().contains("both given"), "{fault:?}");
}

#[test]
fn the_systemd_credential_is_the_last_resort() {
    let make = || {
        // 0440: what systemd's access lists look like.
        let mut case = case().file("cred/access-token", b"from-systemd\n", 0o440);
        let path = case.directory.path().join("cred");
        case.world
            .variables
            .insert("CREDENTIALS_DIRECTORY".into(), path.into());
        case
    };
    let mut case = make();
    assert!(is_given(&case.args, &case.world, Personality::Adit));
    assert_eq!(case.read(Personality::Adit).0.unwrap(), "from-systemd");
    assert!(!is_given(&case.args, &case.world, Personality::Localproxy));
    let fault = case.read(Personality::Localproxy).0.unwrap_err();
    assert_eq!(
        fault.reference_text(),
        "the option '--access-token' is required but missing"
    );
    let mut case = make().with(Opt::AccessToken, TOKEN, Origin::CommandLine);
    assert_eq!(case.read(Personality::Adit).0.unwrap(), TOKEN);
}

#[test]
fn bad_tokens_are_described_but_not_shown() {
    let long = "canary".repeat(700);
    for (text, problem, reference) in [
        ("", "is empty", "Access token cannot be empty"),
        (
            &long,
            "4200 bytes",
            "Access token exceeds maximum allowed length",
        ),
        (
            "canary\x07",
            "control",
            "Access token contains invalid control characters",
        ),
        (
            "canary\x7f",
            "control",
            "Access token contains invalid control characters",
        ),
        (
            "canaryé",
            "ASCII",
            "Access token contains invalid control characters",
        ),
        (
            " canary",
            "space",
            "Access token contains invalid control characters",
        ),
    ] {
        let (token, _) = case()
            .with(Opt::AccessToken, text, Origin::CommandLine)
            .read(Personality::Adit);
        let fault = token.unwrap_err();
        assert!(fault.message().starts_with("--access-token: "), "{fault:?}");
        assert!(fault.message().contains(problem), "{fault:?}");
        assert_eq!(fault.reference_text(), reference);
        assert!(!format!("{fault:?}").contains("canary"));
    }
}

#[test]
fn bad_files_are_named() {
    for (path, text, problem) in [
        ("none", &b""[..], "cannot read `none`"),
        ("t", b"", "is empty"),
        ("t", b"\xff\xfe", "is not text"),
        ("t", &[b'x'; 5000], "bytes, the limit is 4096"),
        ("\x1b[2J", b"", "cannot read `\\u{1b}[2J`"),
    ] {
        let (token, _) = case()
            .file("t", text, 0o600)
            .with(Opt::AccessTokenFile, path, Origin::CommandLine)
            .read(Personality::Adit);
        let fault = token.unwrap_err();
        assert!(
            fault.message().starts_with("--access-token-file: "),
            "{fault:?}"
        );
        assert!(fault.message().contains(problem), "{fault:?}");
        let is_elsewhere = fault.hint().contains("this user can read");
        assert_eq!(is_elsewhere, problem.contains("cannot read"), "{fault:?}");
    }
}

fn client(text: Option<&str>, personality: Personality) -> (Result<String, BadInput>, usize) {
    client_for("an-access-token", text, personality)
}

fn client_for(
    access_token: &str,
    text: Option<&str>,
    personality: Personality,
) -> (Result<String, BadInput>, usize) {
    let mut args = ProxyArgs::default();
    if let Some(text) = text {
        args.insert(Opt::ClientToken, text.into(), Origin::CommandLine);
    }
    let mut warnings = Vec::new();
    let access_token = AccessToken::new(access_token.to_owned()).unwrap();
    let token = client_token(&mut args, &access_token, personality, &mut warnings);
    (token.map(|token| token.expose().to_owned()), warnings.len())
}

/// A process that was killed and started again must come back as the same client.
#[test]
fn a_client_token_is_made_that_is_the_same_for_the_same_access_token() {
    for text in [None, Some("")] {
        let (first, _) = client(text, Personality::Adit);
        let (again, _) = client(text, Personality::Localproxy);
        let (other, _) = client_for("another-token", text, Personality::Adit);
        let first = first.unwrap();
        assert_eq!(first, again.unwrap());
        assert_ne!(first, other.unwrap());
        assert_eq!(first.len(), 64);
        assert!(!first.contains("access"), "{first}");
    }
}

#[test]
fn client_tokens_follow_the_pattern() {
    let good = "a".repeat(32);
    let odd = format!("{}!", "canary-".repeat(5));
    let (token, warnings) = client(Some(&good), Personality::Adit);
    assert_eq!((token.unwrap(), warnings), (good, 0));
    // The reference takes it, the service will not.
    let (token, warnings) = client(Some(&odd), Personality::Localproxy);
    assert_eq!((token.unwrap(), warnings), (odd.clone(), 1));
    let fault = client(Some(&odd), Personality::Adit).0.unwrap_err();
    assert!(!format!("{fault:?}").contains("canary"));
    for text in ["a", &"a".repeat(31), &"a".repeat(129)] {
        for personality in [Personality::Adit, Personality::Localproxy] {
            let fault = client(Some(text), personality).0.unwrap_err();
            assert!(fault.message().starts_with("--client-token: "), "{fault:?}");
            assert_eq!(
                fault.reference_text(),
                "Client token must be between 32 and 128 characters"
            );
        }
    }
    let control = format!("{}\x07", "a".repeat(40));
    let fault = client(Some(&control), Personality::Localproxy)
        .0
        .unwrap_err();
    assert_eq!(
        fault.reference_text(),
        "Client token contains invalid control characters"
    );
}
