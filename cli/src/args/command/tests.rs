use super::*;

fn request(line: &str) -> Result<Request, BadInput> {
    let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    parse(&arguments)
}

fn proxy(line: &str) -> ProxyArgs {
    match request(&format!("proxy {line}")) {
        Ok(Request::Proxy(args)) => args,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_tree_is_sound() {
    command().debug_assert();
}

#[test]
fn every_spelling_of_the_reference_works() {
    for line in [
        "--region eu-west-1",
        "--region=eu-west-1",
        "--re eu-west-1",
        "--re=eu-west-1",
        "-r eu-west-1",
        "-reu-west-1",
        "-kreu-west-1",
    ] {
        assert_eq!(proxy(line).value(Opt::Region), Some("eu-west-1"), "{line}");
    }
    // A prefix that only our additions make ambiguous.
    assert_eq!(proxy("--acc x").value(Opt::AccessToken), Some("x"));
    assert_eq!(proxy("--so=1").value(Opt::SourceListenPort), Some("1"));
}

#[test]
fn additions_have_prefixes_and_aliases() {
    assert_eq!(proxy("--stall 3s").value(Opt::StallTimeout), Some("3s"));
    assert_eq!(
        proxy("--access-token-f x").value(Opt::AccessTokenFile),
        Some("x")
    );
    assert_eq!(
        proxy("--source stdio:").value(Opt::SourceListenPort),
        Some("stdio:")
    );
    assert_eq!(
        proxy("--destination 22").value(Opt::DestinationApp),
        Some("22")
    );
    assert_eq!(proxy("--source=").value(Opt::SourceListenPort), Some(""));
}

#[test]
fn mistakes_are_named_with_a_hint() {
    for (line, message, hint) in [
        ("proxy 5555", "`5555` belongs to no option", "-s 5555"),
        ("proxy --zone x", "there is no option --zone", "--help"),
        ("proxy --regin x", "there is no option --regin", "--region"),
        ("proxy -Z", "there is no option -Z", "--help"),
        (
            "proxy --s x",
            "there is no option --s",
            "or --settings-json or",
        ),
        // An option of `adit proxy`, and the start of two.
        (
            "serve --config x",
            "there is no option --config",
            "`adit serve --help`",
        ),
        (
            "serve --conf x",
            "there is no option --conf",
            "`adit serve --help`",
        ),
        ("proxy -s", "--source-listen-port needs a value", "=VALUE"),
        (
            "proxy -r a -r b",
            "--region is given more than once",
            "keep one",
        ),
        (
            "proxy -k -k",
            "--no-ssl-host-verify is given more than once",
            "keep one",
        ),
        (
            "proxy --no-ssl=1",
            "--no-ssl-host-verify takes no value",
            "alone",
        ),
        ("serve", "--data-dir is missing", "add --data-dir <DIR>"),
        (
            "serve --data-dir x --io kqueue",
            "--io: `kqueue` cannot be used",
            "epoll",
        ),
        (
            "serve --data-dir x --loops 0",
            "--loops: `0` cannot be used",
            "1024",
        ),
        (
            "serve --data-dir x --loops many",
            "--loops: `many` cannot be used",
            "1024",
        ),
        (
            "serve --data-dir x --api-listen 7443",
            "--api-listen: `7443` cannot be used",
            "127.0.0.1",
        ),
        (
            "serve --data-dir x --log-format xml",
            "--log-format: `xml` cannot be used",
            "json",
        ),
        (
            "demo --verbose loud",
            "--verbose: `loud` cannot be used",
            "6",
        ),
        ("demo --check=no", "--check takes no value", "alone"),
        ("prxy", "there is no command `prxy`", "proxy"),
    ] {
        let fault = request(line).unwrap_err();
        assert!(fault.message().starts_with(message), "{line}: {fault:?}");
        assert!(fault.hint().contains(hint), "{line}: {fault:?}");
    }
}

#[test]
fn a_misplaced_token_is_not_repeated() {
    let token = format!("AQGA{}", "canary".repeat(20));
    for line in [
        format!("proxy {token}"),
        format!("proxy --acess-token={token}"),
        format!("proxy -t x {token}"),
        format!("proxy -t {token} -t {token}"),
        format!("proxy -k={token}"),
        token.clone(),
        format!("demo --io {token}"),
    ] {
        let fault = request(&line).unwrap_err();
        assert!(!format!("{fault:?}").contains("canary"), "{fault:?}");
    }
}

#[test]
fn serve_and_demo_have_their_arguments() {
    let Ok(Request::Serve(args)) = request(
        "serve --data-dir /var/lib/adit --api-listen [::1]:1 --tunnel-listen 0.0.0.0:0 --loops 4 --io epoll -v5",
    ) else {
        panic!("serve");
    };
    assert_eq!(args.data_dir, PathBuf::from("/var/lib/adit"));
    assert_eq!(args.api_listen, "[::1]:1".parse().unwrap());
    assert_eq!(args.tunnel_listen, "0.0.0.0:0".parse().unwrap());
    assert_eq!(
        (args.loops, args.io, args.log.verbose),
        (Some(4), IoChoice::Epoll, 5)
    );
    let Ok(Request::Demo(args)) = request("demo --check") else {
        panic!("demo");
    };
    assert!(args.check && args.io == IoChoice::Auto);
    assert_eq!(args.log.verbose, 3);
    let Ok(Request::Serve(args)) = request("serve --data-dir x") else {
        panic!("serve");
    };
    assert_eq!(args.log.verbose, 4);
}

#[test]
fn help_and_version_are_shown() {
    let shown = |line: &str| match request(line) {
        Ok(Request::Show(text)) => text.to_string(),
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(
        shown("--version"),
        format!("adit {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert!(shown("proxy -V").contains(env!("CARGO_PKG_VERSION")));
    let (short, long) = (shown("proxy -h"), shown("proxy --help"));
    for row in OPTIONS {
        assert!(long.contains(&format!("--{}", row.long)), "{}", row.long);
        let first = row.help.split(' ').next().unwrap();
        let ours = !matches!(row.option, Opt::Help | Opt::Version);
        assert!(!ours || short.contains(first), "{}", row.long);
    }
    for command in ["proxy", "serve", "demo"] {
        assert!(shown("--help").contains(command));
    }
    assert!(matches!(request(""), Ok(Request::Lost(_))));
}

#[test]
fn an_agent_needs_its_configuration_and_nothing_else() {
    let Ok(Request::Agent(args)) = request("agent --config a.toml") else {
        panic!("an agent");
    };
    assert_eq!(args.config, PathBuf::from("a.toml"));
    assert!(!args.check && args.on_tunnel.is_none() && args.verbose.is_none());
    let Ok(Request::Agent(args)) = request("agent --conf a --check --on-tunnel h -v 5") else {
        panic!("an agent");
    };
    assert!(args.check && args.on_tunnel.is_some() && args.verbose == Some(5));
    let fault = request("agent").unwrap_err();
    assert!(fault.message().contains("--config"), "{fault:?}");
}
