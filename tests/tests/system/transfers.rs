//! No wrong byte and no silent cut, end to end.

use std::time::{Duration, Instant};

use adit_tests::apps::{self, App, Temper};
use adit_tests::ports;
use adit_tests::scenario::Scenario;
use adit_tests::stack::Stack;
use adit_tests::verifier::{Outcome, Transfer, seeded_bytes};
use adit_tests::{on_each_loop, on_own_choice};
use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

const SEED: u64 = 20_261_123;
const MIB: u64 = 1024 * 1024;

/// 2,000 connections open at once in one service, each with its own bytes both ways.
async fn two_thousand_connections_at_once_carry_their_own_bytes(scenario: Scenario) -> Result<()> {
    let app = App::start(Temper::Verify(SEED)).await?;
    let stack = Stack::start(&scenario, &[("SSH", app.address().to_string())]).await?;
    let mut clients = Vec::new();
    for _ in 0..2_000 {
        clients.push(stack.connect("SSH").await?);
    }
    let mut exchanges = JoinSet::new();
    for (id, mut client) in (1..).zip(clients) {
        exchanges.spawn(async move {
            let transfer = Transfer {
                id,
                length: 5_000 + id,
                seed: SEED,
            };
            transfer.exchange(&mut client).await?;
            // Stays open until all are done.
            anyhow::Ok(client)
        });
    }
    let mut done = Vec::new();
    while let Some(outcome) = exchanges.join_next().await {
        done.push(outcome?.with_context(|| format!("after {} were done", done.len()))?);
    }
    ensure!(done.len() == 2_000);
    Ok(())
}

/// Each has bytes of its own, so that none is taken for another.
async fn three_services_carry_bulk_both_ways_at_the_same_time(scenario: Scenario) -> Result<()> {
    let services = [("A", SEED), ("B", SEED + 1), ("C", SEED + 2)];
    let (mut apps, mut places) = (Vec::new(), Vec::new());
    for (service, seed) in services {
        let app = App::start(Temper::Verify(seed)).await?;
        places.push((service, app.address().to_string()));
        apps.push(app);
    }
    let stack = Stack::start(&scenario, &places).await?;
    let mut exchanges = JoinSet::new();
    for id in 0..9 {
        let (service, seed) = services[id as usize % 3];
        let mut client = stack.connect(service).await?;
        exchanges.spawn(async move {
            let transfer = Transfer {
                id,
                length: 6 * MIB,
                seed,
            };
            transfer.exchange(&mut client).await
        });
    }
    for outcome in exchanges.join_all().await {
        outcome?;
    }
    Ok(())
}

/// "Write a megabyte, then close at once" loses nothing, many times over.
async fn nothing_is_lost_when_a_client_writes_and_closes(scenario: Scenario) -> Result<()> {
    let listener = apps::listener().await?;
    let places = [("SSH", listener.local_addr()?.to_string())];
    let stack = Stack::start(&scenario, &places).await?;
    for id in 0..20 {
        let transfer = Transfer {
            id,
            length: MIB + id * 1_001,
            seed: SEED,
        };
        let mut client = stack.connect("SSH").await?;
        let writing = tokio::spawn(async move { transfer.send(&mut client).await });
        let mut app = apps::accept(&listener).await?;
        let outcome = Transfer::receive(&mut app, SEED).await?;
        ensure!(outcome == Outcome::Complete(transfer), "{outcome:?}");
        writing.await??;
    }
    Ok(())
}

