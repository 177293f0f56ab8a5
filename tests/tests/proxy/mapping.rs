//! Which service goes where: port mappings, configuration files, and every kind of place.

use std::collections::BTreeSet;

use adit_tests::apps::{self, App, Temper};
use adit_tests::output::Channel;
use adit_tests::ports;
use adit_tests::process::Process;
use adit_tests::proxy::{Proxy, Side};
use adit_tests::rig::Rig;
use adit_tests::scenario::Scenario;
use adit_tests::scripted_service::ScriptedService;
use adit_tests::wire::{Message, v3};
use adit_tests::{on_each_loop, on_own_choice};
use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Bad usage.
const USAGE: i32 = 2;
/// The mapping does not fit the tunnel's services.
const MISMATCH: i32 = 3;

/// The reference accepted both and ended at the first connection.
async fn q23_a_host_or_a_leading_zero_in_a_listen_port_does_not_end_the_proxy(
    scenario: Scenario,
) -> Result<()> {
    for form in ["127.0.0.1:{}", "0{}"] {
        let service = ScriptedService::start(&scenario).await?;
        let port = ports::free()?;
        let mapping = format!("SSH={}", form.replace("{}", &port.to_string()));
        let mut proxy = Proxy::source(&scenario, &mapping, &service.endpoint()?).start()?;
        let mut link = service.admit(&["SSH"]).await?;
        ports::listened_on(port).await?;
        let _client = apps::connect(port).await?;
        link.expect(&Message::stream_start(v3("SSH", 1, 1))).await?;
        proxy.still_runs()?;
    }
    Ok(())
}

/// What cannot work is refused before anything is connected, with the option and the text.
async fn a_mapping_that_cannot_work_is_refused_at_start(scenario: Scenario) -> Result<()> {
    let cases = [
        (Side::Source, "SSH=0"),
        (Side::Source, "SSH=65536"),
        (Side::Source, "SSH=hostname"),
        (Side::Source, "=22"),
        (Side::Source, "SSH="),
        (Side::Source, "22,23"),
        (Side::Source, "bad service=22"),
        (Side::Source, "A=22,B=22"),
        (Side::Destination, "SSH=host"),
        (Side::Destination, "SSH=::1:22"),
        (Side::Destination, "SSH=[::1:22"),
        (Side::Destination, "SSH=host:0"),
        (Side::Destination, "SSH=stdio:"),
    ];
    for (side, mapping) in cases {
        let proxy = Proxy::new(&scenario, side.name()).endpoint("localhost:1");
        let process = proxy.mapping(side, mapping).ends_with(USAGE).await;
        let process = process.with_context(|| format!("{side:?} {mapping:?}"))?;
        let said = process.output().text(Channel::Stderr);
        ensure!(said.contains(side.mapping_option()), "no option in: {said}");
    }
    Ok(())
}

/// The reference kept a colon or the brackets.
async fn q24_an_ipv6_application_is_dialled(scenario: Scenario) -> Result<()> {
    let Ok(app) = App::start_at("[::1]:0".parse()?, Temper::Echo).await else {
        scenario.skip("this machine has no ::1");
        return Ok(());
    };
    let mut rig = Rig::destination(&scenario, &[("SSH", app.address())]).await?;
    let route = v3("SSH", 1, 1);
    rig.link.send(&Message::stream_start(route)).await?;
    rig.link.send(&Message::data(route, "hello")).await?;
    rig.link.expect_data(route, b"hello").await
}

/// The reference sometimes put random ports in the place of configured ones.
async fn q25_configured_ports_stay_when_others_are_chosen_freely(scenario: Scenario) -> Result<()> {
    let services = ["zeta", "alpha", "mu", "beta", "omega", "kappa"];
    let mut configured = BTreeSet::new();
    let mut lines = String::new();
    for service in ["mu", "zeta", "alpha"] {
        let port = ports::free()?;
        configured.insert(port);
        lines += &format!("{service} = {port}\n");
    }
    scenario.write("mappings/one.ini", lines)?;
    let service = ScriptedService::start(&scenario).await?;
    let proxy = from_config_dir(&scenario, Side::Source, &service)?;
    let process = proxy.as_localproxy().start()?;
    let mut link = service.admit(&services).await?;
    let mut clients = Vec::new();
    for port in &configured {
        ports::listened_on(*port).await?;
        clients.push(apps::connect(*port).await?);
        let start = link.message().await?;
        ensure!(
            ["mu", "zeta", "alpha"].contains(&start.service_id.as_str()),
            "{start}"
        );
    }
    // The others are told, as `<service> = <port>` (section 9.1).
    for service in ["beta", "omega", "kappa"] {
        process.line(&format!("{service} = ")).await?;
    }
    Ok(())
}

