//! A service that refuses, fails, or is not there: when a proxy tries again, and how it ends.

use std::time::Duration;

use adit_tests::deadline::within_limit;
use adit_tests::on_each_loop;
use adit_tests::on_own_choice;
use adit_tests::output::Channel;
use adit_tests::ports;
use adit_tests::process::Process;
use adit_tests::proxy::{Proxy, TOKEN};
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::{Acceptance, ScriptedService};
use adit_tests::wire::Message;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// Refused by the service.
const REFUSED: i32 = 4;
/// The service could not be reached, and the retries are used up.
const UNREACHABLE: i32 = 5;
/// Not connected, and trying again would not help.
const CANNOT_CONNECT: i32 = 8;

async fn service_and_proxy(scenario: &Scenario) -> Result<(ScriptedService, Proxy)> {
    let service = ScriptedService::start(scenario).await?;
    let mapping = format!("SSH={}", ports::free()?);
    let proxy = Proxy::source(scenario, &mapping, &service.endpoint()?);
    Ok((service, proxy))
}

fn retrying(proxy: Proxy, count: i32, delay_ms: u32) -> Result<Proxy> {
    proxy.settings(&json!({
        "websocket": { "connect_retry_count": count, "retry_delay_ms": delay_ms }
    }))
}

/// The reference ended with 0: a supervisor took it for success.
async fn q06_a_refusal_ends_with_its_own_exit_code(scenario: Scenario) -> Result<()> {
    let (service, proxy) = service_and_proxy(&scenario).await?;
    let reason = "Invalid access token: The access token was previously used and can not be \
                  used again.";
    for status in [
        "400 Bad Request",
        "403 Forbidden",
        "404 Not Found",
        "429 Slow down",
    ] {
        for proxy in [proxy.clone(), proxy.clone().as_localproxy()] {
            let mut process = proxy.start()?;
            service.knock().await?.refuse(status, reason).await?;
            process.ends_with(REFUSED).await?;
            let said = process.output().text(Channel::Stderr);
            ensure!(
                said.contains(&status[..3]),
                "the status is not told: {said}"
            );
            ensure!(
                said.contains(reason),
                "the service's words are not told: {said}"
            );
            ensure!(!said.contains(TOKEN), "the token is told: {said}");
        }
    }
    Ok(())
}

/// What was never offered cannot be agreed on; a service that does so once does so again.
async fn q06_an_answer_that_cannot_be_used_has_an_exit_code_of_its_own(
    scenario: Scenario,
) -> Result<()> {
    let (service, proxy) = service_and_proxy(&scenario).await?;
    for proxy in [proxy.clone(), proxy.as_localproxy()] {
        let mut process = proxy.start()?;
        let knock = service.knock().await?;
        let key = knock.request.header("sec-websocket-key");
        let key = adit_tests::http::accept_key(key.unwrap_or_default());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
             Sec-WebSocket-Accept: {key}\r\nsec-websocket-protocol: aws.iot.securetunneling-3.0\r\n\
             Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        );
        knock.answer_raw(answer.as_bytes()).await?;
        process.ends_with(CANNOT_CONNECT).await?;
        let said = process.output().text(Channel::Stderr);
        ensure!(said.contains("not trying again"), "{said}");
    }
    Ok(())
}

/// Any other answer than 101 and 5xx is no invitation to try again either (section 1.6).
async fn an_answer_that_is_no_upgrade_is_a_refusal(scenario: Scenario) -> Result<()> {
    let (service, proxy) = service_and_proxy(&scenario).await?;
    for status in ["200 OK", "301 Moved Permanently"] {
        let mut process = proxy.start()?;
        service.knock().await?.refuse(status, "").await?;
        process.ends_with(REFUSED).await?;
    }
    Ok(())
}

