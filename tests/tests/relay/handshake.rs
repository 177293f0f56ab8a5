//! Rules 1 and 2: who is let in, and what the others are told (sections 1.3 to 1.6).

use std::time::Duration;

use adit_tests::deadline::within_limit;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_proxy::{Refused, Upgrade, expect_service_ids};
use adit_tests::stack::Serve;
use adit_tests::{on_each_loop, on_own_choice};
use anyhow::{Context, Result, ensure};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const CLIENT_TOKEN: &str = "0123456789abcdef-0123456789abcdef";
const OTHER_CLIENT_TOKEN: &str = "fedcba9876543210-fedcba9876543210";

/// Every refusal has a status, a session identifier, and its reason as text.
fn check_refusal(refused: &Refused, statuses: std::ops::Range<u16>) -> Result<()> {
    let status = refused.head.status()?;
    ensure!(statuses.contains(&status), "{}", refused.head.start_line);
    ensure!(
        refused.head.header("channel-id").is_some(),
        "{:?}",
        refused.head
    );
    ensure!(!refused.body.trim().is_empty(), "no reason is given");
    Ok(())
}

async fn rule1_an_upgrade_that_breaks_a_rule_is_refused(scenario: Scenario) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    let tunnel = serve.api()?.open_tunnel(&["SSH"]).await?;
    let (source, destination) = (&tunnel.source_token, &tunnel.destination_token);
    let good = Upgrade::new("source", source);
    let cookie = format!("awsiot-tunnel-token={source}");
    let cases = [
        (
            "another path",
            good.clone().target("/other?local-proxy-mode=source"),
        ),
        ("no mode", good.clone().target("/tunnel")),
        (
            "an unknown mode",
            good.clone().target("/tunnel?local-proxy-mode=both"),
        ),
        (
            "a mode in capitals",
            good.clone().target("/tunnel?local-proxy-mode=SOURCE"),
        ),
        ("no token", good.clone().without("access-token")),
        ("two tokens", good.clone().with("access-token", source)),
        ("a token and a cookie", good.clone().with("Cookie", &cookie)),
        (
            "an unknown token",
            good.clone().changed("access-token", "nobody's"),
        ),
        (
            "the other side's token",
            good.clone().changed("access-token", destination),
        ),
        (
            "two client tokens",
            good.clone()
                .with("client-token", CLIENT_TOKEN)
                .with("client-token", CLIENT_TOKEN),
        ),
        (
            "a short client token",
            good.clone().with("client-token", "short"),
        ),
        (
            "a request over 4096 bytes",
            good.clone().with("x-filler", &"x".repeat(4096)),
        ),
        (
            "no subprotocol",
            good.clone().without("sec-websocket-protocol"),
        ),
        (
            "an unknown subprotocol",
            good.clone()
                .changed("sec-websocket-protocol", "aws.iot.securetunneling-9.0"),
        ),
        ("no upgrade", good.clone().without("upgrade")),
        ("no key", good.clone().without("sec-websocket-key")),
        (
            "another version",
            good.clone().changed("sec-websocket-version", "8"),
        ),
    ];
    for (what, upgrade) in &cases {
        let refused = serve.tunnel().refused(upgrade).await.context(*what)?;
        check_refusal(&refused, 400..500).context(*what)?;
    }
    // None of them has spent the token.
    serve.tunnel().join("source", source, &["SSH"]).await?;
    Ok(())
}

async fn rule1_another_path_is_answered_with_400(scenario: Scenario) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    for target in [
        "/",
        "/tunnel/?local-proxy-mode=source",
        "/tunnels?local-proxy-mode=source",
    ] {
        let upgrade = Upgrade::new("source", "t").target(target);
        let refused = serve.tunnel().refused(&upgrade).await?;
        check_refusal(&refused, 400..401).context(target)?;
    }
    Ok(())
}

