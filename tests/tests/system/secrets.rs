//! Threat T-03: a whole life of a tunnel at the most talkative level, and then a search for its secrets in
//! everything that it left.

use std::path::Path;

use adit_tests::apps::{self, App, Temper};
use adit_tests::on_own_choice;
use adit_tests::ports;
use adit_tests::process::Signal;
use adit_tests::proxy::Proxy;
use adit_tests::scenario::Scenario;
use adit_tests::stack::Serve;
use anyhow::{Context, Result, ensure};

const SOURCE_CLIENT: &str = "canary-source-0123456789abcdef012345";
const DESTINATION_CLIENT: &str = "canary-destination-0123456789abcdef0";
const PAYLOAD: &[u8] = b"canary-of-the-application-itself";
const SERVICE: &str = "SSH";

async fn no_secret_is_in_what_a_tunnel_leaves_behind(scenario: Scenario) -> Result<()> {
    let echo = App::start(Temper::Echo).await?;
    let mut serve = Serve::start_with(&scenario, &["-v", "6"]).await?;
    let api = serve.api()?;
    let tunnel = api.open_tunnel(&[SERVICE]).await?;
    let port = ports::free()?;
    let listens = format!("{SERVICE}={port}");
    let dials = format!("{SERVICE}={}", echo.address());
    let side = |proxy: Proxy, token: &str| {
        proxy
            .token(token)
            .trusting(&serve.ca_file())
            .args(["-v", "6"])
    };
    let source = side(
        Proxy::source(&scenario, &listens, &serve.endpoint()),
        &tunnel.source_token,
    );
    let destination = Proxy::destination(&scenario, &dials, &serve.endpoint());
    let destination = side(destination, &tunnel.destination_token);

    let mut source = source.args(["-i", SOURCE_CLIENT]).start()?;
    let with_client = destination.env("AWSIOT_TUNNEL_CLIENT_TOKEN", DESTINATION_CLIENT);
    let mut first = with_client.start()?;
    api.wait_connected(&tunnel.id, true, true).await?;
    ports::listened_on(port).await?;
    let mut client = apps::connect(port).await?;
    apps::ping(&mut client, PAYLOAD).await?;

    // A refusal: the token is bound to another client token.
    let thief = "canary-thief-0123456789abcdef0123456";
    let stolen = with_client.clone().env("AWSIOT_TUNNEL_CLIENT_TOKEN", thief);
    let mut stolen = stolen.start()?;
    ensure!(!stolen.end().await?.success(), "a stolen token is good");
    // A rotation, and the new token at work.
    let rotated = api.rotate_destination(&tunnel.id).await?;
    first.end().await?;
    let mut second = with_client.token(&rotated).start()?;
    api.wait_connected(&tunnel.id, true, true).await?;
    let mut client = apps::connect(port).await?;
    apps::ping(&mut client, PAYLOAD).await?;

    let secrets = [
        tunnel.source_token.as_bytes(),
        tunnel.destination_token.as_bytes(),
        rotated.as_bytes(),
        SOURCE_CLIENT.as_bytes(),
        DESTINATION_CLIENT.as_bytes(),
        thief.as_bytes(),
        PAYLOAD,
    ];
    for process in [&serve.process, &source, &second] {
        for file in ["cmdline", "environ", "limits"] {
            let path = format!("/proc/{}/{file}", process.id());
            let bytes = std::fs::read(&path)?;
            has_none(&path, &bytes, &secrets)?;
            let text = String::from_utf8_lossy(&bytes);
            let core = text
                .lines()
                .find_map(|line| line.strip_prefix("Max core file size"));
            let soft = core.and_then(|limits| limits.split_whitespace().next());
            ensure!(file != "limits" || soft == Some("0"), "{path}: {core:?}");
        }
    }
    api.close_tunnel(&tunnel.id).await?;
    ensure!(source.end().await.is_ok() && second.end().await.is_ok());
    serve.process.signal(Signal::Terminate).await?;
    serve.process.ends_with(0).await?;

    for (name, process) in [
        ("serve", &serve.process),
        ("source", &source),
        ("first destination", &first),
        ("thief", &stolen),
        ("second destination", &second),
    ] {
        let lines = process.output();
        has_none(name, lines.tail(usize::MAX).as_bytes(), &secrets)?;
        ensure!(lines.count() > 3, "{name} said nothing at all");
    }
    ensure!(
        serve.process.output().has("DEBUG") && source.output().has("DEBUG"),
        "the logs are not talkative"
    );
    let files = search(scenario.directory(), &secrets)?;
    ensure!(files > 5, "only {files} files were found");
    eprintln!("{files} files");
    Ok(())
}

fn has_none(place: &str, bytes: &[u8], secrets: &[&[u8]]) -> Result<()> {
    for secret in secrets {
        let is_there = bytes.windows(secret.len()).any(|window| window == *secret);
        ensure!(
            !is_there,
            "{} is in {place}",
            String::from_utf8_lossy(secret)
        );
    }
    Ok(())
}

/// Looks into every file below a directory, and returns how many there are.
fn search(directory: &Path, secrets: &[&[u8]]) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            count += search(&path, secrets)?;
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
            has_none(&path.display().to_string(), &bytes, secrets)?;
            count += 1;
        }
    }
    Ok(count)
}

on_own_choice!(no_secret_is_in_what_a_tunnel_leaves_behind);
