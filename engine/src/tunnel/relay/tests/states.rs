//! Every state of a service × every event, compared with the committed table `states.txt`.
//!
//! After an intended change: `ADIT_BLESS=1 cargo test -p adit-engine states`, then read the diff.

use super::lab::{DESTINATION, SOURCE};
use crate::tunnel::error::PeerError;
use crate::tunnel::relay::label::{Act, Label};
use crate::tunnel::relay::service::{Bridged, Ids, Reach, Service, Shared, Stream, Verdict};
use adit_proto::ids::{ConnectionId, Mode, StreamId};
use std::fmt::Write as _;

/// The source's stream in every state that has one; the destination calls it `CURRENT + 3`, so that
/// the table shows where names are exchanged.
const CURRENT: i32 = 5;
const TOLD: i32 = CURRENT + 3;
const STALE: i32 = 2;
const NEW: i32 = 6;

#[test]
fn every_state_and_event_does_what_the_table_says() {
    let table = print_table();
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/tunnel/relay/tests/states.txt"
    );
    if std::env::var_os("ADIT_BLESS").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap();
    for (line, (is, was)) in table.lines().zip(committed.lines()).enumerate() {
        assert_eq!(is, was, "states.txt, line {}", line + 1);
    }
    assert_eq!(table.lines().count(), committed.lines().count());
}

fn print_table() -> String {
    let mut out = String::from(HEAD);
    for (name, service) in states() {
        writeln!(out, "\n{name}").unwrap();
        for event in starts() {
            line(&mut out, &service, SOURCE, event);
        }
        for event in about(CURRENT) {
            line(&mut out, &service, SOURCE, event);
        }
        for event in about(TOLD) {
            line(&mut out, &service, DESTINATION, event);
        }
        for side in [SOURCE, DESTINATION] {
            let mut service = copy(&service);
            let told = service.on_lost(side);
            let told = told.map_or("-".to_owned(), |stream| format!("STREAM_RESET {stream}"));
            let next = show(&service.stream);
            writeln!(out, "  {:<46} {told:<46} | {next}", format!("{side} lost")).unwrap();
        }
    }
    out
}

const HEAD: &str = "\
# state
#   sender, event stream/connection, reach: what the other side sees; what the sender gets | next state
#
# The source calls the stream 5, the destination 8 (5=8). 2 is an old stream, 6 a new one.
# Reach is what the destination can be asked: many connections for each stream, a single one, unable
# to tell the services apart, absent. Dropped, answered and refused messages show why.
";

/// What only a source can say.
fn starts() -> [Label; 7] {
    [
        Label::new(Act::StreamStart, id(CURRENT), connection(1)),
        Label::new(Act::StreamStart, id(CURRENT), None),
        Label::new(Act::StreamStart, id(NEW), connection(7)),
        Label::new(Act::StreamStart, id(NEW), None),
        Label::new(Act::ConnectionStart, id(CURRENT), connection(1)),
        Label::new(Act::ConnectionStart, id(CURRENT), connection(2)),
        Label::new(Act::ConnectionStart, id(STALE), connection(2)),
    ]
}

/// What either side can say about a stream that was started, and about an old one.
fn about(stream: i32) -> [Label; 9] {
    [
        Label::new(Act::Data, id(stream), connection(1)),
        Label::new(Act::Data, id(stream), connection(2)),
        Label::new(Act::Data, id(stream), None),
        Label::new(Act::Data, id(STALE), connection(1)),
        Label::new(Act::ConnectionReset, id(stream), connection(1)),
        Label::new(Act::ConnectionReset, id(stream), connection(2)),
        Label::new(Act::ConnectionReset, id(STALE), connection(1)),
        Label::new(Act::StreamReset, id(stream), connection(3)),
        Label::new(Act::StreamReset, id(STALE), None),
    ]
}

/// One line for each outcome that the reach makes a difference for.
fn line(out: &mut String, service: &Service, from: Mode, event: Label) {
    let mut outcomes: Vec<(String, Vec<String>)> = Vec::new();
    for reach in REACHES {
        let outcome = outcome(service, from, event, reach);
        let reach = format!("{reach:?}").to_lowercase();
        match outcomes.iter_mut().find(|(same, _)| *same == outcome) {
            Some((_, reaches)) => reaches.push(reach),
            None => outcomes.push((outcome, vec![reach])),
        }
    }
    for (outcome, reaches) in outcomes {
        let reaches = match reaches.len() {
            count if count == REACHES.len() => String::new(),
            _ => reaches.join(" "),
        };
        let event = format!("{from:<11} {:<20} {reaches:<13}", show_label(event));
        writeln!(out, "  {event} {outcome}").unwrap();
    }
}

