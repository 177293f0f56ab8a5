//! A destination's dials, and everybody's addresses: nothing waits for anything else.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use adit_tests::apps::{self, App, Temper};
use adit_tests::deadline::{within, within_limit};
use adit_tests::ports::{self, Congested};
use adit_tests::process::{Process, Signal};
use adit_tests::programs;
use adit_tests::proxy::Proxy;
use adit_tests::rig::Rig;
use adit_tests::scenario::{Io, Scenario};
use adit_tests::scripted_service::ScriptedService;
use adit_tests::wire::{Message, Route, v3};
use adit_tests::{kernel, on_each_loop, on_own_choice};
use anyhow::{Result, ensure};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::UdpSocket;

const SLOW: Route<'_> = v3("SLOW", 1, 1);
const FAST: Route<'_> = v3("FAST", 1, 1);

/// The reference read nothing at all while it dialled, for up to 12.5 s.
async fn q18_a_dial_that_takes_its_time_stops_nobody(scenario: Scenario) -> Result<()> {
    let echo = App::start(Temper::Echo).await?;
    let congested = Congested::open()?;
    let services = [("SLOW", congested.address()?), ("FAST", echo.address())];
    let mut rig = Rig::destination(&scenario, &services).await?;
    rig.link.send(&Message::stream_start(SLOW)).await?;
    rig.link.send(&Message::data(SLOW, "one ")).await?;
    rig.link.send(&Message::stream_start(FAST)).await?;
    rig.link.send(&Message::data(FAST, "hello")).await?;
    rig.link.expect_data(FAST, b"hello").await?;
    rig.is_alive().await?;
    rig.link.send(&Message::data(SLOW, "two")).await?;

    // What came for it while it was dialled is all there.
    let listener = congested.relieve()?;
    let mut app = apps::accept(&listener).await?;
    apps::expect_bytes(&mut app, b"one two").await?;
    app.write_all(b"back").await?;
    rig.link.expect_data(SLOW, b"back").await
}

/// And for a later connection of a stream: the reference dropped it.
async fn q18_data_for_a_later_connection_waits_for_its_dial(scenario: Scenario) -> Result<()> {
    let congested = Congested::open()?;
    let mut rig = Rig::destination(&scenario, &[("SLOW", congested.address()?)]).await?;
    let later = v3("SLOW", 1, 2);
    rig.link.send(&Message::stream_start(SLOW)).await?;
    rig.link.send(&Message::connection_start(later)).await?;
    rig.link.send(&Message::data(later, "hello")).await?;
    rig.is_alive().await?;
    let listener = congested.relieve()?;
    let (mut one, mut other) = (
        apps::accept(&listener).await?,
        apps::accept(&listener).await?,
    );
    // Which of the two the kernel lets in first is its own affair.
    let (mut from_one, mut from_other) = ([0; 5], [0; 5]);
    let read = tokio::select! {
        read = tokio::io::AsyncReadExt::read_exact(&mut one, &mut from_one) => read.map(|_| from_one),
        read = tokio::io::AsyncReadExt::read_exact(&mut other, &mut from_other) => read.map(|_| from_other),
    };
    ensure!(read? == *b"hello");
    Ok(())
}

/// A connection that is reset while it is dialled is given up, quietly.
async fn a_reset_ends_a_dial_that_is_under_way(scenario: Scenario) -> Result<()> {
    let echo = App::start(Temper::Echo).await?;
    let congested = Congested::open()?;
    let services = [("SLOW", congested.address()?), ("FAST", echo.address())];
    let mut rig = Rig::destination(&scenario, &services).await?;
    rig.link.send(&Message::stream_start(SLOW)).await?;
    rig.link.send(&Message::stream_reset(SLOW)).await?;
    rig.link.send(&Message::stream_start(FAST)).await?;
    rig.link.send(&Message::data(FAST, "hello")).await?;
    rig.link.expect_data(FAST, b"hello").await?;
    rig.is_alive().await
}

/// Retries are a setting (section 14.3); with them a service that comes up late is reached,
/// and what was sent meanwhile arrives.
async fn a_configured_retry_reaches_a_service_that_comes_up_late(scenario: Scenario) -> Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], ports::free()?));
    let patient = |proxy: Proxy| {
        let tcp = json!({ "connection_retry_count": -1, "connection_retry_delay_ms": 100 });
        proxy.settings(&json!({ "tcp": tcp }))
    };
    let mut rig = Rig::destination_with(&scenario, &[("SLOW", address)], patient).await?;
    rig.link.send(&Message::stream_start(SLOW)).await?;
    rig.link.send(&Message::data(SLOW, "hello")).await?;
    rig.is_alive().await?;
    let _echo = App::start_at(address, Temper::Echo).await?;
    rig.link.expect_data(SLOW, b"hello").await
}