async fn rule1_a_token_without_client_token_is_good_for_one_connection(
    scenario: Scenario,
) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    let tunnel = serve.api()?.open_tunnel(&["SSH"]).await?;
    let upgrade = Upgrade::new("source", &tunnel.source_token);
    let mut first = serve.tunnel().upgrade(&upgrade).await?;
    expect_service_ids(&mut first, &["SSH"]).await?;
    for again in [
        upgrade.clone(),
        upgrade.clone().with("client-token", CLIENT_TOKEN),
    ] {
        let refused = serve.tunnel().refused(&again).await?;
        check_refusal(&refused, 400..401)?;
        ensure!(
            refused.body.trim()
                == "Invalid access token: The access token was previously used and can not be \
                    used again.",
            "{}",
            refused.body
        );
    }
    // The connection that has it is not harmed.
    first.fence().await?;
    Ok(())
}

async fn rule1_a_token_is_bound_to_the_client_token_of_its_first_use(
    scenario: Scenario,
) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    let api = serve.api()?;
    let tunnel = api.open_tunnel(&["SSH"]).await?;
    let plain = Upgrade::new("source", &tunnel.source_token);
    let bound = plain.clone().with("client-token", CLIENT_TOKEN);
    let mut first = serve.tunnel().upgrade(&bound).await?;
    expect_service_ids(&mut first, &["SSH"]).await?;

    let other = plain.clone().with("client-token", OTHER_CLIENT_TOKEN);
    for wrong in [&plain, &other] {
        let refused = serve.tunnel().refused(wrong).await?;
        check_refusal(&refused, 400..500)?;
        ensure!(refused.body.contains("token"), "{}", refused.body);
    }
    let told = serve.tunnel().refused(&other).await?.body;
    ensure!(
        told.trim()
            == "Invalid client token: The provided client token does not match the client token \
                that was previously set.",
        "{told}"
    );
    first.fence().await?;

    // The same pair again is a reconnect; the client token is taken for every other token.
    drop(first);
    let mut again = serve.tunnel().upgrade(&bound).await?;
    expect_service_ids(&mut again, &["SSH"]).await?;
    let another = api.open_tunnel(&["SSH"]).await?;
    let borrowed = Upgrade::new("source", &another.source_token);
    let borrowed = borrowed.with("client-token", CLIENT_TOKEN);
    check_refusal(&serve.tunnel().refused(&borrowed).await?, 400..500)
}

async fn rule1_a_cookie_will_do_for_a_token(scenario: Scenario) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    let tunnel = serve.api()?.open_tunnel(&[]).await?;
    let cookie = format!(
        "theme=dark; awsiot-tunnel-token={}; x=y",
        tunnel.source_token
    );
    let upgrade = Upgrade::new("source", "")
        .without("access-token")
        .with("Cookie", &cookie);
    let mut link = serve.tunnel().upgrade(&upgrade).await?;
    expect_service_ids(&mut link, &[]).await
}

/// Of many handshakes with one token at the same moment exactly one wins (threat T-04).
async fn rule1_a_token_is_spent_once_in_a_race(scenario: Scenario) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    for _ in 0..5 {
        let tunnel = serve.api()?.open_tunnel(&["SSH"]).await?;
        let upgrade = Upgrade::new("source", &tunnel.source_token).encode("localhost");
        let mut racers = Vec::new();
        for _ in 0..16 {
            racers.push(serve.tunnel().connect().await?);
        }
        let mut races = tokio::task::JoinSet::new();
        for mut racer in racers {
            let upgrade = upgrade.clone();
            races.spawn(async move {
                racer.send(&upgrade).await?;
                racer.answer().await
            });
        }
        let answers = races.join_all().await;
        let won = answers.iter().filter(|answer| matches!(answer, Ok(Ok(_))));
        ensure!(won.count() == 1, "not exactly one handshake won");
    }
    Ok(())
}

