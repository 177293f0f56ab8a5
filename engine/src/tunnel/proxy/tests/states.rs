//! Every state of a service × every event, compared with the committed table `states.txt`.
//!
//! After an intended change: `ADIT_BLESS=1 cargo test -p adit-engine states`, then read the diff.

use super::lab::*;
use adit_proto::ids::{Dialect, Mode};
use std::fmt::Write as _;
use std::time::Duration;

#[test]
fn every_state_and_event_does_what_the_table_says() {
    let table = print_table();
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/tunnel/proxy/tests/states.txt"
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

const HEAD: &str = "\
# state
#   event: what is said; what becomes of each connection that exists before | stream, connections
#
# The current stream is 5 and the connection in question 7; 2 is an old stream, 6 a new one, 9 an
# unknown connection. A connection: lives, ended (in an orderly way), cut, flushing, undialled (the
# driver was told to stop), silent (its application sends no more; the other way goes on).
";

/// A service in some state, with the socket of the connection in question.
struct Case {
    name: &'static str,
    mode: Mode,
    dialect: Dialect,
    make: fn(&mut Lab, Dialect),
}

/// What the tunnel, the application or time can do.
#[derive(Clone)]
enum Event {
    Message(Message),
    Accept,
    End,
    Break,
    DialDone,
    DialFailed,
    Quiet,
    LinkLost,
}

fn id_of(dialect: Dialect, id: u32) -> u32 {
    match dialect {
        Dialect::V3 => id,
        Dialect::V1 | Dialect::V2 => 0,
    }
}

fn name_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::V1 => "",
        Dialect::V2 | Dialect::V3 => "A",
    }
}

fn cases() -> Vec<Case> {
    let source = |name, dialect, make| Case {
        name,
        mode: Mode::Source,
        dialect,
        make,
    };
    let destination = |name, dialect, make| Case {
        name,
        mode: Mode::Destination,
        dialect,
        make,
    };
    let mut all = Vec::new();
    for dialect in [Dialect::V3, Dialect::V2, Dialect::V1] {
        all.push(source("listening", dialect, |lab, _| source_stream(lab, 4)));
        all.push(source("one connection", dialect, |lab, dialect| {
            source_open(lab, dialect);
        }));
        all.push(source("its application ended", dialect, |lab, dialect| {
            source_open(lab, dialect);
            lab.writes(0, b"question");
            lab.finishes(0);
            lab.said();
        }));
        all.push(source("flushing", dialect, |lab, dialect| {
            lab.room = 1;
            source_open(lab, dialect);
            flush(lab, dialect);
        }));
        if dialect == Dialect::V3 {
            all.push(source("two connections", dialect, |lab, dialect| {
                source_open(lab, dialect);
                lab.accept(0).unwrap();
                lab.said();
            }));
            all.push(source(
                "a stream without connections",
                dialect,
                |lab, dialect| {
                    source_open(lab, dialect);
                    lab.breaks(0);
                    lab.said();
                },
            ));
        }
        all.push(destination("idle", dialect, |_, _| {}));
        all.push(destination("dialling", dialect, |lab, dialect| {
            lab.gets(&[stream_start(5, name_of(dialect), id_of(dialect, 7))]);
        }));
        all.push(destination(
            "dialling, with data",
            dialect,
            |lab, dialect| {
                let (name, id) = (name_of(dialect), id_of(dialect, 7));
                lab.gets(&[stream_start(5, name, id), data(5, name, id, b"x")]);
            },
        ));
        all.push(destination("one connection", dialect, |lab, dialect| {
            destination_open(lab, dialect);
        }));
        all.push(destination("flushing", dialect, |lab, dialect| {
            lab.room = 1;
            destination_open(lab, dialect);
            flush(lab, dialect);
        }));
        if dialect == Dialect::V3 {
            all.push(destination("a later dial", dialect, |lab, dialect| {
                lab.gets(&[stream_start(5, "A", 1)]);
                lab.dialled().unwrap();
                lab.gets(&[connection_start(5, "A", id_of(dialect, 7))]);
            }));
        }
    }
    all
}

/// Streams that came and went, so that the next one is `last + 1` and its connection 7.
fn source_stream(lab: &mut Lab, last: i32) {
    lab.proxy.services[0].last_stream = adit_proto::ids::StreamId::new(last);
    while lab.proxy.services[0].dialect == Dialect::V3
        && lab.proxy.services[0].next_connection_id() < 6
    {}
}

fn source_open(lab: &mut Lab, _: Dialect) {
    source_stream(lab, 4);
    lab.accept(0).unwrap();
    lab.said();
}

fn destination_open(lab: &mut Lab, dialect: Dialect) {
    lab.gets(&[stream_start(5, name_of(dialect), id_of(dialect, 7))]);
    lab.dialled().unwrap();
}