/// "A service that is down answers within a second"; 5 s here, because the machine is
/// noisy. The reference took 12.5 s.
async fn a_service_that_is_down_is_reported_at_once(scenario: Scenario) -> Result<()> {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], ports::free()?));
    let mut rig = Rig::destination(&scenario, &[("SLOW", nowhere)]).await?;
    let asked = Instant::now();
    rig.link.send(&Message::stream_start(SLOW)).await?;
    rig.link.expect(&Message::stream_reset(SLOW)).await?;
    let took = asked.elapsed();
    ensure!(took < Duration::from_secs(5), "it took {took:?}");
    Ok(())
}

/// `localhost` is ::1 and 127.0.0.1; only one of them answers.
async fn q32_every_address_of_an_application_is_tried(scenario: Scenario) -> Result<()> {
    let Some(mut names) = Names::new(&scenario)? else {
        return Ok(());
    };
    names.add("app.test", &["127.0.0.91", "127.0.0.92", "127.0.0.93"])?;
    let service = ScriptedService::start(&scenario).await?;
    for address in ["127.0.0.91", "127.0.0.92", "127.0.0.93"] {
        let app = App::start_at(format!("{address}:0").parse()?, Temper::Echo).await?;
        let mapping = format!("FAST=app.test:{}", app.address().port());
        let proxy = Proxy::destination(&scenario, &mapping, &service.endpoint()?);
        let _proxy = names.start("destination", &proxy)?;
        let mut link = service.admit(&["FAST"]).await?;
        link.send(&Message::stream_start(FAST)).await?;
        link.send(&Message::data(FAST, "hello")).await?;
        link.expect_data(FAST, b"hello").await?;
    }
    Ok(())
}

async fn q32_every_address_of_the_service_is_tried(scenario: Scenario) -> Result<()> {
    let Some(mut names) = Names::new(&scenario)? else {
        return Ok(());
    };
    names.add("service.test", &["127.0.0.91", "127.0.0.92", "127.0.0.93"])?;
    let tls = scenario
        .pki()
        .server_named(&["service.test"], adit_tests::pki::ALL_VERSIONS)?;
    for address in ["127.0.0.91", "127.0.0.92", "127.0.0.93"] {
        let at = format!("{address}:0").parse()?;
        let service = ScriptedService::start_at(at, tls.clone()).await?;
        let endpoint = format!("service.test:{}", service.address()?.port());
        let mapping = format!("SSH={}", ports::free()?);
        let proxy = Proxy::source(&scenario, &mapping, &endpoint);
        let _proxy = names.start("source", &proxy)?;
        let knock = service.knock().await?;
        ensure!(
            knock.request.header("host") == Some("service.test"),
            "Host has a port"
        );
    }
    Ok(())
}

/// The host that stands for a port alone (`-b` at a destination): the first of its addresses is not
/// the one that answers.
async fn q32_every_address_of_the_destinations_host_is_tried(scenario: Scenario) -> Result<()> {
    let Some(mut names) = Names::new(&scenario)? else {
        return Ok(());
    };
    names.hosts.insert_str(0, "::1 localhost\n");
    names.add("host.test", &["127.0.0.91", "127.0.0.92"])?;
    let service = ScriptedService::start(&scenario).await?;
    for (host, address) in [("localhost", "127.0.0.1"), ("host.test", "127.0.0.92")] {
        let app = App::start_at(format!("{address}:0").parse()?, Temper::Echo).await?;
        let mapping = format!("FAST={}", app.address().port());
        let proxy = Proxy::destination(&scenario, &mapping, &service.endpoint()?);
        let _proxy = names.start("destination", &proxy.args(["-b", host]))?;
        let mut link = service.admit(&["FAST"]).await?;
        link.send(&Message::stream_start(FAST)).await?;
        link.send(&Message::data(FAST, "hello")).await?;
        link.expect_data(FAST, b"hello").await?;
    }
    Ok(())
}

/// A name that is not known yet when the destination starts, and is when it is needed.
async fn q32_the_destinations_host_is_looked_up_for_each_connection(
    scenario: Scenario,
) -> Result<()> {
    let Some(mut names) = Names::new(&scenario)? else {
        return Ok(());
    };
    // Nobody listens there.
    names.nameserver("127.0.0.79")?;
    let app = App::start_at("127.0.0.92:0".parse()?, Temper::Echo).await?;
    let service = ScriptedService::start(&scenario).await?;
    let mapping = format!("FAST={}", app.address().port());
    let proxy = Proxy::destination(&scenario, &mapping, &service.endpoint()?);
    let proxy = names.start("destination", &proxy.args(["-b", "later.test"]))?;
    let mut link = service.admit(&["FAST"]).await?;
    link.send(&Message::stream_start(FAST)).await?;
    link.expect(&Message::stream_reset(FAST)).await?;
    // Which service, where, and why.
    let line = proxy.line("could not connect").await?;
    let endpoint = format!("later.test:{}", app.address().port());
    ensure!(line.contains("FAST") && line.contains(&endpoint), "{line}");
    ensure!(line.contains("cannot resolve later.test"), "{line}");
    names.add("later.test", &["127.0.0.92"])?;
    let again = v3("FAST", 2, 2);
    link.send(&Message::stream_start(again)).await?;
    link.send(&Message::data(again, "hello")).await?;
    link.expect_data(again, b"hello").await
}

