//! What the reference's acceptance tests ask for (section 18, `uat/`), played against the
//! real relay, with both proxies under the reference's name and with its defaults.

use adit_tests::apps::{self, App, Temper};
use adit_tests::on_own_choice;
use adit_tests::proxy::Proxy;
use adit_tests::scenario::Scenario;
use adit_tests::stack::Stack;
use adit_tests::verifier::{seeded_bytes, sha256_hex};
use anyhow::{Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

fn both_as_localproxy(source: Proxy, destination: Proxy) -> (Proxy, Proxy) {
    (source.as_localproxy(), destination.as_localproxy())
}

/// `test_multiplex_integrity.sh`: three services, 128 KiB each at the same time, checksums.
/// The receivers finish on close, so the tail must come, and the close as well.
async fn three_services_carry_their_own_bytes_and_their_end(scenario: Scenario) -> Result<()> {
    let mut services = Vec::new();
    let (hashed, mut hashes) = mpsc::channel(3);
    for service in ["SSH1", "SSH2", "SSH3"] {
        let listener = apps::listener().await?;
        services.push((service, listener.local_addr()?.to_string()));
        let hashed = hashed.clone();
        tokio::spawn(async move {
            let mut stream = apps::accept(&listener).await?;
            let received = apps::read_to_end(&mut stream).await?;
            anyhow::Ok(hashed.send((service, sha256_hex(&received))).await?)
        });
    }
    drop(hashed);
    let stack = Stack::start_with(&scenario, &services, both_as_localproxy).await?;
    let mut expected = Vec::new();
    for (seed, (service, _)) in (1..).zip(&services) {
        let bytes = seeded_bytes(seed, 128 * 1024);
        expected.push((*service, sha256_hex(&bytes)));
        let mut stream = stack.connect(service).await?;
        tokio::spawn(async move {
            stream.write_all(&bytes).await?;
            anyhow::Ok(stream.shutdown().await?)
        });
    }
    let mut received = Vec::new();
    while let Some(hash) = hashes.recv().await {
        received.push(hash);
    }
    received.sort();
    ensure!(received == expected, "{received:?} instead of {expected:?}");
    Ok(())
}

/// A server that ends its answer by closing, as HTTP/1.0 does.
async fn a_close_of_the_application_reaches_the_client(scenario: Scenario) -> Result<()> {
    let bytes = seeded_bytes(4, 128 * 1024);
    let app = App::start(Temper::Greet(bytes.clone())).await?;
    let services = [("SSH", app.address().to_string())];
    let stack = Stack::start_with(&scenario, &services, both_as_localproxy).await?;
    let mut client = stack.connect("SSH").await?;
    ensure!(apps::read_to_end(&mut client).await? == bytes);
    Ok(())
}

/// `test_v1_compat.sh`: `-y V1` connects, and carries.
async fn a_v1_pair_connects_and_carries(scenario: Scenario) -> Result<()> {
    let echo = App::start(Temper::Echo).await?;
    let services = [("SSH", echo.address().to_string())];
    let as_v1 = |source: Proxy, destination: Proxy| {
        let (source, destination) = both_as_localproxy(source, destination);
        (source.args(["-y", "V1"]), destination.args(["-y", "V1"]))
    };
    let stack = Stack::start_with(&scenario, &services, as_v1).await?;
    let mut client = stack.connect("SSH").await?;
    apps::ping(&mut client, &seeded_bytes(5, 100_000)).await
}

on_own_choice!(
    three_services_carry_their_own_bytes_and_their_end,
    a_close_of_the_application_reaches_the_client,
    a_v1_pair_connects_and_carries,
);
