//! `iperf3` both ways. The figure is printed and not judged: this machine is shared.

use std::path::Path;
use std::time::Duration;

use adit_tests::on_each_loop;
use adit_tests::ports;
use adit_tests::process::Process;
use adit_tests::programs;
use adit_tests::scenario::Scenario;
use adit_tests::stack::Stack;
use anyhow::{Context, Result, ensure};

const LIMIT: Duration = Duration::from_secs(25);

async fn iperf3_runs_both_ways(scenario: Scenario) -> Result<()> {
    let Some([iperf]) = programs::find(&scenario, ["iperf3"])? else {
        return Ok(());
    };
    // A server each: one that has not seen the end of a test yet refuses the next.
    let (there, _server) = server(&scenario, &iperf).await?;
    let (back, _other) = server(&scenario, &iperf).await?;
    let places = [("THERE", there), ("BACK", back)];
    let stack = Stack::start(&scenario, &places).await?;
    for (direction, option) in [("THERE", None), ("BACK", Some("-R"))] {
        let rate = measured(&iperf, stack.port(direction)?, option).await?;
        eprintln!("{direction}: {:.0} Mbit/s", rate / 1e6);
        // Not a promise of speed: only that bytes flowed all the time.
        ensure!(rate > 1e6, "{direction}: {rate} bit/s");
    }
    Ok(())
}

async fn server(scenario: &Scenario, iperf: &Path) -> Result<(String, Process)> {
    let port = ports::free()?;
    let mut command = programs::command(iperf);
    command.args(["-s", "-B", "127.0.0.1", "-p", &port.to_string()]);
    let process = Process::start(scenario, "iperf3", command)?;
    ports::listened_on(port).await?;
    Ok((format!("127.0.0.1:{port}"), process))
}

async fn measured(iperf: &Path, port: u16, option: Option<&str>) -> Result<f64> {
    let mut command = programs::command(iperf);
    command.args([
        "-c",
        "127.0.0.1",
        "-p",
        &port.to_string(),
        "-t",
        "3",
        "-P",
        "2",
        "-J",
    ]);
    command.args(option);
    let output = programs::run(LIMIT, command).await?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    report["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .with_context(|| format!("no figure in {report}"))
}

on_each_loop!(iperf3_runs_both_ways);