/// An address that answers nothing holds the next one up by 250 ms (RFC 8305), not by a
/// time-out of TCP.
async fn q32_a_silent_address_delays_the_next_one_only_a_little(scenario: Scenario) -> Result<()> {
    let Some(mut names) = Names::new(&scenario)? else {
        return Ok(());
    };
    let congested = Congested::open()?;
    let port = congested.address()?.port();
    names.add("app.test", &["127.0.0.1", "127.0.0.92"])?;
    let _app = App::start_at(format!("127.0.0.92:{port}").parse()?, Temper::Echo).await?;
    let service = ScriptedService::start(&scenario).await?;
    let mapping = format!("FAST=app.test:{port}");
    let proxy = Proxy::destination(&scenario, &mapping, &service.endpoint()?);
    let _proxy = names.start("destination", &proxy)?;
    let mut link = service.admit(&["FAST"]).await?;
    link.send(&Message::stream_start(FAST)).await?;
    link.send(&Message::data(FAST, "hello")).await?;
    let echo = link.expect_data(FAST, b"hello");
    within_limit(Duration::from_secs(5), "the other address", echo).await
}

/// One of the bind address's addresses is not this machine's.
async fn q32_every_address_of_the_bind_name_is_tried(scenario: Scenario) -> Result<()> {
    let Some(mut names) = Names::new(&scenario)? else {
        return Ok(());
    };
    names.add("bind.test", &["192.0.2.1", "127.0.0.91"])?;
    let service = ScriptedService::start(&scenario).await?;
    let port = ports::free()?;
    let mapping = format!("SSH={port}");
    let proxy = Proxy::source(&scenario, &mapping, &service.endpoint()?).args(["-b", "bind.test"]);
    let _proxy = names.start("source", &proxy)?;
    let mut link = service.admit(&["SSH"]).await?;
    ports::listened_on(port).await?;
    let _client = tokio::net::TcpStream::connect(("127.0.0.91", port)).await?;
    link.expect(&Message::stream_start(v3("SSH", 1, 1))).await
}

/// A name server that never answers: the reference stood still with it.
async fn q33_a_slow_name_lookup_stops_nobody(scenario: Scenario) -> Result<()> {
    let Some(mut names) = Names::new(&scenario)? else {
        return Ok(());
    };
    // Both loops' tests may run at the same time: each has a name server of its own.
    let address = match scenario.io() {
        Io::Uring => "127.0.0.78",
        Io::Epoll | Io::Auto => "127.0.0.77",
    };
    let Some(silent) = names.silent_nameserver(address).await? else {
        return Ok(());
    };
    let echo = App::start(Temper::Echo).await?;
    let service = ScriptedService::start(&scenario).await?;
    let mapping = format!("SLOW=nowhere.test:22,FAST={}", echo.address());
    let proxy = Proxy::destination(&scenario, &mapping, &service.endpoint()?);
    let mut proxy = names.start("destination", &proxy)?;
    let mut link = service.admit(&["SLOW", "FAST"]).await?;
    link.send(&Message::stream_start(SLOW)).await?;
    link.send(&Message::stream_start(FAST)).await?;
    for _ in 0..3 {
        link.send(&Message::data(FAST, "hello")).await?;
        let echo = link.expect_data(FAST, b"hello");
        within_limit(Duration::from_secs(3), "the other service", echo).await?;
    }
    link.fence().await?;
    // It was really asked: else the test would show nothing.
    let mut question = [0; 512];
    let asked = async { Ok(silent.recv(&mut question).await?) };
    within("the name server is asked", asked).await?;

    // Nor does its end wait for the answer.
    link.send(&Message::stream_reset(SLOW)).await?;
    link.send(&Message::stream_reset(FAST)).await?;
    link.fence().await?;
    proxy.signal(Signal::Terminate).await?;
    link.closes_with(1000).await?;
    proxy.ends_with(0).await
}

