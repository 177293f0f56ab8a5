//! `kill -9` of each part: started again by a supervisor, with the same command line and
//! nothing else, it carries new connections within seconds, and nothing that was promised
//! is lost.

use std::time::{Duration, Instant};

use adit_tests::apps::{App, Temper};
use adit_tests::deadline::{pause, within_limit};
use adit_tests::on_each_loop;
use adit_tests::proxy::Proxy;
use adit_tests::scenario::Scenario;
use adit_tests::stack::Stack;
use adit_tests::verifier::{Outcome, Transfer, is_wrong};
use anyhow::Result;

const SEED: u64 = 9;

/// "Within seconds": 10 for the relay and 5 for a proxy, three times over for noise.
const RECOVERY: Duration = Duration::from_secs(30);

/// A stack whose operator has set client tokens.
async fn stack(scenario: &Scenario) -> Result<(Stack, App)> {
    let app = App::start(Temper::Verify(SEED)).await?;
    let with_tokens = |source: Proxy, destination: Proxy| {
        let name = "AWSIOT_TUNNEL_CLIENT_TOKEN";
        (
            source.env(name, "00000000-0000-4000-8000-000000000001"),
            destination.env(name, "00000000-0000-4000-8000-000000000002"),
        )
    };
    let places = [("SSH", app.address().to_string())];
    let stack = Stack::start_with(scenario, &places, with_tokens).await?;
    Ok((stack, app))
}

/// Tries new connections until one carries a verified transfer. A wrong byte is an error at
/// once; a connection that is refused or cut is tried again.
async fn recovers(stack: &mut Stack) -> Result<()> {
    let begin = Instant::now();
    let transfer = Transfer {
        id: 3,
        length: 100_000,
        seed: SEED,
    };
    within_limit(RECOVERY, "waiting for new connections to work", async {
        loop {
            stack.still_run()?;
            if let Ok(mut client) = stack.connect("SSH").await {
                match transfer.exchange(&mut client).await {
                    Ok(()) => return Ok(()),
                    Err(error) if is_wrong(&error) => return Err(error),
                    Err(_) => {}
                }
            }
            pause(Duration::from_millis(50)).await;
        }
    })
    .await?;
    eprintln!("new connections work after {:?}", begin.elapsed());
    Ok(())
}

/// A transfer that is under way when something is killed is cut, visibly: it never arrives
/// complete without being so, and no byte of it is wrong.
async fn is_cut_or_complete(mut client: tokio::net::TcpStream) -> Result<()> {
    match Transfer::receive(&mut client, !SEED).await? {
        Outcome::Complete(_) | Outcome::Cut { .. } => Ok(()),
    }
}

async fn a_killed_source_comes_back(scenario: Scenario) -> Result<()> {
    let (mut stack, _app) = stack(&scenario).await?;
    recovers(&mut stack).await?;
    let under_way = begun(&stack).await?;
    stack.kill_and_restart_source().await?;
    is_cut_or_complete(under_way).await?;
    recovers(&mut stack).await
}

async fn a_killed_destination_comes_back(scenario: Scenario) -> Result<()> {
    let (mut stack, _app) = stack(&scenario).await?;
    recovers(&mut stack).await?;
    let under_way = begun(&stack).await?;
    stack.kill_and_restart_destination().await?;
    is_cut_or_complete(under_way).await?;
    recovers(&mut stack).await
}

/// Tunnels and tokens, spent ones and bound ones, must outlive the process: nobody opens
/// the tunnel again.
async fn a_killed_relay_comes_back_with_its_tunnels(scenario: Scenario) -> Result<()> {
    let (mut stack, _app) = stack(&scenario).await?;
    recovers(&mut stack).await?;
    let under_way = begun(&stack).await?;
    let mut stack = stack.kill_and_restart_serve().await?;
    is_cut_or_complete(under_way).await?;
    // The proxies do it by themselves: none of them was started again.
    recovers(&mut stack).await
}

/// The client token that a proxy makes for itself must outlive it, or the access token is
/// burnt by the first crash.
async fn a_killed_proxy_comes_back_with_a_client_token_of_its_own(
    scenario: Scenario,
) -> Result<()> {
    let app = App::start(Temper::Verify(SEED)).await?;
    let mut stack = Stack::start(&scenario, &[("SSH", app.address().to_string())]).await?;
    recovers(&mut stack).await?;
    stack.kill_and_restart_source().await?;
    recovers(&mut stack).await?;
    stack.kill_and_restart_destination().await?;
    recovers(&mut stack).await
}

/// A connection with a large transfer from the application under way.
async fn begun(stack: &Stack) -> Result<tokio::net::TcpStream> {
    let mut client = stack.connect("SSH").await?;
    let transfer = Transfer {
        id: 4,
        length: 1 << 30,
        seed: SEED,
    };
    // The greeting is enough for the application to begin its answer.
    tokio::io::AsyncWriteExt::write_all(&mut client, &transfer.greeting()).await?;
    let mut first = [0; 1];
    client.peek(&mut first).await?;
    Ok(client)
}

on_each_loop!(
    a_killed_source_comes_back,
    a_killed_destination_comes_back,
    a_killed_relay_comes_back_with_its_tunnels,
    a_killed_proxy_comes_back_with_a_client_token_of_its_own,
);
