//! Rule 12: the end of a tunnel is a close frame; a restart is none.

use adit_tests::on_each_loop;
use adit_tests::process::Signal;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_proxy::Upgrade;
use adit_tests::wire::{Message, Route, v3};
use anyhow::{Result, ensure};
use serde_json::json;

use crate::pair::Pair;

const FIRST: Route<'_> = v3("SSH", 1, 1);

async fn rule12_a_closed_tunnel_says_goodbye_to_both_sides(scenario: Scenario) -> Result<()> {
    for input in [json!({}), json!({ "delete": true })] {
        let mut pair = Pair::start(&scenario, &["SSH"]).await?;
        pair.open(&Message::stream_start(FIRST)).await?;
        let mut input = input;
        input["tunnelId"] = json!(pair.tunnel.id);
        pair.serve.api()?.call("CloseTunnel", &input).await?;
        pair.source.closes_with(1000).await?;
        pair.destination.closes_with(1000).await?;

        // Nobody gets in any more, with whatever token.
        let endpoint = pair.serve.tunnel();
        for (mode, token) in [
            ("source", &pair.tunnel.source_token),
            ("destination", &pair.tunnel.destination_token),
        ] {
            let refused = endpoint.refused(&Upgrade::new(mode, token)).await?;
            let status = refused.head.status()?;
            ensure!((400..500).contains(&status), "{}", refused.head.start_line);
        }
    }
    Ok(())
}

/// A token that was never used is worth nothing once its tunnel is closed.
async fn rule12_nobody_joins_a_closed_tunnel(scenario: Scenario) -> Result<()> {
    let pair = Pair::start(&scenario, &["SSH"]).await?;
    let api = pair.serve.api()?;
    let tunnel = api.open_tunnel(&["SSH"]).await?;
    api.close_tunnel(&tunnel.id).await?;
    let upgrade = Upgrade::new("source", &tunnel.source_token);
    let refused = pair.serve.tunnel().refused(&upgrade).await?;
    ensure!((400..500).contains(&refused.head.status()?));
    // An independent client relies on this header.
    let reason = refused.head.header("x-status-reason");
    ensure!(
        reason.is_some_and(|reason| reason.contains("closed")),
        "{reason:?}"
    );
    Ok(())
}

/// A proxy must survive a restart of the service, and a close frame would end it.
async fn rule12_a_stopped_service_drops_its_links_without_a_close_frame(
    scenario: Scenario,
) -> Result<()> {
    let mut pair = Pair::start(&scenario, &["SSH"]).await?;
    pair.serve.process.signal(Signal::Terminate).await?;
    pair.source.is_lost().await?;
    pair.destination.is_lost().await?;
    pair.serve.process.ends_with(0).await
}

/// DescribeTunnel tells who is there.
async fn the_api_tells_who_is_connected(scenario: Scenario) -> Result<()> {
    let pair = Pair::start(&scenario, &["SSH"]).await?;
    let api = pair.serve.api()?;
    let (id, endpoint) = (pair.tunnel.id.clone(), pair.serve.tunnel());
    api.wait_connected(&id, true, true).await?;
    pair.source.drop_tcp();
    pair.destination.reset_tcp()?;
    let gone = async {
        while api.connected(&id).await? != (false, false) {
            adit_tests::deadline::pause(std::time::Duration::from_millis(10)).await;
        }
        Ok(())
    };
    adit_tests::deadline::within("both sides to be gone", gone).await?;
    // The tokens were spent without a client token: rotation is the way back.
    let input = json!({ "tunnelId": id, "clientMode": "ALL" });
    let rotated = api.call("RotateTunnelAccessToken", &input).await?;
    let token = rotated["sourceAccessToken"].as_str().unwrap_or_default();
    let _source = endpoint.join("source", token, &["SSH"]).await?;
    api.wait_connected(&id, true, false).await
}

on_each_loop!(
    rule12_a_closed_tunnel_says_goodbye_to_both_sides,
    rule12_nobody_joins_a_closed_tunnel,
    rule12_a_stopped_service_drops_its_links_without_a_close_frame,
    the_api_tells_who_is_connected,
);