/// What a service says is shown without its control characters.
async fn a_refusal_cannot_write_to_the_terminal(scenario: Scenario) -> Result<()> {
    let (service, proxy) = service_and_proxy(&scenario).await?;
    let mut process = proxy.start()?;
    let evil = "\u{1b}[2Jfake\u{7}\nline";
    service.knock().await?.refuse("403 Forbidden", evil).await?;
    process.ends_with(REFUSED).await?;
    let said = process.output().text(Channel::Stderr);
    let is_shown = said.contains("fake");
    ensure!(is_shown && !said.contains(['\u{7}', '\u{1b}']), "{said:?}");
    let has_line_of_its_own = said.lines().any(|line| line.trim() == "line");
    ensure!(!has_line_of_its_own, "{said:?}");
    Ok(())
}

/// The reference came back 30 times a second, for ever.
async fn q09_an_answer_without_subprotocol_is_not_asked_for_in_a_tight_loop(
    scenario: Scenario,
) -> Result<()> {
    let (service, proxy) = service_and_proxy(&scenario).await?;
    let mut process = proxy.start()?;
    let acceptance = Acceptance {
        subprotocol: None,
        ..Acceptance::default()
    };
    let count = attempts_within(&service, Duration::from_secs(3), async |knock| {
        // The proxy may be gone before it has read the rest.
        let _ = knock.accept_with(&acceptance).await;
    })
    .await?;
    // Ended with an error, or waiting between the attempts.
    ensure!((1..=12).contains(&count), "{count} attempts within 3 s");
    if process.still_runs().is_err() {
        let code = process.end().await?.code();
        ensure!(code.is_some_and(|code| code != 0), "{code:?}");
    }
    Ok(())
}

/// A service that breaks the protocol every time is not dialled in a tight loop either.
async fn q38_a_proxy_does_not_hurry_back_after_an_error(scenario: Scenario) -> Result<()> {
    let (service, proxy) = service_and_proxy(&scenario).await?;
    let _process = proxy.start()?;
    let count = attempts_within(&service, Duration::from_secs(3), async |knock| {
        let nonsense = Acceptance {
            trailing: vec![0x82, 3, 0, 1, 0xff],
            ..Acceptance::default()
        };
        let _ = knock.accept_with(&nonsense).await;
    })
    .await?;
    ensure!((1..=12).contains(&count), "{count} attempts within 3 s");
    Ok(())
}

/// The reference waited 2.5 s each time: all proxies of a restarted service came back in
/// step. Now the waits differ, and grow.
async fn q38_retries_back_off_with_jitter(scenario: Scenario) -> Result<()> {
    let first = waits_until_they_grow(&scenario).await?;
    // Two are alike about once in six times, as waits are said: in tenths of a second.
    for _ in 0..12 {
        if waits_until_they_grow(&scenario).await? != first {
            return Ok(());
        }
    }
    bail!("thirteen proxies wait in step: {first:?}")
}

/// What a new proxy says it waits, up to the first wait that is longer than the first may be. What it says is not blurred
/// by a busy machine, as the waiting itself is.
async fn waits_until_they_grow(scenario: &Scenario) -> Result<Vec<f64>> {
    let (service, proxy) = service_and_proxy(scenario).await?;
    let base = 0.02;
    let process = retrying(proxy, -1, 20)?.start()?;
    // Each wait is random below the sum of those before it, so that few are long in growing; not as many as that.
    for _ in 0..60 {
        let knock = service.knock().await?;
        knock.refuse("503 Service Unavailable", "later").await?;
        let waits = said_waits(&process.output().text(Channel::Stderr))?;
        let mut waited = 0.0;
        for (before, wait) in (0..).zip(&waits) {
            // As they are said, each may be off by half a tenth.
            let bound = f64::max(base, waited + 0.05 * f64::from(before));
            ensure!(*wait <= bound + 0.05, "{wait} s is too long: {waits:?}");
            waited += wait;
        }
        if waits.last().is_some_and(|wait| *wait > base) {
            return Ok(waits);
        }
    }
    bail!("no growth in 60 attempts")
}

/// The seconds of each "connecting again in 1.2 s".
fn said_waits(text: &str) -> Result<Vec<f64>> {
    let waits = text.split("connecting again in ").skip(1);
    let waits = waits.filter_map(|rest| rest.split(' ').next());
    Ok(waits.map(str::parse).collect::<Result<_, _>>()?)
}