const REACHES: [Reach; 4] = [Reach::Many, Reach::Single, Reach::Unable, Reach::Absent];

fn outcome(service: &Service, from: Mode, event: Label, reach: Reach) -> String {
    let mut service = copy(service);
    let outcome = match service.on_message(from, event, reach) {
        Ok(verdict) => show_verdict(verdict),
        Err(PeerError::DialectChange(_)) => "refused: dialect change".to_owned(),
        Err(PeerError::Misplaced { .. }) => "refused: misplaced".to_owned(),
        Err(error) => panic!("not a matter of state: {error}"),
    };
    format!("{outcome:<46} | {}", show(&service.stream))
}

fn states() -> Vec<(&'static str, Service)> {
    let ids = Ids {
        source: id(CURRENT),
        destination: id(TOLD),
    };
    let shared = |first, has_more, answers| {
        Stream::Shared(Shared {
            ids,
            first: connection(first),
            has_more,
            answers,
        })
    };
    let bridged = |told, answers| {
        let connection = ConnectionId::FIRST;
        Stream::Bridged(Bridged {
            ids,
            connection,
            told,
            answers,
        })
    };
    let known = |name, stream| {
        (
            name,
            Service {
                stream,
                is_known: true,
                has_begun: true,
                is_single: false,
                told_last: StreamId::new(TOLD),
                has_begun_anew: false,
            },
        )
    };
    vec![
        ("never started", Service::default()),
        known("idle", Stream::Idle),
        (
            "idle, the source is a new one",
            Service {
                has_begun: false,
                ..known("", Stream::Idle).1
            },
        ),
        known("shared, no connection ids", shared(0, false, None)),
        known(
            "shared, no connection ids, destination names them",
            shared(0, false, Some(true)),
        ),
        known("shared, one connection", shared(1, false, None)),
        known(
            "shared, one connection, destination names it",
            shared(1, false, Some(true)),
        ),
        known("shared, several connections", shared(1, true, None)),
        known(
            "waiting",
            Stream::Waiting {
                source: id(CURRENT),
            },
        ),
        known("bridged", bridged(None, None)),
        known(
            "bridged, destination names connections",
            bridged(None, Some(true)),
        ),
        known(
            "bridged while open",
            bridged(Some(ConnectionId::FIRST), Some(false)),
        ),
    ]
}

fn copy(service: &Service) -> Service {
    Service { ..*service }
}

fn id(value: i32) -> StreamId {
    StreamId::new(value).unwrap()
}

fn connection(value: u32) -> Option<ConnectionId> {
    ConnectionId::new(value)
}

fn show_label(label: Label) -> String {
    let connection = label.connection.map_or("-".to_owned(), |id| id.to_string());
    format!("{} {}/{connection}", label.act.kind(), label.stream)
}

fn show_verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Forward(label) => show_label(label),
        Verdict::Restart { end, start } => format!("{}, {}", show_label(end), show_label(start)),
        Verdict::Answer(label, reason) => format!("-; {} ({reason:?})", show_label(label)),
        Verdict::EndBoth { forward, answer } => {
            format!("{}; {}", show_label(forward), show_label(answer))
        }
        Verdict::Drop(reason) => format!("- ({reason:?})"),
    }
}

fn show(stream: &Stream) -> String {
    let form = |answers| match answers {
        None => "",
        Some(true) => ", named back",
        Some(false) => ", not named back",
    };
    match stream {
        Stream::Idle => "idle".to_owned(),
        Stream::Shared(shared) => format!(
            "shared {}={}{}{}{}",
            shared.ids.source,
            shared.ids.destination,
            shared
                .first
                .map_or("".to_owned(), |id| format!(", first {id}")),
            if shared.has_more { " of several" } else { "" },
            form(shared.answers),
        ),
        Stream::Waiting { source } => format!("waiting {source}"),
        Stream::Bridged(bridged) => format!(
            "bridged {}/{}={}{}{}",
            bridged.ids.source,
            bridged.connection,
            bridged.ids.destination,
            bridged.told.map_or("".to_owned(), |id| format!("/{id}")),
            form(bridged.answers),
        ),
    }
}