/// Documented: the default directory is the working directory's (section 11.4).
async fn q26_the_default_config_directory_is_the_working_directorys(
    scenario: Scenario,
) -> Result<()> {
    let port = ports::free()?;
    scenario.write("work/config/services", format!("SSH= {port}\n"))?;
    let service = ScriptedService::start(&scenario).await?;
    let proxy = Proxy::new(&scenario, "source")
        .endpoint(&service.endpoint()?)
        .args(["--mode", "src"])
        .directory(&scenario.path("work"));
    let _process = proxy.start()?;
    let _link = service.admit(&["SSH"]).await?;
    ports::listened_on(port).await
}

/// A name with a dot was taken for a path into the file.
async fn q29_a_configuration_files_names_are_plain_text(scenario: Scenario) -> Result<()> {
    let echo = App::start(Temper::Echo).await?;
    let lines = format!("web.v1 = {0}\nssh:22 = {0}\n", echo.address());
    scenario.write("mappings/services.ini", lines)?;
    let service = ScriptedService::start(&scenario).await?;
    let _process = from_config_dir(&scenario, Side::Destination, &service)?.start()?;
    let mut link = service.admit(&["ssh:22"]).await?;
    let route = v3("ssh:22", 1, 1);
    link.send(&Message::stream_start(route)).await?;
    link.send(&Message::data(route, "hello")).await?;
    link.expect_data(route, b"hello").await
}

/// The API allows colons; the reference's command line did not.
async fn q30_a_service_id_may_have_colons(scenario: Scenario) -> Result<()> {
    let mut rig = Rig::source(&scenario, &["a:b", "a:c"]).await?;
    let _first = rig.open_first("a:b").await?;
    let _second = rig.open_first("a:c").await?;
    Ok(())
}

/// Section 11.3, row by row: what fits, and what ends with "does not fit".
async fn a_mapping_fits_the_services_or_the_proxy_ends(scenario: Scenario) -> Result<()> {
    let (one, other) = (ports::free()?, ports::free()?);
    let cases: [(String, &[&str], bool); 9] = [
        (format!("{one}"), &["X"], true),
        (format!("{one}"), &[], true),
        (format!("{one}"), &["X", "Y"], false),
        (format!("X={one},Y={other}"), &["Y", "X"], true),
        (format!(" X = {one} ,, Y == {other} ,"), &["X", "Y"], true),
        (format!("X={one}"), &["X", "Y"], false),
        (format!("X={one},Y={other}"), &["X"], false),
        (format!("X={one}"), &["Y"], false),
        (format!("X={one}"), &[], false),
    ];
    for (mapping, services, fits) in cases {
        let service = ScriptedService::start(&scenario).await?;
        let proxy = Proxy::source(&scenario, &mapping, &service.endpoint()?);
        let mut process = proxy.start()?;
        let _link = service.admit(services).await?;
        let what = || format!("{mapping:?} for {services:?}");
        if fits {
            ports::listened_on(one).await.with_context(what)?;
        } else {
            process.ends_with(MISMATCH).await.with_context(what)?;
        }
    }
    Ok(())
}

/// A destination must know every service; a source may choose.
async fn a_destination_ends_when_its_files_lack_a_service(scenario: Scenario) -> Result<()> {
    scenario.write("mappings/one", "A = 22\n")?;
    let service = ScriptedService::start(&scenario).await?;
    let mut process = from_config_dir(&scenario, Side::Destination, &service)?.start()?;
    let _link = service.admit(&["A", "B"]).await?;
    process.ends_with(MISMATCH).await
}

/// An empty list of ports, or none: every service gets a free one, and it is told.
async fn a_source_without_mapping_listens_on_free_ports(scenario: Scenario) -> Result<()> {
    let service = ScriptedService::start(&scenario).await?;
    let proxy = Proxy::new(&scenario, "source")
        .as_localproxy()
        .endpoint(&service.endpoint()?)
        .args(["--mode", "source"]);
    let process = proxy.start()?;
    let mut link = service.admit(&["A", "B"]).await?;
    let mut clients = Vec::new();
    for id in ["B", "A"] {
        let line = process.line(&format!("{id} = ")).await?;
        let port = line.rsplit_once(" = ").context("no port")?.1;
        clients.push(apps::connect(port.trim().parse()?).await?);
        link.expect(&Message::stream_start(v3(id, 1, 1))).await?;
    }
    Ok(())
}