/// A service that comes back is found again.
async fn a_failing_service_is_tried_until_it_accepts(scenario: Scenario) -> Result<()> {
    let (service, proxy) = service_and_proxy(&scenario).await?;
    let mut process = retrying(proxy, -1, 50)?.start()?;
    service.knock().await?.refuse("500 Oops", "").await?;
    service.knock().await?.refuse("599 Odd", "").await?;
    drop(service.knock().await?);
    drop(service.accept_tcp().await?);
    service.knock().await?.answer_raw(b"HTTP/1.1 10").await?;
    service
        .knock()
        .await?
        .answer_raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        .await?;
    let mut link = service.admit(&["SSH"]).await?;
    link.fence().await?;
    process.still_runs()
}

/// Any positive number meant for ever.
async fn q21_a_retry_count_is_counted(scenario: Scenario) -> Result<()> {
    for (count, expected) in [(0, 1), (2, 3)] {
        let (service, proxy) = service_and_proxy(&scenario).await?;
        let mut process = retrying(proxy, count, 20)?.start()?;
        for _ in 0..expected {
            service.knock().await?.refuse("503 Busy", "").await?;
        }
        ends_without_another_attempt(&mut process, &service).await?;
    }
    Ok(())
}

/// The count is for connecting (section 10.1): a link that was lost is another matter.
async fn a_lost_link_is_dialled_once_more_whatever_the_retries_are(
    scenario: Scenario,
) -> Result<()> {
    let (service, proxy) = service_and_proxy(&scenario).await?;
    let mut process = retrying(proxy, 0, 20)?.start()?;
    for _ in 0..3 {
        service.admit(&["SSH"]).await?.drop_tcp();
    }
    service.knock().await?.refuse("503 Busy", "").await?;
    ends_without_another_attempt(&mut process, &service).await
}

/// And when nobody listens at all, within a bound and with a code of its own.
async fn q21_an_unreachable_service_ends_when_the_retries_are_used_up(
    scenario: Scenario,
) -> Result<()> {
    let nowhere = ports::free()?.to_string();
    let mapping = format!("SSH={}", ports::free()?);
    let proxy = Proxy::source(&scenario, &mapping, &format!("localhost:{nowhere}"));
    let process = retrying(proxy, 2, 20)?.ends_with(UNREACHABLE).await?;
    let said = process.output().text(Channel::Stderr);
    let is_told = said.contains("localhost") && said.contains(&nowhere);
    ensure!(is_told, "the endpoint is not told: {said}");
    Ok(())
}

/// A certificate of another authority, or for another name, is not accepted, and `-k` says
/// that it is.
async fn a_certificate_is_checked_unless_told_otherwise(scenario: Scenario) -> Result<()> {
    let strangers = adit_tests::pki::Pki::new()?;
    let at = "127.0.0.1:0".parse()?;
    let versions = adit_tests::pki::ALL_VERSIONS;
    let other_name = scenario.pki().server_named(&["example.test"], versions)?;
    for tls in [strangers.server()?, other_name] {
        let service = ScriptedService::start_at(at, tls).await?;
        let mapping = format!("SSH={}", ports::free()?);
        let proxy = Proxy::source(&scenario, &mapping, &service.endpoint()?);
        let mut process = retrying(proxy.clone(), 0, 20)?.start()?;
        ensure!(service.knock().await.is_err(), "TLS succeeded");
        let code = process.end().await?.code();
        ensure!(code == Some(UNREACHABLE), "ended with {code:?}");
        let said = process.output().text(Channel::Stderr).to_lowercase();
        ensure!(
            said.contains("certificate"),
            "the reason is not told: {said}"
        );

        let process = proxy.args(["-k"]).start()?;
        let mut link = service.admit(&["SSH"]).await?;
        link.fence().await?;
        ensure!(process.output().count() > 0, "no warning");
    }
    Ok(())
}

