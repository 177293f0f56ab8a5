//! Who calls and where: keys, endpoints, authorities, and what is said when they are wrong.

use adit_tests::http::Head;
use adit_tests::scenario::Scenario;
use adit_tests::web_proxy::WebProxy;
use adit_tests::{on_own_choice, ports};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::desk::{Desk, Said, run};

/// As a user of AWS's tools has it: everything in the environment.
async fn the_environment_is_enough(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    let url = desk.serve.api_url();
    let mut command = desk.bare(&["tunnel", "list"]);
    command.env("AWS_ENDPOINT_URL_IOTSECURETUNNELING", url);
    command.env("AWS_CA_BUNDLE", desk.serve.ca_file());
    command.env(
        "AWS_SHARED_CREDENTIALS_FILE",
        desk.serve.data().join("credentials"),
    );
    command.env("AWS_PROFILE", "adit");
    let said = run(command).await?;
    ensure!(
        said.code == Some(0) && said.stdout.starts_with("ID "),
        "{}",
        said.stderr
    );
    Ok(())
}

async fn every_refusal_says_what_next(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    let with_key = |id: &str, secret: &str| {
        let mut command = desk.bare(&["tunnel", "list", "--endpoint", &desk.serve.api_url()]);
        command.arg("--ca-bundle").arg(desk.serve.ca_file());
        command
            .env("AWS_ACCESS_KEY_ID", id)
            .env("AWS_SECRET_ACCESS_KEY", secret);
        command
    };
    let credentials = std::fs::read_to_string(desk.serve.data().join("credentials"))?;
    let id = credentials
        .lines()
        .find_map(|line| line.strip_prefix("aws_access_key_id")?.split('=').nth(1))
        .unwrap_or_default()
        .trim();
    let unsigned = desk.command(&["tunnel", "list", "--no-sign-request"]);
    let mut untrusted = desk.bare(&["tunnel", "list", "--endpoint", &desk.serve.api_url()]);
    untrusted
        .env("AWS_ACCESS_KEY_ID", "a")
        .env("AWS_SECRET_ACCESS_KEY", "b");
    for (command, code, error, hint) in [
        (
            with_key("AKUNKNOWN", "canary"),
            4,
            "UnrecognizedClientException",
            "AKUNKNOWN",
        ),
        (
            with_key(id, "canary"),
            4,
            "InvalidSignatureException",
            "secret",
        ),
        (
            unsigned,
            4,
            "MissingAuthenticationTokenException",
            "--no-sign-request",
        ),
        (untrusted, 5, "no TLS connection", "--ca-bundle"),
        (desk.bare(&["tunnel", "list"]), 2, "no region", "--data-dir"),
        (
            desk.bare(&["tunnel", "list", "--data-dir", "none"]),
            2,
            "none/endpoints.json",
            "adit serve",
        ),
    ] {
        names(&run(command).await?, code, error, hint)?;
    }
    Ok(())
}

async fn a_service_that_is_gone_is_said_to_be(scenario: Scenario) -> Result<()> {
    let mut desk = Desk::open(&scenario).await?;
    desk.serve.process.kill().await?;
    let said = desk.say(&["tunnel", "list"]).await?;
    ensure!(said.code == Some(5), "{:?}", said.code);
    ensure!(
        said.stderr.contains("is `adit serve` running"),
        "{}",
        said.stderr
    );
    Ok(())
}