/// The peer ended the connection, and its application has not taken all.
fn flush(lab: &mut Lab, dialect: Dialect) {
    let (name, id) = (name_of(dialect), id_of(dialect, 7));
    let end = match dialect {
        Dialect::V3 => connection_reset(5, name, id),
        Dialect::V1 | Dialect::V2 => stream_reset(5, name),
    };
    lab.gets(&[data(5, name, id, b"xyz"), end]);
}

fn events(case: &Case) -> Vec<(String, Event)> {
    let (name, id) = (name_of(case.dialect), id_of(case.dialect, 7));
    let mut messages = Vec::new();
    if case.mode == Mode::Destination {
        messages.extend([
            stream_start(5, name, id),
            stream_start(6, name, id_of(case.dialect, 8)),
            connection_start(5, name, 7),
            connection_start(5, name, 9),
            connection_start(2, name, 9),
        ]);
    } else {
        messages.extend([stream_start(5, name, id), connection_start(5, name, 7)]);
    }
    messages.extend([
        data(5, name, id, b"d"),
        data(5, name, 9, b"d"),
        data(2, name, id, b"d"),
        data(5, name, 0, b"d"),
        connection_reset(5, name, 7),
        connection_reset(5, name, 9),
        stream_reset(5, name),
        stream_reset(2, name),
        message(Type::SessionReset, 0, "", 0),
    ]);
    let mut seen = Vec::new();
    messages.retain(|message| {
        let is_new = !seen.contains(message);
        seen.push(message.clone());
        is_new
    });
    let mut all: Vec<(String, Event)> = messages
        .into_iter()
        .map(|message| (show(&message), Event::Message(message)))
        .collect();
    let local = [
        ("local accept", Event::Accept),
        ("local end", Event::End),
        ("local failure", Event::Break),
        ("dial succeeds", Event::DialDone),
        ("dial fails", Event::DialFailed),
        ("ten minutes", Event::Quiet),
        ("link lost", Event::LinkLost),
    ];
    all.extend(local.map(|(name, event)| (name.to_owned(), event)));
    all
}

fn print_table() -> String {
    let mut out = String::from(HEAD);
    for case in cases() {
        writeln!(out, "\n{} {:?}: {}", case.mode, case.dialect, case.name).unwrap();
        for (name, event) in events(&case) {
            let mut settings = settings(case.mode, &["A"]);
            if case.mode == Mode::Source {
                settings.dialect = Some(case.dialect);
            }
            let mut lab = Lab::running(settings, &["A"]);
            (case.make)(&mut lab, case.dialect);
            lab.said();
            if let Some(outcome) = outcome(&mut lab, event) {
                writeln!(out, "  {name:<24} {outcome}").unwrap();
            }
        }
    }
    out
}

/// `None` where the event cannot happen.
fn outcome(lab: &mut Lab, event: Event) -> Option<String> {
    let before: Vec<u32> = lab.ios();
    let (dials, cancelled) = (lab.dials.len(), lab.cancelled);
    let is_open = before.iter().any(|io| lab.ending(*io).is_none());
    let mut refused = "";
    match event {
        Event::Message(message) => {
            if lab.get(&[message]).is_err() {
                refused = "violation: ";
            }
        }
        Event::Accept if lab.proxy.mode == Mode::Source => {
            if lab.accept(0).is_none() {
                refused = "refused ";
            }
        }
        Event::End if is_open => lab.finishes(before[0]),
        Event::Break if is_open => {
            lab.breaks(before[0]);
            lab.writable(before[0]);
        }
        Event::DialDone if dials > 0 => {
            lab.dialled();
        }
        Event::DialFailed if dials > 0 => lab.dial_failed(),
        Event::Quiet => lab.wait(Duration::from_secs(600)),
        Event::LinkLost => lab.lose(),
        Event::Accept | Event::End | Event::Break | Event::DialDone | Event::DialFailed => {
            return None;
        }
    }
    let mut said: Vec<String> = lab.said().messages.iter().map(show).collect();
    if lab.dials.len() > dials {
        said.push("dial".to_owned());
    }
    let said = match said.is_empty() {
        true => "-".to_owned(),
        false => said.join(", "),
    };
    let mut fates: Vec<&str> = before.iter().map(|io| lab.fate(*io)).collect();
    if lab.cancelled > cancelled {
        fates.push("undialled");
    }
    let stream = lab.proxy.services[0].stream;
    let stream = stream.map_or("-".to_owned(), |stream| stream.to_string());
    Some(format!(
        "{:<44} {:<18} | {stream}, {}",
        format!("{refused}{said}"),
        fates.join(" "),
        lab.proxy.services[0].count(),
    ))
}

fn show(message: &Message) -> String {
    let connection = match message.connection_id {
        0 => "-".to_owned(),
        id => id.to_string(),
    };
    let kind = adit_proto::message::Kind::from_raw(message.r#type);
    format!("{kind} {}/{connection}", message.stream_id)
}