/// What is told of a service with another key is the pin that lets it in, beside that of its next key.
async fn a_pinned_key_is_asked_for(scenario: Scenario) -> Result<()> {
    let (service, proxy) = service_and_proxy(&scenario).await?;
    let another = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let pinned = retrying(proxy.clone().args(["--pin", another]), 0, 20)?;
    let mut process = pinned.start()?;
    ensure!(service.knock().await.is_err(), "TLS succeeded");
    let code = process.end().await?.code();
    ensure!(code == Some(UNREACHABLE), "ended with {code:?}");
    let said = process.output().text(Channel::Stderr);
    let told = said.split_once("not one of those pinned, but ");
    let (_, told) = told.with_context(|| format!("the reason is not told: {said}"))?;
    let pin: String = told.chars().take(another.len()).collect();
    let _process = proxy.args(["--pin", &format!("{another};{pin}")]).start()?;
    let mut link = service.admit(&["SSH"]).await?;
    link.fence().await?;
    Ok(())
}

/// A bundle, or a directory with certificates under whatever names (the reference needs
/// the hashed names of `openssl rehash`).
async fn an_authority_is_trusted_from_a_bundle_or_a_directory(scenario: Scenario) -> Result<()> {
    let strangers = adit_tests::pki::Pki::new()?;
    let ca_pem = scenario.pki().ca_pem();
    let bundle = format!("# two authorities\n{}\n{ca_pem}", strangers.ca_pem());
    let bundle = scenario.write("authorities.crt", bundle)?;
    scenario.write("plain/stranger.pem", strangers.ca_pem())?;
    scenario.write("plain/ours.pem", ca_pem)?;
    scenario.write("plain/README", "no certificate")?;
    scenario.write("hashed/0a1b2c3d.0", ca_pem)?;
    let (service, proxy) = service_and_proxy(&scenario).await?;
    for trusted in [bundle, scenario.path("plain"), scenario.path("hashed")] {
        let _process = proxy.clone().trusting(&trusted).start()?;
        let mut link = service.admit(&["SSH"]).await?;
        link.fence().await?;
    }
    Ok(())
}

/// TLS 1.2 alone is enough, and so is 1.3 alone (section 1.1).
async fn each_version_of_tls_will_do(scenario: Scenario) -> Result<()> {
    for version in adit_tests::pki::ALL_VERSIONS {
        let tls = scenario.pki().server_named(&["localhost"], &[*version])?;
        let service = ScriptedService::start_at("127.0.0.1:0".parse()?, tls).await?;
        let mapping = format!("SSH={}", ports::free()?);
        let _proxy = Proxy::source(&scenario, &mapping, &service.endpoint()?).start()?;
        let mut link = service.admit(&["SSH"]).await?;
        link.fence().await?;
    }
    Ok(())
}

/// The literal request, header by header (section 1.2).
async fn the_upgrade_request_is_the_one_of_the_reference(scenario: Scenario) -> Result<()> {
    let (service, proxy) = service_and_proxy(&scenario).await?;
    let client_token = "0123456789abcdef0123456789abcdef";
    let _process = proxy.args(["-i", client_token]).start()?;
    let request = service.knock().await?.request;
    ensure!(request.start_line == "GET /tunnel?local-proxy-mode=source HTTP/1.1");
    let names: Vec<String> = request
        .headers
        .iter()
        .map(|(name, _)| name.to_lowercase())
        .collect();
    let expected = [
        "host",
        "upgrade",
        "connection",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-protocol",
        "access-token",
        "client-token",
        "user-agent",
    ];
    ensure!(names == expected, "{names:?}");
    // Never with a port, although the endpoint has one.
    ensure!(request.header("host") == Some("localhost"));
    ensure!(request.header("sec-websocket-version") == Some("13"));
    ensure!(request.header("sec-websocket-protocol") == Some("aws.iot.securetunneling-3.0"));
    ensure!(request.header("access-token") == Some(TOKEN));
    ensure!(request.header("client-token") == Some(client_token));
    ensure!(
        request.raw.len() <= 4096,
        "a request of {} bytes",
        request.raw.len()
    );
    Ok(())
}

