//! The source against a far end that says what it is told.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use adit_proto::limits::LENGTH_PREFIX_SIZE;
use adit_proto::message::MessageView;
use adit_verify::{Direction, Track, Writer};

use super::*;
use crate::direct::session::End as _;
use crate::direct::stall::ASIDE_MAX;
use crate::profile::Shape;
use crate::report::Interval;

fn source(load: Load) -> (Source, Receiver<Interval>) {
    let (sender, intervals) = sync_channel(8);
    let recorder = Recorder::new(0, Instant::now(), sender);
    let mut source = Source::new(load, SEED, recorder, route());
    source.begin(Instant::now(), DURATION);
    (source, intervals)
}

fn route() -> Route {
    Route {
        service: String::new(),
        stream: 1,
    }
}

/// The only interval.
fn told(source: Source, intervals: &Receiver<Interval>) -> Interval {
    drop(source);
    intervals.recv().expect("the last interval")
}

const SEED: u64 = 7;
const DURATION: Duration = Duration::from_secs(600);
const SHAPE: Shape = Shape::fixed(64, 64);
const ASKS: Load = Load {
    asks: 1,
    ..Load::none(SHAPE, Some(1000.0))
};

fn due(intended: Instant) -> Start {
    Start {
        intended,
        place: None,
    }
}

/// One connection that is busy with the first of three.
#[test]
fn what_is_late_when_the_time_is_up_is_skipped() {
    for load in [
        ASKS,
        Load {
            asks: 0,
            churns: 1,
            ..ASKS
        },
    ] {
        let (mut source, intervals) = source(load);
        for _ in 0..3 {
            source.fire(due(Instant::now()), Instant::now());
        }
        source.finish();
        assert!(!source.is_over(), "the first is on its way");
        // Its answer is its own: nothing is begun in its place.
        source.data(1, &answer());
        source.give_up(ErrorKind::TimedOut);
        let told = told(source, &intervals);
        assert_eq!((told.due, told.operations), (3, 1));
        assert_eq!(told.errors.of(ErrorKind::Skipped), 2);
        assert_eq!(told.errors.total(), 2);
    }
}

/// The far end of connection 1.
fn far_end() -> Writer {
    Writer::new(Track {
        seed: SEED,
        stream: 1,
        direction: Direction::Down,
    })
}

#[test]
fn bulk_that_comes_after_the_time_is_up_is_not_counted() {
    for (pushes, pulls, expected) in [(1, 0, (1_000, 0)), (0, 1, (0, 500))] {
        let (mut source, intervals) = source(Load {
            asks: 0,
            pushes,
            pulls,
            ..ASKS
        });
        let mut far_end = far_end();
        let mut say = |source: &mut Source, receipt| {
            let mut out = Vec::new();
            match pushes {
                0 => far_end.seeded(Kind::Data, 0, 500, &mut out),
                _ => far_end.numbers(Kind::Receipt, 0, [receipt, 0], &mut out),
            }
            source.data(1, &out);
        };
        say(&mut source, 1_000);
        source.finish();
        say(&mut source, 3_000);
        assert_eq!(source.faults, 0);
        let told = told(source, &intervals);
        assert_eq!((told.bytes_up, told.bytes_down), expected);
        let shared: u64 = told.streams.iter().map(|it| it.up + it.down).sum();
        assert_eq!(shared, expected.0 + expected.1);
    }
}

/// What it says to the first question, and its end.
fn answer() -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = far_end();
    writer.seeded(Kind::Reply, 0, 64, &mut out);
    writer.end(&mut out);
    out
}

#[test]
fn each_start_that_was_slept_through_was_late() {
    let (mut source, intervals) = source(ASKS);
    let first = Instant::now();
    let woke = first + Duration::from_millis(50);
    for milliseconds in [0, 10, 20] {
        source.fire(due(first + Duration::from_millis(milliseconds)), woke);
    }
    let told = told(source, &intervals);
    assert_eq!(told.lag.len(), 3);
    assert!((29_900_000..30_100_000).contains(&told.lag.min()));
}

