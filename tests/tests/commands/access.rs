//! Who calls and where: keys, endpoints, authorities, and what is said when they are wrong.

use adit_tests::on_own_choice;
use adit_tests::scenario::Scenario;
use anyhow::{Result, ensure};

use crate::desk::{Desk, run};

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
        let said = run(command).await?;
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

on_own_choice!(
    the_environment_is_enough,
    every_refusal_says_what_next,
    a_service_that_is_gone_is_said_to_be,
);