/// Answering an older subprotocol than was offered changes nothing (section 1.4).
async fn any_known_subprotocol_is_accepted(scenario: Scenario) -> Result<()> {
    for version in ["1.0", "2.0"] {
        let (service, proxy) = service_and_proxy(&scenario).await?;
        let _process = proxy.start()?;
        let acceptance = Acceptance {
            subprotocol: Some(format!("aws.iot.securetunneling-{version}")),
            ..Acceptance::default()
        };
        let mut link = service.knock().await?.accept_with(&acceptance).await?;
        link.send(&Message::service_ids(&["SSH"])).await?;
        link.fence().await?;
    }
    Ok(())
}

/// A head that never ends is given up, with a bound on what is read.
async fn an_endless_answer_is_given_up(scenario: Scenario) -> Result<()> {
    let (service, proxy) = service_and_proxy(&scenario).await?;
    let proxy = proxy.settings(&json!({ "websocket": { "connect_retry_count": 0 } }))?;
    let mut process = proxy.start()?;
    let filler = "x-filler: 0123456789\r\n".repeat(4_000);
    let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{filler}");
    // The proxy hangs up in the middle.
    let _ = service.knock().await?.answer_raw(answer.as_bytes()).await;
    let code = process.end().await?.code();
    ensure!(code.is_some_and(|code| code != 0), "ended with {code:?}");
    Ok(())
}

/// Plays `answer` to every attempt for a while, and counts them.
async fn attempts_within(
    service: &ScriptedService,
    time: Duration,
    mut answer: impl AsyncFnMut(adit_tests::scripted_service::Knock),
) -> Result<usize> {
    let until = tokio::time::Instant::now() + time;
    let mut count = 0;
    while let Ok(knock) = tokio::time::timeout_at(until, service.knock()).await {
        answer(knock?).await;
        count += 1;
    }
    Ok(count)
}

async fn ends_without_another_attempt(
    process: &mut Process,
    service: &ScriptedService,
) -> Result<()> {
    let again = service.accept_tcp();
    tokio::select! {
        ended = process.ends_with(UNREACHABLE) => ended,
        _ = again => anyhow::bail!("one attempt too many"),
    }
}

/// A settings file in which nothing is of the right type means the defaults
/// (section 14.3).
async fn odd_settings_mean_the_defaults(scenario: Scenario) -> Result<()> {
    let (service, proxy) = service_and_proxy(&scenario).await?;
    let odd: Value = json!({ "websocket": { "retry_delay_ms": [], "ping_period_ms": {} } });
    let _process = proxy.settings(&odd)?.start()?;
    let admitted = within_limit(Duration::from_secs(10), "a start", service.admit(&["SSH"]));
    admitted.await?.fence().await?;
    Ok(())
}

on_each_loop!(
    q06_a_refusal_ends_with_its_own_exit_code,
    q09_an_answer_without_subprotocol_is_not_asked_for_in_a_tight_loop,
    a_failing_service_is_tried_until_it_accepts,
    each_version_of_tls_will_do,
);
on_own_choice!(
    q06_an_answer_that_cannot_be_used_has_an_exit_code_of_its_own,
    an_answer_that_is_no_upgrade_is_a_refusal,
    a_lost_link_is_dialled_once_more_whatever_the_retries_are,
    a_refusal_cannot_write_to_the_terminal,
    q21_a_retry_count_is_counted,
    q21_an_unreachable_service_ends_when_the_retries_are_used_up,
    q38_a_proxy_does_not_hurry_back_after_an_error,
    q38_retries_back_off_with_jitter,
    a_certificate_is_checked_unless_told_otherwise,
    a_pinned_key_is_asked_for,
    an_authority_is_trusted_from_a_bundle_or_a_directory,
    the_upgrade_request_is_the_one_of_the_reference,
    any_known_subprotocol_is_accepted,
    an_endless_answer_is_given_up,
    odd_settings_mean_the_defaults,
);
