//! The service's own start and end: files, ports, exit codes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use adit_tests::deadline::within;
use adit_tests::on_own_choice;
use adit_tests::output::Channel;
use adit_tests::ports;
use adit_tests::process::{Process, Signal};
use adit_tests::scenario::Scenario;
use adit_tests::stack::Serve;
use anyhow::{Context, Result, ensure};

fn serve(scenario: &Scenario, arguments: &[&str]) -> Result<Process> {
    let mut command = scenario.binary().adit();
    command.arg("serve").args(arguments);
    Process::start(scenario, "serve", command)
}

/// What is in use is printed too, for people.
async fn a_ready_service_says_where_it_is(scenario: Scenario) -> Result<()> {
    let mut serve = Serve::start(&scenario).await?;
    let tunnel_port = serve.tunnel().port.to_string();
    serve.process.line(&tunnel_port).await?;
    let endpoints = std::fs::read(serve.data().join("endpoints.json"))?;
    let endpoints: serde_json::Value = serde_json::from_slice(&endpoints)?;
    ensure!(endpoints["tunnel"] == serve.endpoint(), "{endpoints}");
    let api = endpoints["api"].as_str().unwrap_or_default();
    ensure!(api.starts_with("https://localhost:"), "{endpoints}");
    serve.process.signal(Signal::Interrupt).await?;
    serve.process.ends_with(0).await
}

/// Clients were given `ca.pem`: it stays what it is.
async fn the_authority_outlives_a_restart(scenario: Scenario) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    let before = std::fs::read(serve.ca_file())?;
    let serve = serve.kill_and_restart().await?;
    ensure!(
        std::fs::read(serve.ca_file())? == before,
        "another authority"
    );
    serve.api()?.open_tunnel(&["SSH"]).await?;
    Ok(())
}

/// A private key is for nobody else's eyes (threat T-26).
async fn no_key_is_readable_by_others(scenario: Scenario) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    let mut keys = 0;
    let mut directories = vec![serve.data().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if holds_a_key(&path) {
                keys += 1;
                let mode = std::fs::metadata(&path)?.permissions().mode();
                ensure!(mode & 0o077 == 0, "{} has mode {mode:o}", path.display());
            }
        }
    }
    ensure!(keys > 0, "no private key was found at all");
    Ok(())
}

fn holds_a_key(path: &Path) -> bool {
    std::fs::read(path)
        .is_ok_and(|content| String::from_utf8_lossy(&content).contains("PRIVATE KEY"))
}

async fn a_port_that_is_taken_has_its_own_exit_code(scenario: Scenario) -> Result<()> {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let address = taken.local_addr()?.to_string();
    let data = scenario.path("service").display().to_string();
    for (option, other) in [
        ("--api-listen", "--tunnel-listen"),
        ("--tunnel-listen", "--api-listen"),
    ] {
        let arguments = ["--data-dir", &data, option, &address, other, "127.0.0.1:0"];
        let mut process = serve(&scenario, &arguments)?;
        process.ends_with(7).await?;
        let said = process.output().text(Channel::Stderr);
        ensure!(
            said.contains(&address),
            "{option}: the address is not told: {said}"
        );
    }
    Ok(())
}

async fn bad_usage_names_the_option(scenario: Scenario) -> Result<()> {
    let cases = [
        (vec!["--api-listen", "nowhere"], "--api-listen"),
        (
            vec!["--tunnel-listen", "127.0.0.1:99999"],
            "--tunnel-listen",
        ),
        (vec!["--io", "kqueue"], "--io"),
        (vec!["--nonsense"], "--nonsense"),
    ];
    for (arguments, option) in cases {
        let mut process = serve(&scenario, &arguments)?;
        let ended = process.ends_with(2).await;
        ended.with_context(|| format!("{arguments:?}"))?;
        let said = process.output().text(Channel::Stderr);
        ensure!(said.contains(option), "{arguments:?}: {said}");
    }
    Ok(())
}

/// A data directory that cannot be written is told with its path, not by a panic.
async fn a_data_directory_that_cannot_be_made_is_told(scenario: Scenario) -> Result<()> {
    let file = scenario.write("a-file", "")?;
    let inside = file.join("data").display().to_string();
    let arguments = ["--data-dir", &inside];
    let mut process = serve(&scenario, &arguments)?;
    let code = process.end().await?.code();
    ensure!(
        code.is_some_and(|code| code != 0 && code != 101),
        "{code:?}"
    );
    let said = process.output().text(Channel::Stderr);
    ensure!(
        said.contains(&inside) && !said.contains("panicked"),
        "{said}"
    );
    ensure!(said.contains("with --data-dir"), "no next step: {said}");
    Ok(())
}

/// Two services cannot use one data directory and the same ports, but the second says so
/// and leaves the first alone.
async fn a_second_service_on_the_same_ports_harms_nobody(scenario: Scenario) -> Result<()> {
    let mut first = Serve::start(&scenario).await?;
    let address = format!("127.0.0.1:{}", first.tunnel().port);
    let data = scenario.path("other").display().to_string();
    let arguments = ["--data-dir", &data, "--tunnel-listen", &address];
    let api = format!("127.0.0.1:{}", ports::free()?);
    let mut second = serve(
        &scenario,
        &[&arguments[..], &["--api-listen", &api]].concat(),
    )?;
    second.ends_with(7).await?;
    first.process.still_runs()?;
    first.api()?.open_tunnel(&["SSH"]).await?;
    Ok(())
}

/// Threat T-01. The database is a listener that never answers, so that the service waits for it.
async fn the_url_of_a_store_shows_no_password(scenario: Scenario) -> Result<()> {
    let database = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = database.local_addr()?.port();
    let data = scenario.path("service").display().to_string();
    for url in [
        format!("postgres://adit:hunter2@127.0.0.1:{port}/adit"),
        format!("postgresql:///adit?host=127.0.0.1&port={port}&user=adit&password=hunter2"),
        format!("postgresql://127.0.0.1:{port}/adit?user=adit&password=hunter2"),
    ] {
        for words in [
            vec!["--store".to_owned(), url.clone()],
            vec![format!("--store={url}")],
        ] {
            let mut arguments = vec!["--data-dir", &data, "--api-listen", "127.0.0.1:0"];
            arguments.extend(["--tunnel-listen", "127.0.0.1:0"]);
            arguments.extend(words.iter().map(String::as_str));
            let mut process = serve(&scenario, &arguments)?;
            let came = within("waiting for the service to ask its database", async {
                Ok(database.accept().await?)
            });
            let _connection = came.await?;
            let line = std::fs::read(format!("/proc/{}/cmdline", process.id()))?;
            let line = String::from_utf8_lossy(&line);
            ensure!(
                line.contains("--store") && !line.contains("hunter2"),
                "{words:?}: {line:?}"
            );
            process.kill().await?;
        }
    }
    Ok(())
}

on_own_choice!(
    the_url_of_a_store_shows_no_password,
    a_ready_service_says_where_it_is,
    the_authority_outlives_a_restart,
    no_key_is_readable_by_others,
    a_port_that_is_taken_has_its_own_exit_code,
    bad_usage_names_the_option,
    a_data_directory_that_cannot_be_made_is_told,
    a_second_service_on_the_same_ports_harms_nobody,
);
