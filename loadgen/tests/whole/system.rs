//! A system that the generator starts carries bytes, comes back, and leaves nothing behind.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{
    self, EXECUTABLE, KeptUp, PATIENCE, both, connect, echo_server, is_running, round_trip,
};
use adit_engine::ring::IoChoice;
use adit_loadgen::system::{Side, System, SystemSettings};

fn settings(io: IoChoice) -> SystemSettings {
    SystemSettings {
        io,
        target: Some(echo_server()),
        ..SystemSettings::new(EXECUTABLE.into())
    }
}

#[test]
fn every_tunnel_of_a_system_carries_bytes() {
    both(|io| {
        for in_place_records in [false, true] {
            let system = System::start(SystemSettings {
                tunnels: 3,
                in_place_records,
                ..settings(io)
            })
            .unwrap();
            let targets = system.targets();
            assert_eq!(targets.len(), 3);
            for (index, target) in targets.iter().enumerate() {
                let bytes: Vec<u8> = (0..200_000_usize)
                    .map(|it| (it * 7 + index) as u8)
                    .collect();
                round_trip(&mut connect(*target), &bytes);
            }
            let backend = if io == IoChoice::Epoll {
                "epoll"
            } else {
                "io_uring"
            };
            let parts = system.describe();
            let names: Vec<&str> = parts.iter().map(|it| &*it.name).collect();
            assert_eq!(names, ["service", "destination", "source"]);
            assert!(parts.iter().all(|it| it.backend == backend), "{parts:?}");
        }
    });
}

#[test]
fn proxies_are_split_into_processes_that_keep_within_their_descriptors() {
    let system = System::start(SystemSettings {
        tunnels: 5,
        connections: 50,
        descriptors: 200 + 2 * 12,
        ..settings(IoChoice::Epoll)
    })
    .unwrap();
    let names: Vec<String> = system.describe().into_iter().map(|it| it.name).collect();
    let expected = [
        "service",
        "destination 1",
        "destination 2",
        "destination 3",
        "source 1",
        "source 2",
        "source 3",
    ];
    assert_eq!(names, expected);
    for target in system.targets() {
        round_trip(&mut connect(target), b"through the right one");
    }
}

/// Ends all links at once and waits until every tunnel is back.
fn comes_back(system: &mut System, cut: impl FnOnce(&mut System) -> Instant) {
    for target in system.targets() {
        round_trip(&mut connect(target), b"before");
    }
    let before: Vec<_> = sessions(system);
    cut(system);
    let came_back = system.wait_links(Instant::now() + PATIENCE, |sources, destinations| {
        let now = sources.iter().chain(destinations);
        now.zip(&before)
            .all(|(link, before)| link.is_running && link.sessions > *before)
    });
    assert!(came_back.unwrap(), "{:?}", system.links(Side::Source));
    for target in system.targets() {
        round_trip(&mut connect(target), b"after");
    }
}

fn sessions(system: &System) -> Vec<u64> {
    let links = [Side::Source, Side::Destination].map(|side| system.links(side));
    links.concat().iter().map(|it| it.sessions).collect()
}

#[test]
fn all_tunnels_come_back_after_the_service_was_killed() {
    let mut system = System::start(SystemSettings {
        tunnels: 5,
        ..settings(IoChoice::Epoll)
    })
    .unwrap();
    let first = system.subjects();
    comes_back(&mut system, |system| {
        system.restart_service(Duration::from_millis(100)).unwrap()
    });
    assert_ne!(first[0], system.subjects()[0], "it is another process");
    assert_eq!(
        first[1..],
        system.subjects()[1..],
        "the proxies are the same"
    );
}

/// All times of a storm are counted from it.
#[test]
fn no_link_is_lost_before_the_service_was_killed() {
    let mut system = System::start(SystemSettings {
        tunnels: 200,
        ..settings(IoChoice::Epoll)
    })
    .unwrap();
    let before = Instant::now();
    let killed = system.restart_service(Duration::from_millis(100)).unwrap();
    let links = [Side::Source, Side::Destination].map(|side| system.links(side));
    let changed = links.concat().into_iter().filter_map(|it| it.changed_at);
    let first = changed.filter(|it| *it >= before).min();
    let first = first.expect("links were lost");
    assert!(first >= killed, "{:?} too late", killed - first);
}