/// A client may offer several, known and unknown; one that it offered is chosen.
async fn rule2_one_of_the_offered_subprotocols_is_selected(scenario: Scenario) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    for (offer, known) in [
        ("aws.iot.securetunneling-1.0", &["1.0"][..]),
        ("aws.iot.securetunneling-2.0", &["2.0"]),
        ("x, aws.iot.securetunneling-2.0 ,y", &["2.0"]),
        (
            "aws.iot.securetunneling-1.0, aws.iot.securetunneling-3.0",
            &["1.0", "3.0"],
        ),
    ] {
        let tunnel = serve.api()?.open_tunnel(&["SSH"]).await?;
        let upgrade = Upgrade::new("destination", &tunnel.destination_token)
            .changed("sec-websocket-protocol", offer);
        let mut connected = serve.tunnel().connect().await?;
        connected.send(&upgrade.encode("localhost")).await?;
        let head = connected.accepted_head().await?;
        let selected = head.header("sec-websocket-protocol").unwrap_or_default();
        let version = selected.strip_prefix("aws.iot.securetunneling-");
        let is_known = version.is_some_and(|version| known.contains(&version));
        ensure!(is_known, "{offer}: {selected}");
    }
    Ok(())
}

/// A client waits for the answer (RFC 6455, section 4.1). One that does not is refused,
/// and its token is not spent.
async fn bytes_behind_the_request_are_refused(scenario: Scenario) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    let tunnel = serve.api()?.open_tunnel(&["SSH"]).await?;
    let mut bytes = Upgrade::new("source", &tunnel.source_token).encode("localhost");
    bytes.extend(b"early");
    let mut connected = serve.tunnel().connect().await?;
    connected.send(&bytes).await?;
    match connected.answer().await? {
        Ok(_) => anyhow::bail!("it was accepted"),
        Err(refused) => check_refusal(&refused, 400..401)?,
    }
    serve
        .tunnel()
        .join("source", &tunnel.source_token, &["SSH"])
        .await?;
    Ok(())
}

/// One deadline for the whole handshake, 10 s, wherever it stops (threat T-17).
async fn a_handshake_that_stops_is_given_up(scenario: Scenario) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    let endpoint = serve.tunnel();
    let mut silent = TcpStream::connect(("127.0.0.1", endpoint.port)).await?;
    let after_tls = endpoint.connect().await?;
    let mut half_a_head = endpoint.connect().await?;
    half_a_head
        .send(b"GET /tunnel?local-proxy-mode=source HTTP/1.1\r\nHost: l")
        .await?;
    let limit = Duration::from_secs(30);
    within_limit(limit, "giving up a silent client", async {
        let _ = silent.read(&mut [0]).await;
        Ok(())
    })
    .await?;
    within_limit(limit, "giving up after TLS", after_tls.is_hung_up()).await?;
    within_limit(limit, "giving up half a head", half_a_head.is_hung_up()).await
}

/// A head of one byte at a time is a head, and a message behind it is not lost.
async fn a_request_may_come_in_any_pieces(scenario: Scenario) -> Result<()> {
    let serve = Serve::start(&scenario).await?;
    let tunnel = serve.api()?.open_tunnel(&["SSH"]).await?;
    let upgrade = Upgrade::new("source", &tunnel.source_token).encode("localhost");
    let mut connected = serve.tunnel().connect().await?;
    for byte in &upgrade {
        connected.send(&[*byte]).await?;
    }
    let mut link = connected
        .answer()
        .await?
        .map_err(|refused| anyhow::anyhow!("refused: {}", refused.body))?;
    expect_service_ids(&mut link, &["SSH"]).await
}

on_each_loop!(rule1_an_upgrade_that_breaks_a_rule_is_refused);
on_own_choice!(
    rule1_another_path_is_answered_with_400,
    rule1_a_token_without_client_token_is_good_for_one_connection,
    rule1_a_token_is_bound_to_the_client_token_of_its_first_use,
    rule1_a_cookie_will_do_for_a_token,
    rule1_a_token_is_spent_once_in_a_race,
    rule2_one_of_the_offered_subprotocols_is_selected,
    bytes_behind_the_request_are_refused,
    a_handshake_that_stops_is_given_up,
    a_request_may_come_in_any_pieces,
);
