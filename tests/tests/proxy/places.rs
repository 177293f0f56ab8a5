//! Threat T-11: a peer names services, and no place that the operator has not named is ever dialled.

use std::path::Path;

use adit_tests::apps::{self, App, Temper};
use adit_tests::on_own_choice;
use adit_tests::process::Process;
use adit_tests::programs;
use adit_tests::proxy::Proxy;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::ScriptedService;
use adit_tests::wire::{Message, v3};
use anyhow::{Context, Result, ensure};

/// Service ids tried between two questions whether the proxy is still there.
const BATCH: usize = 100;

/// Names that look like places, and names that look like the one that is mapped.
fn hostile_ids(trap: u16, socket: &Path) -> Vec<String> {
    let places = [
        format!("127.0.0.1:{trap}"),
        format!("localhost:{trap}"),
        format!("[::1]:{trap}"),
        format!("[::ffff:127.0.0.1]:{trap}"),
        format!("2130706433:{trap}"),
        format!("{trap}"),
        format!("SSH={trap}"),
        format!("SSH=127.0.0.1:{trap}"),
        format!("http://127.0.0.1:{trap}/"),
        format!("unix:{}", socket.display()),
        socket.display().to_string(),
        "169.254.169.254:80".to_owned(),
        "224.0.0.1:5353".to_owned(),
        "/etc/passwd".to_owned(),
        "../../etc/passwd".to_owned(),
        "*".to_owned(),
        "ssh".to_owned(),
        "SSH".to_owned(),
    ];
    let decorations = [
        "",
        " ",
        "\0",
        "\r\n",
        "\t",
        ",",
        "=",
        ";",
        "%00",
        "\u{feff}",
        "\u{202e}",
        "é",
        "\u{1b}[2J",
        "$(id)",
        "`id`",
        "'\"",
        "@",
        "#",
        "\\",
        "\u{10ffff}",
    ];
    let mut ids = Vec::new();
    for place in &places {
        for before in decorations {
            for behind in decorations {
                ids.push(format!("{before}{place}{behind}"));
                ids.push(format!("SSH{before}{place}{behind}"));
            }
        }
    }
    // The one that is mapped is no attack; it is what `SSH` between two nothings makes.
    ids.retain(|id| id != "SSH");
    for size in [129, 1_024, 60_000] {
        ids.push("S".repeat(size));
        ids.push(format!("{}:{trap}", "127.0.0.1 ".repeat(size / 10)));
    }
    ids
}

#[test]
fn every_place_is_tried_as_it_is_and_decorated() {
    let ids = hostile_ids(7, Path::new("/trap"));
    let sizes = [129, 1_024, 60_000].map(|size| "S".repeat(size));
    let plain = [
        "[::ffff:127.0.0.1]:7",
        "SSH=7",
        "unix:/trap",
        "../../etc/passwd",
        "*",
        "SSH\0",
        " SSH",
    ];
    for id in plain.into_iter().chain(sizes.iter().map(String::as_str)) {
        assert!(ids.iter().any(|it| it == id), "{id:?}");
    }
    assert!(!ids.iter().any(|id| id == "SSH"), "that one is mapped");
    // 18 places with one of 20 decorations on each side, with and without the mapped name in front.
    assert_eq!(ids.len(), 18 * 20 * 20 * 2 - 1 + 6);
}

/// The places that a trace of `connect` calls has seen, as strace writes them.
fn dialled(trace: &str) -> Vec<&str> {
    let calls = trace.lines().filter(|line| line.contains("connect("));
    calls.collect()
}

async fn no_service_id_leads_to_a_place_outside_of_the_map(scenario: Scenario) -> Result<()> {
    let Some([strace]) = programs::find(&scenario, ["strace"])? else {
        return Ok(());
    };
    let echo = App::start(Temper::Echo).await?;
    let trap = apps::listener().await?;
    let socket = scenario.path("trap");
    let unix_trap = tokio::net::UnixListener::bind(&socket)?;
    let service = ScriptedService::start(&scenario).await?;
    let mapping = format!("SSH={}", echo.address());
    // Dials of the other loop are no calls that strace could see.
    let proxy =
        Proxy::destination(&scenario, &mapping, &service.endpoint()?).args(["--io", "epoll"]);
    let log = scenario.path("connect.strace");
    let mut command = programs::command(&strace);
    command.args(["-f", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o"]);
    command.arg(&log).arg("--");
    let command = programs::wrapped(command, &proxy.command());
    let mut process = Process::start(&scenario, "destination", command)?;
    let mut link = service.admit(&["SSH"]).await?;

    let ids = hostile_ids(trap.local_addr()?.port(), &socket);
    for (number, batch) in ids.chunks(BATCH).enumerate() {
        for (index, id) in batch.iter().enumerate() {
            let stream = i32::try_from(number * BATCH + index + 1)?;
            link.send(&Message::stream_start(v3(id, stream, 1))).await?;
            link.send(&Message::connection_start(v3(id, stream, 2)))
                .await?;
            link.send(&Message::data(v3(id, stream, 1), "x")).await?;
        }
        // It has read all of them, and dropped them (rule 7.2-6).
        let said = link
            .fence()
            .await
            .with_context(|| format!("batch {number}: {batch:?}"))?;
        ensure!(said.is_empty(), "batch {number}: {said:?}");
    }
    // What is mapped still works, and is in the trace as the only dial but the one to the service.
    let route = v3("SSH", 1, 1);
    link.send(&Message::stream_start(route)).await?;
    link.send(&Message::data(route, "hello")).await?;
    link.expect_data(route, b"hello").await?;
    process.still_runs()?;

    let trace = std::fs::read_to_string(&log)?;
    let own =
        [echo.address().port(), service.address()?.port()].map(|port| format!("htons({port})"));
    for call in dialled(&trace) {
        // Looking up `localhost` asks a cache on this machine first.
        let is_own = own.iter().any(|port| call.contains(port)) || call.contains("/nscd/");
        ensure!(is_own, "a place outside of the map: {call}");
    }
    ensure!(
        own.iter()
            .all(|port| dialled(&trace).iter().any(|call| call.contains(port))),
        "the trace is not whole:\n{trace}"
    );
    let looked_up = trace
        .lines()
        .filter(|line| line.contains("sin_port=htons(53)"))
        .count();
    ensure!(looked_up == 0, "names were looked up:\n{trace}");
    let came = tokio::time::timeout(std::time::Duration::ZERO, async {
        tokio::select! {
            tcp = trap.accept() => tcp.map(drop),
            unix = unix_trap.accept() => unix.map(drop),
        }
    });
    ensure!(came.await.is_err(), "somebody came to a trap");
    eprintln!("{} service ids, {} dials", ids.len(), dialled(&trace).len());
    Ok(())
}

on_own_choice!(no_service_id_leads_to_a_place_outside_of_the_map);