#[test]
fn links_are_reset_or_closed_as_asked_for() {
    for resets_links in [true, false] {
        let mut system = System::start(SystemSettings {
            tunnels: 2,
            resets_links,
            ..settings(IoChoice::Epoll)
        })
        .unwrap();
        let service = system.subjects()[0].clone();
        comes_back(&mut system, |system| system.cut_links().unwrap());
        assert_eq!(service, system.subjects()[0], "the service stays");
        let loss = system.last_loss().unwrap();
        assert_eq!(loss.contains("reset"), resets_links, "{loss}");
    }
}

#[test]
fn a_part_that_ends_is_named() {
    let system = System::start(settings(IoChoice::Epoll)).unwrap();
    assert_eq!(system.fault(), None);
    let destination = system.describe()[1].pid;
    support::kill(destination);
    let ended = system.wait_links(Instant::now() + PATIENCE, |_, _| false);
    let text = ended.unwrap_err().to_string();
    assert!(
        text.starts_with("the destination ended by itself"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_started_says_so() {
    let fault = |settings| System::start(settings).err().map(|it| it.to_string());
    let none = fault(SystemSettings {
        tunnels: 0,
        ..settings(IoChoice::Auto)
    });
    assert_eq!(
        none.as_deref(),
        Some("0 tunnels: a system of one relay has 1 to 9500")
    );
    let missing = fault(SystemSettings {
        executable: "/nowhere/adit-loadgen".into(),
        ..settings(IoChoice::Auto)
    });
    let text = missing.unwrap();
    assert!(text.contains("/nowhere/adit-loadgen"), "{text}");
    // It ends at once, without a word.
    let text = fault(SystemSettings {
        executable: "/bin/true".into(),
        ..settings(IoChoice::Auto)
    });
    let text = text.unwrap();
    assert!(text.contains("service"), "{text}");
}

#[test]
fn parts_end_with_the_system() {
    let system = System::start(settings(IoChoice::Auto)).unwrap();
    let pids: Vec<u32> = system.describe().iter().map(|it| it.pid).collect();
    assert!(pids.iter().all(|pid| is_running(*pid)));
    drop(system);
    assert!(!pids.iter().any(|pid| is_running(*pid)));
}

/// Two tunnels to an echo server.
fn kept_up() -> KeptUp {
    let target = echo_server().to_string();
    let tunnels = ["--tunnels", "2", "--system-io", "epoll"];
    KeptUp::start(&[&tunnels[..], &["--target", &target]].concat())
}

fn pids(document: &serde_json::Value) -> Vec<u32> {
    let parts = document["parts"].as_array().unwrap();
    parts
        .iter()
        .map(|it| it["pid"].as_u64().unwrap() as u32)
        .collect()
}

fn all_end(pids: &[u32]) {
    let deadline = Instant::now() + PATIENCE;
    while pids.iter().any(|pid| is_running(*pid)) {
        assert!(Instant::now() < deadline, "some of {pids:?} still run");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn parts_end_although_the_parent_was_killed() {
    let mut system = kept_up();
    let pids = pids(&system.document);
    assert_eq!(pids.len(), 3);
    let listen = system.of_tunnel(1, "listen");
    round_trip(&mut connect(listen.parse().unwrap()), b"it carries");
    // SIGKILL: nothing of the parent can run any more.
    system.child.kill().unwrap();
    system.child.wait().unwrap();
    all_end(&pids);
}

#[test]
fn a_system_is_kept_up_until_it_is_interrupted() {
    let mut system = kept_up();
    let pids = pids(&system.document);
    let authority = std::fs::read_to_string(system.ca()).unwrap();
    assert!(authority.contains("BEGIN CERTIFICATE"));
    assert!(system.endpoint().starts_with("wss://127.0.0.1:"));
    let tokens = [0, 1].map(|tunnel| system.of_tunnel(tunnel, "source_token"));
    assert_ne!(tokens[0], tokens[1]);
    support::interrupt(system.child.id());
    assert!(system.child.wait().unwrap().success());
    all_end(&pids);
}

#[test]
fn a_part_is_not_for_people() {
    let mut child = Command::new(EXECUTABLE)
        .arg("part")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"{\"Service\":{\"secret\":1}}\n")
        .unwrap();
    let mut words = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut words)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(!words.contains("secret"), "{words}");
    assert!(
        words.contains("standard input does not say what to be"),
        "{words}"
    );
}
