//! Tunnels driven by their tokens, with every byte verified at both ends.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use adit_engine::ring::IoChoice;
use adit_loadgen::direct::{self, DirectSettings, LinkSettings, Load, Outcome, Trust};
use adit_loadgen::profile::Shape;
use adit_loadgen::report::{ErrorKind, Interval, Recorder};
use adit_loadgen::system::{System, SystemSettings};
use adit_proto::{AccessToken, Mode};

use crate::support::{EXECUTABLE, both};

/// A system without the sides that are played here.
struct Stage {
    system: System,
}

impl Stage {
    fn new(io: IoChoice, has_source: bool, has_destination: bool) -> Self {
        let system = System::start(SystemSettings {
            io,
            has_source,
            has_destination,
            ..SystemSettings::new(EXECUTABLE.into())
        })
        .unwrap();
        Self { system }
    }

    fn link(&self, mode: Mode) -> LinkSettings {
        let ticket = &self.system.tickets()[0];
        let token = match mode {
            Mode::Source => &ticket.source_token,
            Mode::Destination => &ticket.destination_token,
        };
        LinkSettings {
            endpoint: self.system.service().to_string().parse().unwrap(),
            trust: Trust::Only(self.system.authority().to_owned()),
            token: AccessToken::new(token.clone()).unwrap(),
            mode,
            congestion: None,
        }
    }

    fn settings(&self, load: Load, plays_destination: bool) -> DirectSettings {
        DirectSettings {
            source: self.link(Mode::Source),
            destination: plays_destination.then(|| self.link(Mode::Destination)),
            load,
            duration: Duration::from_millis(1500),
            grace: Duration::from_secs(30),
            seed: 7,
            stop: Arc::default(),
        }
    }
}

/// What the intervals of a run add up to.
#[derive(Debug, Default)]
struct Totals {
    operations: u64,
    up: u64,
    down: u64,
    due: u64,
    open: u64,
    errors: Vec<(ErrorKind, u64)>,
    connection_errors: Vec<(ErrorKind, u64)>,
    latencies: u64,
}

fn totals(intervals: Receiver<Interval>) -> Totals {
    let mut totals = Totals::default();
    for interval in intervals {
        totals.operations += interval.operations;
        totals.up += interval.bytes_up;
        totals.down += interval.bytes_down;
        totals.due += interval.due;
        totals.open = interval.open;
        totals.latencies += interval.corrected.len();
        totals.errors.extend(interval.errors.iter());
        let of_connections = interval.connection_errors.iter();
        totals.connection_errors.extend(of_connections);
    }
    totals
}

fn run(settings: DirectSettings) -> (Outcome, Totals) {
    let (sender, intervals) = sync_channel(1_000);
    let tunnel = direct::connect(settings).unwrap();
    let start = Instant::now();
    let recorder = Recorder::new(0, start, sender);
    let outcome = tunnel.run(recorder, start).unwrap();
    let totals = totals(intervals);
    assert_eq!(outcome.cut_short, None);
    assert_eq!(outcome.faults, 0, "{outcome:?}");
    // A machine that is too busy may have left starts out.
    let mut kinds = totals.errors.iter().map(|(kind, _)| *kind);
    assert!(kinds.all(|it| it == ErrorKind::Skipped), "{totals:?}");
    assert_eq!(totals.open, 0, "every connection was ended");
    (outcome, totals)
}

const ASKS: Load = Load {
    asks: 20,
    ..Load::none(Shape::fixed(64, 300), None)
};

#[test]
fn round_trips_through_the_relay_alone() {
    both(|io| {
        let stage = Stage::new(io, false, false);
        let (outcome, totals) = run(stage.settings(ASKS, true));
        assert!(totals.operations > 100, "{totals:?}");
        assert_eq!(totals.latencies, totals.operations);
        assert_eq!(totals.up, 64 * totals.operations);
        assert_eq!(totals.down, 300 * totals.operations);
        assert_eq!((outcome.far_connections, outcome.far_cut), (20, 0));
        assert!(outcome.far_received >= totals.up, "{outcome:?}");
    });
}

#[test]
fn the_open_model_offers_what_it_was_told() {
    let stage = Stage::new(IoChoice::Auto, false, false);
    let load = Load {
        rate: Some(200.0),
        ..ASKS
    };
    let (_, totals) = run(stage.settings(load, true));
    let skipped: u64 = totals.errors.iter().map(|(_, count)| count).sum();
    assert_eq!((totals.due, totals.operations + skipped), (300, 300));
    assert!(totals.operations > 0, "{totals:?}");
}

#[test]
fn bulk_both_ways_beside_round_trips() {
    both(|io| {
        let stage = Stage::new(io, false, false);
        let load = Load {
            asks: 2,
            pushes: 3,
            pulls: 3,
            ..ASKS
        };
        let (outcome, totals) = run(stage.settings(load, true));
        // Bulk has the cores: on a busy machine there were ten.
        assert!(totals.operations >= 2, "{totals:?}");
        assert!(totals.up > 1 << 20 && totals.down > 1 << 20, "{totals:?}");
        assert_eq!((outcome.far_connections, outcome.far_cut), (8, 0));
    });
}

#[test]
fn a_connection_for_each_round_trip() {
    let stage = Stage::new(IoChoice::Auto, false, false);
    let load = Load {
        asks: 0,
        churns: 10,
        ..ASKS
    };
    let (outcome, totals) = run(stage.settings(load, true));
    assert!(totals.operations > 20, "{totals:?}");
    assert_eq!(outcome.far_connections, totals.operations);
    assert_eq!(outcome.far_cut, 0);
}