/// What people get wrong before any service has a say, and the word that leads them on.
async fn every_common_mistake_is_named(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    let keys = "[ada]\naws_access_key_id = AK\naws_secret_access_key = canary\n";
    let keys = scenario.write("keys", keys)?;
    let url = desk.serve.api_url();
    let asking = |words: &[&str]| {
        let mut command = desk.bare(&["tunnel", "list"]);
        command.args(words);
        command
    };
    let with_profiles = |words: &[&str]| {
        let mut command = asking(words);
        command.env("AWS_SHARED_CREDENTIALS_FILE", &keys);
        command
    };
    let mut half = asking(&["--endpoint", &url]);
    half.env("AWS_ACCESS_KEY_ID", "AK");
    let mut of_environment = with_profiles(&["--endpoint", &url]);
    of_environment.env("AWS_PROFILE", "bob");
    let closed = format!("https://localhost:{}", ports::free()?);
    for (command, code, error, hint) in [
        (
            asking(&["--endpoint", &url]),
            2,
            "no access key is found; looked at AWS_ACCESS_KEY_ID",
            "--data-dir",
        ),
        (
            half,
            2,
            "AWS_SECRET_ACCESS_KEY is not",
            "set AWS_SECRET_ACCESS_KEY",
        ),
        (
            with_profiles(&["--endpoint", &url, "--profile", "bob"]),
            2,
            "profile `bob`",
            "the profiles ada",
        ),
        (of_environment, 2, "profile `bob`", "the profiles ada"),
        (
            with_profiles(&["--profile", "ada", "--region", "eu west"]),
            2,
            "`eu west` is no region",
            "eu-west-1",
        ),
        (
            with_profiles(&["--profile", "ada", "--endpoint", &closed]),
            5,
            "cannot connect",
            "is `adit serve` running",
        ),
        (
            with_profiles(&[
                "--profile",
                "ada",
                "--endpoint",
                "https://no.such.host.invalid",
            ]),
            5,
            "cannot resolve no.such.host.invalid",
            "check the endpoint's name",
        ),
        (
            with_profiles(&["--profile", "ada", "--region", "us-esat-1"]),
            5,
            "cannot resolve api.tunneling.iot.us-esat-1.amazonaws.com",
            "is us-esat-1 a region of AWS",
        ),
        (
            with_profiles(&[
                "--profile",
                "ada",
                "--endpoint",
                &url,
                "--ca-bundle",
                "none.pem",
            ]),
            6,
            "none.pem",
            "PEM file",
        ),
    ] {
        names(&run(command).await?, code, error, hint)?;
    }
    Ok(())
}

/// What only AWS says: its words, from a service that says nothing else.
async fn refusals_of_aws_say_what_next(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    for (code, message, hint) in [
        (
            "ExpiredTokenException",
            "The security token included in the request is expired",
            "aws sso login",
        ),
        (
            "InvalidSignatureException",
            "Credential should be scoped to a valid region.",
            "another region than eu-west-1",
        ),
    ] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let mut command = desk.bare(&["tunnel", "list", "--endpoint", &url]);
        command.args(["--region", "eu-west-1"]);
        command
            .env("AWS_ACCESS_KEY_ID", "AK")
            .env("AWS_SECRET_ACCESS_KEY", "canary")
            .env("AWS_SESSION_TOKEN", "canary");
        let answering = async {
            let (mut caller, _) = listener.accept().await?;
            Head::read(&mut caller).await?;
            let body = json!({ "__type": code, "message": message }).to_string();
            let size = body.len();
            let answer = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {size}\r\n\r\n{body}");
            caller.write_all(answer.as_bytes()).await?;
            Ok::<_, anyhow::Error>(())
        };
        let (said, answered) = tokio::join!(run(command), answering);
        answered?;
        names(&said?, 4, message, hint)?;
    }
    Ok(())
}

/// An error that names the culprit, a hint that leads on, and no secret.
fn names(said: &Said, code: i32, error: &str, hint: &str) -> Result<()> {
    let (first, second) = said.stderr.split_once('\n').unwrap_or_default();
    ensure!(
        said.code == Some(code),
        "{error}: {:?}: {}",
        said.code,
        said.stderr
    );
    ensure!(
        first.starts_with("error: ") && first.contains(error),
        "{error}: {first}"
    );
    ensure!(
        second.starts_with("hint: ") && second.contains(hint),
        "{error}: {second}"
    );
    ensure!(!said.stderr.contains("canary"), "{}", said.stderr);
    Ok(())
}