/// What a far end says down connection `stream`.
fn says(stream: u64, say: impl FnOnce(&mut Writer, &mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(Track {
        seed: SEED,
        stream,
        direction: Direction::Down,
    });
    say(&mut writer, &mut out);
    out
}

#[test]
fn an_answer_of_another_size_is_a_fault() {
    let (mut source, intervals) = source(ASKS);
    source.fire(due(Instant::now()), Instant::now());
    let short = says(1, |writer, out| writer.seeded(Kind::Reply, 0, 63, out));
    source.data(1, &short);
    assert_eq!(source.faults, 1);
    let told = told(source, &intervals);
    assert_eq!(
        (told.operations, told.errors.of(ErrorKind::Mismatch)),
        (0, 1)
    );
}

#[test]
fn connections_that_are_held_are_proved_some_at_a_time() {
    let holds = idle::AT_ONCE + 2;
    let load = Load {
        holds,
        ..Load::none(SHAPE, None)
    };
    let (mut source, intervals) = source(load);
    source.cut(2);
    source.finish();
    assert_eq!(source.proving, idle::AT_ONCE);
    let last = holds as u32;
    assert!(source.lanes[&last].asked.is_none());
    // The first is whole; the third ends without its answer.
    let whole = says(1, |writer, out| {
        writer.seeded(Kind::Reply, 0, idle::SIZE, out);
        writer.end(out);
    });
    source.data(1, &whole);
    assert!(source.lanes[&last].asked.is_some());
    source.data(3, &says(3, |writer, out| writer.end(out)));
    source.give_up(ErrorKind::TimedOut);
    assert_eq!(source.outcome().held, Some(1));
    let told = told(source, &intervals);
    assert_eq!(told.errors.of(ErrorKind::Reset), 1);
    assert_eq!(told.errors.of(ErrorKind::Closed), 1);
    assert_eq!(told.errors.of(ErrorKind::TimedOut), holds as u64 - 3);
}

#[test]
fn a_connection_whose_life_is_over_is_ended_and_another_takes_its_place() {
    let load = Load {
        asks: 1,
        ..Load::none(Shape::Http, Some(1.0))
    };
    let (mut source, intervals) = source(load);
    let mut far_end = far_end();
    let mut trips = 0;
    while source.lanes.contains_key(&1) {
        source.fire(due(Instant::now()), Instant::now());
        let lane = &source.lanes[&1];
        let (asked, is_last) = (lane.asked.expect("it was free"), lane.is_last);
        let mut out = Vec::new();
        far_end.seeded(Kind::Reply, 0, asked.trip.reply, &mut out);
        if is_last {
            // Nothing is asked on it while it ends.
            source.data(1, &out);
            out.clear();
            source.fire(due(Instant::now()), Instant::now());
            far_end.end(&mut out);
        }
        source.data(1, &out);
        trips += 1;
    }
    assert!((1..100).contains(&trips), "{trips}");
    assert!(source.lanes[&2].asked.is_some(), "what waited is begun");
    source.give_up(ErrorKind::TimedOut);
    let told = told(source, &intervals);
    assert_eq!((told.due, told.operations), (trips + 1, trips));
    assert_eq!(told.errors.total(), 1);
}

/// The first of three readers stalls at once: the run began long ago.
fn stalled() -> (Source, Receiver<Interval>) {
    stalling(0.7)
}

/// So much of the run is over; it stalls after two fifths of it.
fn stalling(share: f64) -> (Source, Receiver<Interval>) {
    let load = Load {
        pulls: 3,
        stalls: true,
        ..Load::none(SHAPE, None)
    };
    let (sender, intervals) = sync_channel(8);
    let recorder = Recorder::new(0, Instant::now(), sender);
    let mut source = Source::new(load, SEED, recorder, route());
    let start = Instant::now() - DURATION.mul_f64(share);
    source.begin(start, DURATION);
    (source, intervals)
}

#[test]
fn what_comes_for_a_connection_that_stalls_is_put_aside_and_verified_later() {
    for is_wrong in [false, true] {
        let (mut source, intervals) = stalled();
        for stream in 1..=3 {
            let mut out = says(stream, |writer, out| writer.seeded(Kind::Data, 0, 500, out));
            out[100] ^= u8::from(is_wrong && stream == 1);
            source.data(stream as u32, &out);
        }
        assert_eq!(source.faults, 0);
        source.finish();
        assert_eq!(source.faults, u64::from(is_wrong));
        let outcome = source.outcome().stall.expect("one stalled");
        assert_eq!(outcome.during, [500, 500]);
        assert!(outcome.has_stalled && !outcome.was_cut);
        assert_eq!(told(source, &intervals).bytes_down, 1000);
    }
}

#[test]
fn the_other_side_may_cut_a_connection_that_stalls_but_none_before() {
    for (share, has_stalled) in [(0.7, true), (0.1, false)] {
        let (mut source, intervals) = stalling(share);
        source.cut(1);
        let outcome = source.outcome();
        let stall = outcome.stall.as_ref().expect("one was to stall");
        assert_eq!(
            (stall.has_stalled, stall.was_cut),
            (has_stalled, has_stalled)
        );
        let is_told = outcome.figures().contains_key("others_kept_share");
        assert_eq!(is_told, has_stalled);
        let errors = told(source, &intervals).errors;
        assert_eq!(errors.of(ErrorKind::Reset), u64::from(!has_stalled));
    }
}

#[test]
fn a_connection_that_stalls_beyond_its_bound_is_reset() {
    let (mut source, intervals) = stalled();
    source.control.clear();
    let mut size = 0;
    let mut far_end = far_end();
    while source.lanes.contains_key(&1) {
        let mut out = Vec::new();
        far_end.seeded(Kind::Data, 0, 16_384, &mut out);
        size += out.len();
        source.data(1, &out);
    }
    assert!(size > ASIDE_MAX && size <= ASIDE_MAX + 16_384);
    assert!(!source.control.is_empty(), "the other side is told");
    // It may not know yet.
    source.data(1, &says(1, |writer, out| writer.end(out)));
    assert!(source.outcome().stall.expect("one stalled").was_cut);
    assert_eq!(told(source, &intervals).errors.total(), 0);
}

/// How the round trip on a connection can fail.
type Failure = fn(&mut Source, u32);

const FAILURES: [Failure; 3] = [
    |source, connection| source.cut(connection),
    |source, connection| {
        let end = says(connection.into(), |writer, out| writer.end(out));
        source.data(connection, &end);
    },
    |source, connection| {
        let short = says(connection.into(), |writer, out| {
            writer.seeded(Kind::Reply, 0, 63, out);
        });
        source.data(connection, &short);
    },
];

/// Connections whose answers are waited for.
fn asked(source: &Source) -> Vec<u32> {
    let asked = source.lanes.iter().filter(|(_, lane)| lane.asked.is_some());
    let mut asked: Vec<u32> = asked.map(|(connection, _)| *connection).collect();
    asked.sort_unstable();
    asked
}

#[test]
fn a_place_of_the_closed_model_goes_on_after_a_failure() {
    let closed = Load::none(SHAPE, None);
    for (asks, churns) in [(4, 0), (0, 4)] {
        for fail in FAILURES {
            let (mut source, intervals) = source(Load {
                asks,
                churns,
                ..closed
            });
            assert_eq!(asked(&source), [1, 2, 3, 4]);
            // Whoever fails, and all at once: a target that was restarted.
            for round in 0..3 {
                for connection in asked(&source) {
                    fail(&mut source, connection);
                }
                assert!(asked(&source).is_empty(), "not before a pause");
                let now = Instant::now();
                source.tick(now);
                assert!(asked(&source).is_empty(), "not before a pause");
                source.tick(now + PAUSE);
                assert_eq!(asked(&source).len(), 4, "{round}");
            }
            assert!(source.pauses.is_empty());
            source.give_up(ErrorKind::TimedOut);
            let told = told(source, &intervals);
            assert_eq!(told.errors.total(), 16);
            assert_eq!(told.errors.of(ErrorKind::TimedOut), 4);
        }
    }
}

#[test]
fn a_pause_ends_with_the_run_and_is_none_of_the_open_model() {
    let (mut source, intervals) = source(Load { rate: None, ..ASKS });
    source.cut(1);
    source.finish();
    source.tick(Instant::now() + PAUSE);
    assert!(source.is_over(), "nothing is begun any more");
    assert_eq!(told(source, &intervals).errors.total(), 1);

    let (mut source, _intervals) = self::source(ASKS);
    source.fire(due(Instant::now()), Instant::now());
    source.cut(1);
    source.tick(Instant::now() + PAUSE);
    assert!(asked(&source).is_empty(), "nothing is due");
}

/// A start of the closed model has no time that it could miss.
#[test]
fn the_closed_model_skips_nothing() {
    let (mut source, intervals) = source(Load {
        asks: 1,
        ..Load::none(Shape::Http, None)
    });
    let mut far_end = far_end();
    loop {
        let lane = &source.lanes[&1];
        let (trip, is_last) = (lane.asked.expect("it is busy").trip, lane.is_last);
        let mut out = Vec::new();
        far_end.seeded(Kind::Reply, 0, trip.reply, &mut out);
        source.data(1, &out);
        if is_last {
            break;
        }
    }
    // Its connection is about to end, and the next round trip waits for another.
    source.finish();
    source.data(1, &{
        let mut out = Vec::new();
        far_end.end(&mut out);
        out
    });
    assert!(source.is_over());
    assert_eq!(told(source, &intervals).errors.total(), 0);
}

/// As the other side says it of the one stream.
fn hear(source: &mut Source, kind: MessageKind) {
    let mut frame = Vec::new();
    route().control(kind, 0, &mut frame);
    let message = MessageView::parse(&frame[LENGTH_PREFIX_SIZE..]).expect("a message of ours");
    source.take(message).expect("a source takes it");
}

/// One connection after the other, and none is open between two of them.
#[test]
fn a_tunnel_that_ends_between_two_connections_fails_the_run() {
    let load = Load {
        asks: 0,
        churns: 1,
        ..ASKS
    };
    for kind in [MessageKind::StreamReset, MessageKind::SessionReset] {
        let (mut source, intervals) = source(load);
        source.fire(due(Instant::now()), Instant::now());
        source.data(1, &answer());
        assert!(source.lanes.is_empty());
        hear(&mut source, kind);
        assert!(source.is_over() && source.cut_short.is_some(), "{kind:?}");
        // The clock may be in time once more.
        source.fire(due(Instant::now()), Instant::now());
        assert!(source.is_over(), "nothing is begun in it");
        let told = told(source, &intervals);
        assert_eq!((told.due, told.operations), (1, 1));
        assert_eq!(told.errors.total(), 0);
        assert_eq!(told.connection_errors.of(ErrorKind::Tunnel), 1);
    }
}

#[test]
fn a_tunnel_that_ends_with_an_open_connection_is_told_beside_it() {
    let (mut source, intervals) = source(ASKS);
    source.fire(due(Instant::now()), Instant::now());
    source.lose(ErrorKind::Tunnel, "gone".to_owned());
    let told = told(source, &intervals);
    assert_eq!(told.errors.of(ErrorKind::Tunnel), 1);
    assert_eq!(told.connection_errors.of(ErrorKind::Tunnel), 1);
}

/// What was on its way then is lost all the same.
#[test]
fn a_tunnel_may_end_once_the_time_is_up() {
    let (mut source, intervals) = source(ASKS);
    source.fire(due(Instant::now()), Instant::now());
    source.finish();
    let begun = Instant::now() - DURATION;
    let offered = source.offered(begun);
    hear(&mut source, MessageKind::StreamReset);
    assert_eq!(source.offered(begun), offered);
    let told = told(source, &intervals);
    assert_eq!(told.errors.of(ErrorKind::Reset), 1);
    assert_eq!(told.connection_errors.total(), 0);
}

/// It verifies so far, and would be taken for a transfer that came to its end.
#[test]
fn bulk_or_a_held_connection_that_the_far_end_ends_early_was_cut() {
    let load = Load::none(SHAPE, None);
    let loads = [
        Load { pushes: 2, ..load },
        Load { pulls: 2, ..load },
        Load { holds: 2, ..load },
    ];
    for load in loads {
        let (mut source, intervals) = source(load);
        source.data(1, &says(1, |writer, out| writer.end(out)));
        // The others end in order.
        source.finish();
        let rest = says(2, |writer, out| {
            if load.holds > 0 {
                writer.seeded(Kind::Reply, 0, idle::SIZE, out);
            }
            writer.end(out);
        });
        source.data(2, &rest);
        assert!(source.is_over() && source.faults == 0);
        assert_eq!(source.outcome().held, (load.holds > 0).then_some(1));
        let errors = told(source, &intervals).errors;
        assert_eq!((errors.of(ErrorKind::Closed), errors.total()), (1, 1));
    }
}

/// Nobody looks at what comes for it before the time is up.
#[test]
fn a_connection_that_stalls_and_was_ended_early_was_cut() {
    let (mut source, intervals) = stalled();
    source.data(1, &says(1, |writer, out| writer.end(out)));
    source.finish();
    for stream in 2..=3 {
        let end = says(stream, |writer, out| writer.end(out));
        source.data(stream as u32, &end);
    }
    assert!(source.is_over());
    let errors = told(source, &intervals).errors;
    assert_eq!((errors.of(ErrorKind::Closed), errors.total()), (1, 1));
}

/// Behind the trailer in the same message, in another one, and for a connection that was never opened.
#[test]
fn bytes_that_belong_to_no_connection_are_a_fault() {
    let load = Load {
        asks: 0,
        churns: 1,
        ..ASKS
    };
    for (connection, with_trailer) in [(1, true), (1, false), (2, false)] {
        let (mut source, intervals) = source(load);
        source.fire(due(Instant::now()), Instant::now());
        let mut out = answer();
        if with_trailer {
            out.push(0);
        }
        source.data(1, &out);
        source.data(connection, &[]);
        if !with_trailer {
            source.data(connection, &[0]);
        }
        assert_eq!(source.faults, 1, "{connection}");
        // One is enough to tell.
        source.data(connection, &[0]);
        assert_eq!(source.faults, 1, "{connection}");
        let errors = told(source, &intervals).errors;
        assert_eq!(errors.of(ErrorKind::Mismatch), 1);
    }
}

#[test]
fn what_comes_for_a_connection_that_was_given_up_is_late() {
    let (mut source, intervals) = source(ASKS);
    source.fire(due(Instant::now()), Instant::now());
    source.finish();
    source.give_up(ErrorKind::TimedOut);
    source.data(1, &answer());
    let errors = told(source, &intervals).errors;
    assert_eq!((errors.of(ErrorKind::TimedOut), errors.total()), (1, 1));
}
