//! The programs without any tunnel: what fails here is no fault of the product.

use std::time::Duration;

use adit_tests::apps::{App, Temper};
use adit_tests::on_own_choice;
use adit_tests::programs;
use adit_tests::scenario::Scenario;
use anyhow::{Result, ensure};

use crate::burst::{check_pages, http_burst};
use crate::servers::{Server, expect_output};
use crate::sshd::Sshd;

const LIMIT: Duration = Duration::from_secs(30);

async fn ssh_reaches_the_tests_own_sshd(scenario: Scenario) -> Result<()> {
    let Some(sshd) = Sshd::start(&scenario).await? else {
        return Ok(());
    };
    let mut command = sshd.client(sshd.port);
    command.args([&sshd.login(), "echo hello"]);
    let output = programs::run(LIMIT, command).await?;
    ensure!(output.stdout == b"hello\n");
    Ok(())
}

async fn curl_gets_the_tests_own_pages(scenario: Scenario) -> Result<()> {
    let Some([curl]) = programs::find(&scenario, ["curl"])? else {
        return Ok(());
    };
    let app = App::start(Temper::Http).await?;
    let burst = http_burst(&scenario, &curl, app.address().port());
    programs::run(LIMIT, burst).await?;
    check_pages(&scenario)
}

async fn redis_and_postgres_answer(scenario: Scenario) -> Result<()> {
    let names = [
        "redis-server",
        "redis-benchmark",
        "psql",
        "initdb",
        "postgres",
    ];
    let Some([redis, benchmark, psql, initdb, postgres]) = programs::find(&scenario, names)? else {
        return Ok(());
    };
    let redis = Server::redis(&scenario, &redis).await?;
    let mut command = programs::command(&benchmark);
    command.args([
        "-p",
        &redis.port.to_string(),
        "-n",
        "100",
        "-q",
        "-t",
        "get",
    ]);
    expect_output(&programs::run(LIMIT, command).await?, "GET: ")?;
    let postgres = Server::postgres(&scenario, &initdb, &postgres).await?;
    let mut command = programs::command(&psql);
    command.args(["-h", "127.0.0.1", "-p", &postgres.port.to_string()]);
    command.args([
        "-U",
        "tester",
        "-d",
        "postgres",
        "-At",
        "-c",
        "select 6 * 7",
    ]);
    expect_output(&programs::run(LIMIT, command).await?, "42")
}

on_own_choice!(
    ssh_reaches_the_tests_own_sshd,
    curl_gets_the_tests_own_pages,
    redis_and_postgres_answer,
);
