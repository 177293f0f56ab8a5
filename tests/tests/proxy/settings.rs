//! Settings files, regions, web proxies and client tokens.

use adit_tests::on_own_choice;
use adit_tests::output::Channel;
use adit_tests::ports;
use adit_tests::proxy::{Proxy, Side};
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::ScriptedService;
use adit_tests::web_proxy::WebProxy;
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

/// Not connected, and trying again would not help.
const CANNOT_CONNECT: i32 = 8;

/// A source that reaches its service through whatever the environment says.
fn through(scenario: &Scenario, endpoint: &str, variable: &str, value: &str) -> Result<Proxy> {
    let mapping = format!("SSH={}", ports::free()?);
    Ok(Proxy::source(scenario, &mapping, endpoint).env(variable, value))
}

/// A settings file made the reference forget the two China endpoints.
async fn q27_a_settings_file_keeps_the_endpoints_of_china(scenario: Scenario) -> Result<()> {
    let web_proxy = WebProxy::start().await?;
    let url = format!("http://127.0.0.1:{}", web_proxy.port()?);
    let empty = json!({});
    let overridden = json!({ "region_endpoint_overrides": { "eu-west-1": "own.example.test" } });
    let cases = [
        (
            None,
            "cn-north-1",
            "data.tunneling.iot.cn-north-1.amazonaws.com.cn",
        ),
        (
            Some(&empty),
            "cn-north-1",
            "data.tunneling.iot.cn-north-1.amazonaws.com.cn",
        ),
        (
            Some(&overridden),
            "cn-northwest-1",
            "data.tunneling.iot.cn-northwest-1.amazonaws.com.cn",
        ),
        (Some(&overridden), "eu-west-1", "own.example.test"),
        (
            Some(&overridden),
            "us-east-1",
            "data.tunneling.iot.us-east-1.amazonaws.com",
        ),
    ];
    for (settings, region, host) in cases {
        let mut proxy = Proxy::new(&scenario, "source")
            .mapping(Side::Source, "SSH=1")
            .args(["-r", region])
            .env("https_proxy", &url);
        if let Some(settings) = settings {
            proxy = proxy.settings(settings)?;
        }
        let _process = proxy.start()?;
        let call = web_proxy.call().await?;
        let expected = format!("CONNECT {host}:443 HTTP/1.1");
        ensure!(
            call.request.start_line == expected,
            "{}",
            call.request.start_line
        );
    }
    Ok(())
}

/// Two characters of the host were cut off.
async fn q28_a_web_proxy_needs_no_scheme(scenario: Scenario) -> Result<()> {
    let web_proxy = WebProxy::start().await?;
    let service = ScriptedService::start(&scenario).await?;
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("{host}:{}", web_proxy.port()?);
        let endpoint = service.endpoint()?;
        let _process = through(&scenario, &endpoint, "https_proxy", &url)?.start()?;
        let call = web_proxy.call().await?;
        ensure!(call.request.start_line == format!("CONNECT {endpoint} HTTP/1.1"));
        call.connect_to(service.address()?.port()).await?;
        service.admit(&["SSH"]).await?.fence().await?;
    }
    Ok(())
}

/// Credentials are percent-decoded and sent as `basic`; the token never goes to the proxy.
async fn a_web_proxy_gets_its_credentials_and_no_token(scenario: Scenario) -> Result<()> {
    let web_proxy = WebProxy::start().await?;
    let service = ScriptedService::start(&scenario).await?;
    let endpoint = service.endpoint()?;
    let url = format!("http://us%65r:p%40ss+word@127.0.0.1:{}", web_proxy.port()?);
    let _process = through(&scenario, &endpoint, "HTTPS_PROXY", &url)?.start()?;
    let call = web_proxy.call().await?;
    let authorization = call
        .request
        .header("proxy-authorization")
        .unwrap_or_default();
    let (scheme, credentials) = authorization.split_once(' ').unwrap_or_default();
    ensure!(scheme.eq_ignore_ascii_case("basic"), "{authorization}");
    // "user:p@ss word"
    ensure!(credentials == "dXNlcjpwQHNzIHdvcmQ=", "{authorization}");
    let request = String::from_utf8(call.request.raw.clone())?;
    ensure!(!request.contains(adit_tests::proxy::TOKEN), "{request}");
    call.connect_to(service.address()?.port()).await?;
    service.admit(&["SSH"]).await?.fence().await?;
    Ok(())
}

/// TLS to the web proxy, and TLS to the service inside.
async fn a_web_proxy_may_speak_tls(scenario: Scenario) -> Result<()> {
    let web_proxy = WebProxy::start_tls(scenario.pki().server()?).await?;
    let service = ScriptedService::start(&scenario).await?;
    let url = format!("https://localhost:{}", web_proxy.port()?);
    let _process = through(&scenario, &service.endpoint()?, "https_proxy", &url)?.start()?;
    let call = web_proxy.call().await?;
    call.connect_to(service.address()?.port()).await?;
    service.admit(&["SSH"]).await?.fence().await?;
    Ok(())
}