/// In the clear, in TLS, and with a password: as with every other program that calls an API.
async fn calls_go_through_the_web_proxy_of_the_environment(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    let url = desk.serve.api_url();
    let (_, port) = url.rsplit_once(':').context("a port")?;
    let authorities = std::fs::read_to_string(desk.serve.ca_file())? + scenario.pki().ca_pem();
    let ca = scenario.write("authorities.pem", authorities)?;
    for (variable, user) in [("https_proxy", ""), ("HTTPS_PROXY", "ada:canary@")] {
        for is_tls in [false, true] {
            let proxy = match is_tls {
                false => WebProxy::start().await?,
                true => WebProxy::start_tls(scenario.pki().server()?).await?,
            };
            let scheme = if is_tls { "https" } else { "http" };
            let mut list = desk.command(&["tunnel", "list"]);
            list.arg("--ca-bundle").arg(&ca);
            list.env(
                variable,
                format!("{scheme}://{user}localhost:{}", proxy.port()?),
            );
            let carrying = async {
                let call = proxy.call().await?;
                let wanted = format!("CONNECT localhost:{port} HTTP/1.1");
                ensure!(call.request.start_line == wanted, "{:?}", call.request);
                let shows = call.request.header("proxy-authorization").is_some();
                ensure!(shows != user.is_empty(), "{:?}", call.request);
                call.connect_to(port.parse()?).await
            };
            let (said, carried) = tokio::join!(run(list), carrying);
            carried?;
            let said = said?;
            ensure!(
                said.code == Some(0) && said.stdout.starts_with("ID "),
                "{}",
                said.stderr
            );
        }
    }
    Ok(())
}

async fn hosts_of_no_proxy_are_reached_without(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    let nobody = format!("http://127.0.0.1:{}", ports::free()?);
    let mut excepted = desk.command(&["tunnel", "list"]);
    excepted
        .env("https_proxy", &nobody)
        .env("no_proxy", "example.org,localhost");
    let said = run(excepted).await?;
    ensure!(said.code == Some(0), "{}", said.stderr);
    let mut through = desk.command(&["tunnel", "list"]);
    through
        .env("https_proxy", &nobody)
        .env("no_proxy", "example.org");
    names(
        &run(through).await?,
        5,
        "no connection to 127.0.0.1",
        "https_proxy names this web proxy",
    )
}

async fn a_web_proxy_that_refuses_is_named(scenario: Scenario) -> Result<()> {
    let desk = Desk::open(&scenario).await?;
    for (answer, error, hint) in [
        (
            "407 Proxy Authentication Required",
            "status 407",
            "user and password",
        ),
        ("403 Forbidden", "status 403", "no_proxy"),
    ] {
        let proxy = WebProxy::start().await?;
        let mut list = desk.command(&["tunnel", "list"]);
        let place = format!("127.0.0.1:{}", proxy.port()?);
        list.env("https_proxy", format!("http://ada:canary@{place}"));
        let refusing = async {
            let mut call = proxy.call().await?;
            call.answer(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes())
                .await
        };
        let (said, refused) = tokio::join!(run(list), refusing);
        refused?;
        let said = said?;
        ensure!(said.stderr.contains(&place), "{}", said.stderr);
        names(&said, 5, error, hint)?;
    }
    let mut list = desk.command(&["tunnel", "list"]);
    list.env("https_proxy", "socks5://canary@h");
    names(
        &run(list).await?,
        2,
        "https_proxy: unsupported web proxy protocol",
        "write it as",
    )
}

on_own_choice!(
    the_environment_is_enough,
    every_refusal_says_what_next,
    a_service_that_is_gone_is_said_to_be,
    every_common_mistake_is_named,
    refusals_of_aws_say_what_next,
    calls_go_through_the_web_proxy_of_the_environment,
    hosts_of_no_proxy_are_reached_without,
    a_web_proxy_that_refuses_is_named,
);