/// Each as source alone, and as both ends.
fn as_source_and_as_both(load: Load, check: impl Fn(&Outcome, &Totals)) {
    for plays_destination in [false, true] {
        let stage = Stage::new(IoChoice::Auto, false, !plays_destination);
        let (outcome, totals) = run(stage.settings(load, plays_destination));
        check(&outcome, &totals);
    }
}

#[test]
fn people_type_at_times_of_their_own() {
    let load = Load {
        asks: 20,
        ..Load::none(Shape::Typing, Some(200.0))
    };
    as_source_and_as_both(load, |outcome, totals| {
        let skipped: u64 = totals.errors.iter().map(|(_, count)| count).sum();
        assert_eq!(totals.due, totals.operations + skipped);
        // 300 are expected, with a deviation of 17.
        assert!((200..400).contains(&totals.due), "{totals:?}");
        assert!(totals.operations > 0, "{totals:?}");
        assert_eq!(outcome.far_cut, 0);
    });
}

#[test]
fn connections_of_the_web_are_ended_and_opened_anew() {
    let load = Load {
        asks: 20,
        ..Load::none(Shape::Http, None)
    };
    as_source_and_as_both(load, |outcome, totals| {
        assert!(totals.operations > 20, "{totals:?}");
        assert!(totals.down > totals.up, "{totals:?}");
        assert_eq!(outcome.far_cut, 0);
        // A tenth of them ends within 10 round trips.
        let is_played = outcome.far_connections > 0;
        assert!(!is_played || outcome.far_connections > 20, "{outcome:?}");
    });
}

#[test]
fn connections_that_are_held_are_whole_at_the_end() {
    let load = Load {
        holds: 400,
        ..Load::none(Shape::Typing, None)
    };
    as_source_and_as_both(load, |outcome, totals| {
        assert_eq!(outcome.profile.held, Some(400));
        assert_eq!((totals.operations, outcome.far_cut), (0, 0));
    });
}

/// More than is put aside comes for it: it is reset, and the others go on.
#[test]
fn a_connection_that_stalls_is_reset_and_the_others_go_on() {
    let load = Load {
        pulls: 4,
        stalls: true,
        ..Load::none(Shape::Typing, None)
    };
    as_source_and_as_both(load, |outcome, _| {
        let stall = outcome.profile.stall.as_ref().expect("one stalled");
        for window in [&stall.before, &stall.during] {
            assert_eq!(window.len(), 3);
            assert!(window.iter().sum::<u64>() > 0, "{stall:?}");
        }
        // Whether so much came is the machine's affair; at the far end it is the one that was cut.
        let is_played = outcome.far_connections > 0;
        let cut = if is_played {
            u64::from(stall.was_cut)
        } else {
            0
        };
        assert_eq!(outcome.far_cut, cut);
    });
}

/// The device's side is real: proxy and verifying server.
#[test]
fn as_source_alone() {
    both(|io| {
        let stage = Stage::new(io, false, true);
        for (asks, pushes, pulls, churns) in [(5, 2, 2, 0), (0, 0, 0, 5)] {
            // A token of the service is bound to the client that came with it first.
            let stage = match churns {
                0 => &stage,
                _ => &Stage::new(io, false, true),
            };
            let load = Load {
                asks,
                pushes,
                pulls,
                churns,
                ..ASKS
            };
            let (_, totals) = run(stage.settings(load, false));
            assert!(totals.operations > 10, "{totals:?}");
            if pushes > 0 {
                assert!(totals.up > 1 << 20 && totals.down > 1 << 20, "{totals:?}");
            }
        }
    });
}

#[test]
fn a_service_that_goes_away_cuts_the_run_short() {
    let mut stage = Stage::new(IoChoice::Auto, false, false);
    let settings = DirectSettings {
        duration: Duration::from_secs(600),
        ..stage.settings(ASKS, true)
    };
    let (sender, intervals) = sync_channel(1_000);
    let tunnel = direct::connect(settings).unwrap();
    let start = Instant::now();
    let recorder = Recorder::new(0, start, sender);
    let running = std::thread::spawn(move || tunnel.run(recorder, start));
    std::thread::sleep(Duration::from_millis(500));
    stage.system.restart_service(Duration::ZERO).unwrap();
    let outcome = running.join().unwrap().unwrap();
    assert!(outcome.cut_short.is_some(), "{outcome:?}");
    let totals = totals(intervals);
    let lost = totals
        .errors
        .iter()
        .filter(|(kind, _)| *kind == ErrorKind::Tunnel);
    assert_eq!(lost.map(|it| it.1).sum::<u64>(), 20, "{totals:?}");
    // The tunnel itself, which no operation has to tell of.
    let of_connections = [(ErrorKind::Tunnel, 1)];
    assert_eq!(totals.connection_errors, of_connections, "{totals:?}");
    assert!(outcome.offered < Duration::from_secs(300), "{outcome:?}");
}

#[test]
fn what_refuses_says_so() {
    let stage = Stage::new(IoChoice::Auto, false, false);
    let fault = |link| {
        let settings = DirectSettings {
            source: link,
            ..stage.settings(ASKS, false)
        };
        let fault = direct::connect(settings).err().unwrap();
        format!("{fault:#}")
    };
    let mut link = stage.link(Mode::Source);
    link.token = AccessToken::new("unknown".to_owned()).unwrap();
    let text = fault(link);
    assert!(
        text.contains("refused with 400: no such access token"),
        "{text}"
    );
    let mut link = stage.link(Mode::Source);
    link.trust = Trust::Also(None);
    let text = fault(link);
    assert!(text.contains("TLS"), "{text}");
}