/// The lower-case variable wins, even when it is empty, which means "none".
async fn an_empty_variable_means_no_web_proxy(scenario: Scenario) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let proxy = through(&scenario, &service.endpoint()?, "https_proxy", "")?;
    let proxy = proxy.env("HTTPS_PROXY", "http://127.0.0.1:1");
    let _process = proxy.start()?;
    service.admit(&["SSH"]).await?.fence().await?;
    Ok(())
}

/// What a web proxy answers instead of 2xx is tried again, not taken for the tunnel.
async fn a_web_proxy_that_fails_is_asked_again(scenario: Scenario) -> Result<()> {
    let web_proxy = WebProxy::start().await?;
    let service = ScriptedService::start(&scenario).await?;
    let url = format!("http://127.0.0.1:{}", web_proxy.port()?);
    let quick = json!({ "websocket": { "retry_delay_ms": 20 } });
    let proxy = through(&scenario, &service.endpoint()?, "https_proxy", &url)?;
    let mut process = proxy.settings(&quick)?.start()?;
    let endless = format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(4_000));
    for answer in [
        "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n",
        "HTTP/1.1 503 Busy\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
        endless.as_str(),
    ] {
        let mut call = web_proxy.call().await?;
        // The proxy may hang up in the middle.
        let _ = call.answer(answer.as_bytes()).await;
    }
    web_proxy
        .call()
        .await?
        .connect_to(service.address()?.port())
        .await?;
    service.admit(&["SSH"]).await?.fence().await?;
    process.still_runs()
}

/// Credentials do not come by waiting.
async fn a_web_proxy_that_wants_credentials_is_not_asked_again(scenario: Scenario) -> Result<()> {
    let web_proxy = WebProxy::start().await?;
    let url = format!("http://127.0.0.1:{}", web_proxy.port()?);
    let proxy = through(&scenario, "localhost:1", "https_proxy", &url)?;
    // By either name: a supervisor must not take it for success.
    for proxy in [proxy.clone(), proxy.as_localproxy()] {
        let mut process = proxy.start()?;
        let mut call = web_proxy.call().await?;
        call.answer(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            .await?;
        process.ends_with(CANNOT_CONNECT).await?;
        let said = process.output().text(Channel::Stderr);
        ensure!(
            said.contains("407")
                && said.contains("https_proxy")
                && said.contains("not trying again"),
            "{said}"
        );
    }
    Ok(())
}

async fn a_web_proxy_of_an_unknown_kind_is_bad_usage(scenario: Scenario) -> Result<()> {
    for url in [
        "socks5://127.0.0.1:1080",
        "http://:3128",
        "http://h:99999",
        "http://a%zz@h",
    ] {
        let process = through(&scenario, "localhost:1", "https_proxy", url)?;
        let process = process.ends_with(2).await.context(url)?;
        let said = process.output().text(Channel::Stderr);
        ensure!(said.to_lowercase().contains("https_proxy"), "{url}: {said}");
    }
    Ok(())
}

/// The reference checked the length alone. A pattern that AWS would refuse is at least told.
async fn q31_a_client_token_out_of_pattern_is_noticed(scenario: Scenario) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let odd = "0123456789abcdef_0123456789abcdef";
    let mapping = format!("SSH={}", ports::free()?);
    let proxy = Proxy::source(&scenario, &mapping, &service.endpoint()?).args(["-i", odd]);
    let mut process = proxy.start()?;
    tokio::select! {
        ended = process.ends_with(2) => ended?,
        knock = service.knock() => drop(knock?),
    }
    let said = process.output().text(Channel::Stderr).to_lowercase();
    ensure!(
        said.contains("client token") || said.contains("client-token"),
        "{said}"
    );
    ensure!(!said.contains(odd), "the token itself is told");
    Ok(())
}

/// Too short is refused, as the reference does.
async fn a_short_client_token_is_bad_usage(scenario: Scenario) -> Result<()> {
    let mapping = format!("SSH={}", ports::free()?);
    let proxy = Proxy::source(&scenario, &mapping, "localhost:1");
    let process = proxy.args(["-i", "too-short"]).ends_with(2).await?;
    let said = process.output().text(Channel::Stderr);
    if !said.contains("32 to 128") {
        bail!("the limits are not told: {said}");
    }
    Ok(())
}

on_own_choice!(
    q27_a_settings_file_keeps_the_endpoints_of_china,
    q28_a_web_proxy_needs_no_scheme,
    a_web_proxy_gets_its_credentials_and_no_token,
    a_web_proxy_may_speak_tls,
    an_empty_variable_means_no_web_proxy,
    a_web_proxy_that_fails_is_asked_again,
    a_web_proxy_that_wants_credentials_is_not_asked_again,
    a_web_proxy_of_an_unknown_kind_is_bad_usage,
    q31_a_client_token_out_of_pattern_is_noticed,
    a_short_client_token_is_bad_usage,
);
