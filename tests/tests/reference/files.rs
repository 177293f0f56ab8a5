//! Where settings come from, and which of them wins: command line, `--config`,
//! environment, defaults (section 14).

use adit_tests::on_own_choice;
use adit_tests::ports;
use adit_tests::proxy::{Proxy, Side};
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::ScriptedService;
use anyhow::{Result, ensure};
use serde_json::json;

const CLIENT_TOKEN: &str = "0123456789abcdef0123456789abcdef";

async fn the_environment_alone_is_enough(scenario: Scenario) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let port = ports::free()?;
    let proxy = Proxy::new(&scenario, "source")
        .as_localproxy()
        .mapping(Side::Source, &port.to_string())
        .token("from-the-environment")
        .env("AWSIOT_TUNNEL_ENDPOINT", &service.endpoint()?)
        .env("AWSIOT_TUNNEL_CLIENT_TOKEN", CLIENT_TOKEN);
    let _process = proxy.start()?;
    let request = service.knock().await?.request;
    ensure!(request.header("access-token") == Some("from-the-environment"));
    ensure!(request.header("client-token") == Some(CLIENT_TOKEN));
    Ok(())
}

async fn a_config_file_beats_the_environment_and_the_command_line_both(
    scenario: Scenario,
) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let (from_file, from_line) = (ports::free()?, ports::free()?);
    let file = format!(
        "# a comment\n\nsource-listen-port = {from_file}\nproxy-endpoint = {}\n\
         access-token = from-the-file\nno-ssl-host-verify = true\nverbose = 5\n",
        service.endpoint()?
    );
    let file = scenario.write("options.conf", file)?;
    let with_file = Proxy::new(&scenario, "source")
        .as_localproxy()
        .without_ca()
        .token("from-the-environment")
        .args(["--config".as_ref(), file.as_os_str()]);
    {
        let _process = with_file.start()?;
        let knock = service.knock().await?;
        ensure!(knock.request.header("access-token") == Some("from-the-file"));
        let link = knock.accept().await?;
        link.send(&adit_tests::wire::Message::service_ids(&["SSH"]))
            .await?;
        ports::listened_on(from_file).await?;
    }
    let with_both = with_file
        .mapping(Side::Source, &from_line.to_string())
        .args(["-t", "from-the-line"]);
    let _process = with_both.start()?;
    let knock = service.knock().await?;
    ensure!(knock.request.header("access-token") == Some("from-the-line"));
    let link = knock.accept().await?;
    link.send(&adit_tests::wire::Message::service_ids(&["SSH"]))
        .await?;
    ports::listened_on(from_line).await
}

async fn an_unknown_name_in_a_config_file_is_an_error(scenario: Scenario) -> Result<()> {
    let file = scenario.write("options.conf", "source-listen-prot = 1\n")?;
    let proxy = Proxy::new(&scenario, "source")
        .as_localproxy()
        .args(["--config".as_ref(), file.as_os_str()]);
    let process = proxy.ends_with(1).await?;
    ensure!(
        process
            .output()
            .has("unrecognised option 'source-listen-prot'")
    );
    Ok(())
}

async fn a_broken_settings_file_is_told_with_its_line(scenario: Scenario) -> Result<()> {
    let file = scenario.write("broken.json", "{\n  \"tunneling\": {\n    oops\n}")?;
    let proxy = Proxy::source(&scenario, "1", "localhost:1")
        .as_localproxy()
        .args(["--settings-json".as_ref(), file.as_os_str()]);
    let process = proxy.ends_with(1).await?;
    ensure!(process.output().has("(3)"), "{}", process.output().tail(9));
    Ok(())
}

/// Numbers may be written as texts, and the keys do what they say.
async fn settings_are_obeyed(scenario: Scenario) -> Result<()> {
    let settings = json!({
        "default_bind_address": "127.0.0.1",
        "message": { "max_payload_size": "1000" },
        "websocket": { "subprotocol": "aws.iot.securetunneling-2.0" }
    });
    let service = ScriptedService::start(&scenario).await?;
    let port = ports::free()?;
    let proxy = Proxy::source(&scenario, &port.to_string(), &service.endpoint()?)
        .as_localproxy()
        .settings(&settings)?;
    let _process = proxy.start()?;
    let knock = service.knock().await?;
    let offered = knock.request.header("sec-websocket-protocol");
    ensure!(
        offered == Some("aws.iot.securetunneling-2.0"),
        "{offered:?}"
    );
    let mut link = knock.accept().await?;
    link.send(&adit_tests::wire::Message::service_ids(&["SSH"]))
        .await?;
    ports::listened_on(port).await?;
    let mut client = adit_tests::apps::connect(port).await?;
    tokio::io::AsyncWriteExt::write_all(&mut client, &[7; 5_000]).await?;
    let mut carried = 0;
    while carried < 5_000 {
        let size = link.message().await?.payload.len();
        ensure!(size <= 1_000, "a payload of {size} bytes");
        carried += size;
    }
    Ok(())
}

on_own_choice!(
    the_environment_alone_is_enough,
    a_config_file_beats_the_environment_and_the_command_line_both,
    an_unknown_name_in_a_config_file_is_an_error,
    a_broken_settings_file_is_told_with_its_line,
    settings_are_obeyed,
);
