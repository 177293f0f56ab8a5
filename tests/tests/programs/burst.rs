//! A browser-like burst through one service, redis and PostgreSQL through others of the
//! same tunnel, all at the same time.

use std::time::Duration;

use adit_tests::apps::{App, Temper, page};
use adit_tests::on_each_loop;
use adit_tests::programs;
use adit_tests::scenario::Scenario;
use adit_tests::stack::Stack;
use anyhow::{Context, Result, ensure};

use crate::servers::{Server, expect_output};

const LIMIT: Duration = Duration::from_secs(45);
const REQUESTS: u64 = 200;

async fn two_hundred_parallel_http_requests_through_one_service(scenario: Scenario) -> Result<()> {
    let Some([curl]) = programs::find(&scenario, ["curl"])? else {
        return Ok(());
    };
    let app = App::start(Temper::Http).await?;
    let stack = Stack::start(&scenario, &[("HTTP", app.address().to_string())]).await?;
    let burst = http_burst(&scenario, &curl, stack.port("HTTP")?);
    programs::run(LIMIT, burst).await?;
    check_pages(&scenario)
}

async fn three_programs_share_a_tunnel_at_the_same_time(scenario: Scenario) -> Result<()> {
    let names = [
        "curl",
        "redis-server",
        "redis-benchmark",
        "psql",
        "initdb",
        "postgres",
    ];
    let Some([curl, redis, benchmark, psql, initdb, postgres]) = programs::find(&scenario, names)?
    else {
        return Ok(());
    };
    let app = App::start(Temper::Http).await?;
    let redis = Server::redis(&scenario, &redis).await?;
    let postgres = Server::postgres(&scenario, &initdb, &postgres).await?;
    let places = [
        ("HTTP", app.address().to_string()),
        ("REDIS", format!("127.0.0.1:{}", redis.port)),
        ("SQL", format!("127.0.0.1:{}", postgres.port)),
    ];
    let stack = Stack::start(&scenario, &places).await?;

    let burst = http_burst(&scenario, &curl, stack.port("HTTP")?);
    let mut load = programs::command(&benchmark);
    load.args([
        "-p",
        &stack.port("REDIS")?.to_string(),
        "-n",
        "10000",
        "-c",
        "30",
    ]);
    load.args(["-q", "-t", "set,get"]);
    let mut query = programs::command(&psql);
    query.args(["-h", "127.0.0.1", "-p", &stack.port("SQL")?.to_string()]);
    query.args(["-U", "tester", "-d", "postgres", "-At", "-c"]);
    query.arg(
        "create table t as select n, repeat(md5(n::text), 10) as x from generate_series(1, 20000) n;
         select count(*), sum(length(x)), md5(string_agg(x, '' order by n)) from t;",
    );
    let (burst, load, query) = tokio::join!(
        programs::run(LIMIT, burst),
        programs::run(LIMIT, load),
        programs::run(LIMIT, query)
    );
    burst.context("the burst")?;
    check_pages(&scenario)?;
    let load = load.context("redis-benchmark")?;
    expect_output(&load, "SET: ")?;
    expect_output(&load, "GET: ")?;
    expect_output(&query.context("psql")?, "20000|6400000|")
}

/// 200 different pages at once, each into a file of its own.
pub(crate) fn http_burst(
    scenario: &Scenario,
    curl: &std::path::Path,
    port: u16,
) -> std::process::Command {
    let mut command = programs::command(curl);
    command.args(["--silent", "--show-error", "--fail", "--noproxy", "*"]);
    command.args([
        "--parallel",
        "--parallel-immediate",
        "--parallel-max",
        "200",
    ]);
    command.arg(format!("http://127.0.0.1:{port}/[1-{REQUESTS}]"));
    command.arg("--output").arg(scenario.path("page-#1"));
    command
}

pub(crate) fn check_pages(scenario: &Scenario) -> Result<()> {
    for number in 1..=REQUESTS {
        let received = std::fs::read(scenario.path(&format!("page-{number}")))?;
        ensure!(received == page(number), "page {number} differs");
    }
    Ok(())
}

on_each_loop!(
    two_hundred_parallel_http_requests_through_one_service,
    three_programs_share_a_tunnel_at_the_same_time,
);