/// Nor do any number of them: who waits for an answer asks for no second one, and the threads that look names up are
/// free for the other service and for the link, which are names as well.
async fn q33_many_slow_name_lookups_stop_nobody(scenario: Scenario) -> Result<()> {
    let Some(mut names) = Names::new(&scenario)? else {
        return Ok(());
    };
    let Some(_silent) = names.silent_nameserver("127.0.0.76").await? else {
        return Ok(());
    };
    let echo = App::start(Temper::Echo).await?;
    let service = ScriptedService::start(&scenario).await?;
    names.add("app.test", &["127.0.0.1"])?;
    let port = echo.address().port();
    let mapping = format!("SLOW=nowhere.test:22,FAST=app.test:{port}");
    let proxy = Proxy::destination(&scenario, &mapping, &service.endpoint()?);
    let proxy = names.start("destination", &proxy)?;
    let mut link = service.admit(&["SLOW", "FAST"]).await?;
    link.send(&Message::stream_start(SLOW)).await?;
    for connection in 2..=2_000 {
        let start = Message::connection_start(v3("SLOW", 1, connection));
        link.send(&start).await?;
    }
    link.send(&Message::stream_start(FAST)).await?;
    link.send(&Message::data(FAST, "hello")).await?;
    link.expect_data(FAST, b"hello").await?;
    let threads = kernel::threads(proxy.id())?;
    ensure!(threads < 64, "{threads} threads");

    link.drop_tcp();
    service.admit(&["SLOW", "FAST"]).await?;
    Ok(())
}

/// Names of a test's own: the program runs in a mount namespace with other files in /etc.
struct Names<'a> {
    scenario: &'a Scenario,
    hosts: String,
    mounts: Vec<(String, &'static str)>,
}

impl<'a> Names<'a> {
    /// `None`, with the reason printed, where the machine allows no such namespace.
    fn new(scenario: &'a Scenario) -> Result<Option<Self>> {
        let allowed = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "true"])
            .output()
            .is_ok_and(|output| output.status.success());
        if !allowed {
            return programs::lacking(scenario, "unshare, or leave to use it");
        }
        Ok(Some(Self {
            scenario,
            hosts: "127.0.0.1 localhost\n".to_owned(),
            mounts: Vec::new(),
        }))
    }

    fn add(&mut self, name: &str, addresses: &[&str]) -> Result<()> {
        for address in addresses {
            self.hosts += &format!("{address} {name}\n");
        }
        let path = self.scenario.write("hosts", &self.hosts)?;
        let mount = (path.display().to_string(), "/etc/hosts");
        self.mounts.retain(|(_, target)| *target != mount.1);
        self.mounts.push(mount);
        Ok(())
    }

    fn nameserver(&mut self, address: &str) -> Result<()> {
        // As long as the library allows, and longer than any wait of a test.
        let resolver = format!("nameserver {address}\noptions timeout:30 attempts:1\n");
        let path = self.scenario.write("resolv.conf", resolver)?;
        self.mounts
            .push((path.display().to_string(), "/etc/resolv.conf"));
        self.add("localhost", &[])
    }

    /// A name server that hears every question and answers none; `None`, with the reason printed, where nobody may
    /// be one.
    async fn silent_nameserver(&mut self, address: &str) -> Result<Option<UdpSocket>> {
        let Ok(silent) = UdpSocket::bind((address, 53)).await else {
            return programs::lacking(self.scenario, "leave to listen on port 53");
        };
        self.nameserver(address)?;
        Ok(Some(silent))
    }

    fn start(&self, name: &str, proxy: &Proxy) -> Result<Process> {
        let mounts = self.mounts.iter();
        let mounts = mounts.map(|(file, target)| format!("mount --bind '{file}' {target} && "));
        let script = format!("{}exec \"$0\" \"$@\"", mounts.collect::<String>());
        let mut command = programs::command("/usr/bin/unshare".as_ref());
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
        let command = programs::wrapped(command, &proxy.command());
        Process::start(self.scenario, name, command)
    }
}

on_each_loop!(
    q18_a_dial_that_takes_its_time_stops_nobody,
    q18_data_for_a_later_connection_waits_for_its_dial,
    a_reset_ends_a_dial_that_is_under_way,
    a_configured_retry_reaches_a_service_that_comes_up_late,
    a_service_that_is_down_is_reported_at_once,
    q32_every_address_of_an_application_is_tried,
    q33_a_slow_name_lookup_stops_nobody,
);
on_own_choice!(
    q32_every_address_of_the_service_is_tried,
    q32_a_silent_address_delays_the_next_one_only_a_little,
    q32_every_address_of_the_bind_name_is_tried,
    q32_every_address_of_the_destinations_host_is_tried,
    q32_the_destinations_host_is_looked_up_for_each_connection,
    q33_many_slow_name_lookups_stop_nobody,
);