/// A connection that dies in the middle is seen as cut, and its neighbours go on.
async fn a_reset_in_the_middle_cuts_one_transfer_and_no_other(scenario: Scenario) -> Result<()> {
    let listener = apps::listener().await?;
    let places = [("SSH", listener.local_addr()?.to_string())];
    let stack = Stack::start(&scenario, &places).await?;
    let whole = Transfer {
        id: 1,
        length: 4 * MIB,
        seed: SEED,
    };
    let cut = Transfer { id: 2, ..whole };
    let mut surviving = stack.connect("SSH").await?;
    let mut survivor = apps::accept(&listener).await?;
    let mut dying = stack.connect("SSH").await?;
    let mut victim = apps::accept(&listener).await?;
    let sending = tokio::spawn(async move { whole.send(&mut surviving).await });
    let mut bytes = Vec::new();
    cut.send(&mut bytes).await?;
    dying.write_all(&bytes[..100_000]).await?;
    apps::reset(dying)?;
    // Both at once: an application that does not read would hold up the other.
    let (victims, survivors) = tokio::join!(
        Transfer::receive(&mut victim, SEED),
        Transfer::receive(&mut survivor, SEED)
    );
    let (victims, survivors) = (victims?, survivors?);
    ensure!(matches!(victims, Outcome::Cut { .. }), "{victims:?}");
    ensure!(survivors == Outcome::Complete(whole), "{survivors:?}");
    sending.await?
}

/// One-byte writes, and answers that must come back before the next.
async fn a_conversation_of_single_bytes_keeps_its_order(scenario: Scenario) -> Result<()> {
    let echo = App::start(Temper::Echo).await?;
    let stack = Stack::start(&scenario, &[("SSH", echo.address().to_string())]).await?;
    let mut client = stack.connect("SSH").await?;
    for byte in seeded_bytes(SEED, 500) {
        apps::ping(&mut client, &[byte]).await?;
    }
    Ok(())
}

/// "A service that is down answers within a second"; 5 s are allowed here, because the
/// machine is noisy.
async fn a_service_that_is_down_answers_at_once(scenario: Scenario) -> Result<()> {
    let nowhere = format!("127.0.0.1:{}", ports::free()?);
    let echo = App::start(Temper::Echo).await?;
    let places = [("DOWN", nowhere), ("UP", echo.address().to_string())];
    let stack = Stack::start(&scenario, &places).await?;
    for _ in 0..3 {
        let asked = Instant::now();
        let mut client = stack.connect("DOWN").await?;
        apps::is_ended(&mut client).await?;
        let took = asked.elapsed();
        ensure!(took < Duration::from_secs(5), "it took {took:?}");
        eprintln!("a service that is down answered after {took:?}");
    }
    apps::ping(&mut stack.connect("UP").await?, b"hello").await
}

/// A service that comes up later needs nobody's help.
async fn a_service_that_comes_up_is_reached(scenario: Scenario) -> Result<()> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], ports::free()?));
    let stack = Stack::start(&scenario, &[("SSH", address.to_string())]).await?;
    apps::is_ended(&mut stack.connect("SSH").await?).await?;
    let _echo = App::start_at(address, Temper::Echo).await?;
    apps::ping(&mut stack.connect("SSH").await?, b"hello").await
}

/// Hundreds of short connections in turn, as a browser without keep-alive makes them.
async fn connections_in_turn_are_each_served(scenario: Scenario) -> Result<()> {
    let app = App::start(Temper::Greet(b"hello".to_vec())).await?;
    let stack = Stack::start(&scenario, &[("SSH", app.address().to_string())]).await?;
    for _ in 0..100 {
        let mut client = stack.connect("SSH").await?;
        apps::expect_bytes(&mut client, b"hello").await?;
    }
    Ok(())
}

on_each_loop!(
    two_thousand_connections_at_once_carry_their_own_bytes,
    three_services_carry_bulk_both_ways_at_the_same_time,
    nothing_is_lost_when_a_client_writes_and_closes,
    a_service_that_is_down_answers_at_once,
);
on_own_choice!(
    a_reset_in_the_middle_cuts_one_transfer_and_no_other,
    a_conversation_of_single_bytes_keeps_its_order,
    a_service_that_comes_up_is_reached,
    connections_in_turn_are_each_served,
);