/// Both ends of a service may be Unix sockets.
async fn unix_sockets_work_on_both_sides(scenario: Scenario) -> Result<()> {
    let route = v3("SSH", 1, 1);
    let service = ScriptedService::start(&scenario).await?;
    let app = scenario.path("app.sock");
    let serving = App::start_unix_echo(&app)?;
    let mapping = format!("SSH={}", app.display());
    let _proxy = Proxy::destination(&scenario, &mapping, &service.endpoint()?).start()?;
    let mut link = service.admit(&["SSH"]).await?;
    link.send(&Message::stream_start(route)).await?;
    link.send(&Message::data(route, "hello")).await?;
    link.expect_data(route, b"hello").await?;
    serving.abort();

    let listening = scenario.path("listen.sock");
    let mapping = format!("SSH={}", listening.display());
    let mut proxy = Proxy::source(&scenario, &mapping, &service.endpoint()?).start()?;
    let mut link = service.admit(&["SSH"]).await?;
    adit_tests::deadline::until("the socket is there", || listening.exists()).await?;
    let mut client = UnixStream::connect(&listening).await?;
    link.expect(&Message::stream_start(route)).await?;
    client.write_all(b"hello").await?;
    link.expect_data(route, b"hello").await?;
    link.send(&Message::data(route, "back")).await?;
    apps::expect_bytes(&mut client, b"back").await?;

    // A socket file that a killed proxy left behind does not stop the next one.
    proxy.kill().await?;
    let proxy = Proxy::source(&scenario, &mapping, &service.endpoint()?);
    let _proxy = proxy.start()?;
    let mut link = service.admit(&["SSH"]).await?;
    link.fence().await?;
    let is_served = || std::os::unix::net::UnixStream::connect(&listening).is_ok();
    adit_tests::deadline::until("the socket is served again", is_served).await
}

/// `-s stdio:`: ssh's ProxyCommand. Data on stdout and nothing else; it ends with its stream.
async fn standard_input_and_output_are_a_connection(scenario: Scenario) -> Result<()> {
    let route = v3("SSH", 1, 1);
    let service = ScriptedService::start(&scenario).await?;
    let proxy = Proxy::new(&scenario, "stdio")
        .endpoint(&service.endpoint()?)
        .args(["--source", "stdio:"]);
    let started = Process::start_piped(&scenario, "stdio", proxy.command())?;
    let (mut process, mut stdin, mut stdout) = started;
    let mut link = service.admit(&["SSH"]).await?;
    link.expect(&Message::stream_start(route)).await?;
    stdin.write_all(b"hello").await?;
    link.expect_data(route, b"hello").await?;
    link.send(&Message::data(route, "back")).await?;
    apps::expect_bytes(&mut stdout, b"back").await?;
    // The input may end before its answer comes.
    stdin.write_all(b"bye").await?;
    link.expect_data(route, b"bye").await?;
    drop(stdin);
    link.send(&Message::data(route, "more")).await?;
    link.send(&Message::connection_reset(route)).await?;
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).await?;
    ensure!(rest == b"more", "{rest:?}");
    process.ends_with(0).await
}

/// Somebody else has the port: a code of its own, and the port is named.
async fn a_port_that_is_taken_ends_with_its_own_exit_code(scenario: Scenario) -> Result<()> {
    let taken = apps::listener().await?;
    let port = ports::of(&taken)?;
    let service = ScriptedService::start(&scenario).await?;
    let mapping = format!("SSH=127.0.0.1:{port}");
    let tcp = serde_json::json!({ "connection_retry_count": 0 });
    let proxy = Proxy::source(&scenario, &mapping, &service.endpoint()?)
        .settings(&serde_json::json!({ "tcp": tcp }))?;
    let mut process = proxy.start()?;
    let _link = service.admit(&["SSH"]).await?;
    process.ends_with(7).await?;
    let said = process.output().text(Channel::Stderr);
    ensure!(said.contains(&port.to_string()), "no port in: {said}");
    Ok(())
}

/// A proxy whose mapping comes from the scenario's directory `mappings`.
fn from_config_dir(scenario: &Scenario, side: Side, service: &ScriptedService) -> Result<Proxy> {
    Ok(Proxy::new(scenario, side.name())
        .endpoint(&service.endpoint()?)
        .args(["--mode", side.name(), "--config-dir"])
        .args([scenario.path("mappings")]))
}

on_each_loop!(
    q23_a_host_or_a_leading_zero_in_a_listen_port_does_not_end_the_proxy,
    q24_an_ipv6_application_is_dialled,
    unix_sockets_work_on_both_sides,
    standard_input_and_output_are_a_connection,
);
on_own_choice!(
    a_mapping_that_cannot_work_is_refused_at_start,
    q25_configured_ports_stay_when_others_are_chosen_freely,
    q26_the_default_config_directory_is_the_working_directorys,
    q29_a_configuration_files_names_are_plain_text,
    q30_a_service_id_may_have_colons,
    a_mapping_fits_the_services_or_the_proxy_ends,
    a_destination_ends_when_its_files_lack_a_service,
    a_source_without_mapping_listens_on_free_ports,
    a_port_that_is_taken_ends_with_its_own_exit_code,
);
