//! However what a service says is cut into buffers, source and destination do the same.

use super::lab::*;
use crate::tunnel::error::PeerError;
use crate::tunnel::flow::Flow;
use crate::tunnel::proxy::ProxySettings;
use crate::tunnel::relay::tests::transcript::{Pieces, Transcript};
use adit_proto::ids::{Dialect, Mode, Subprotocol};
use std::collections::BTreeSet;

/// What came of one part, and of what applications did then.
#[derive(Debug, PartialEq)]
struct Outcome {
    flow: Result<Flow, PeerError>,
    said: Said,
    /// What each application read, and how its socket has ended.
    read: Vec<(u32, Vec<u8>, Option<Ended>)>,
    /// Dials asked for and given up, mismatches.
    events: [usize; 3],
    /// Connections, and bytes that wait for applications.
    sizes: [usize; 2],
    counters: [u64; 9],
}

fn arrive(mode: Mode, transcript: &Transcript, parts: &[Pieces<'_>]) -> Vec<Outcome> {
    let dialect = match (transcript.offers[0], transcript.names.len()) {
        (Subprotocol::V3, _) | (Subprotocol::V1, 2..) => None,
        (Subprotocol::V2, _) => Some(Dialect::V2),
        (Subprotocol::V1, _) => Some(Dialect::V1),
    };
    let mut lab = Lab::new(ProxySettings {
        dialect: dialect.filter(|_| mode == Mode::Source),
        ..settings(mode, transcript.names)
    });
    // Some of it has to wait.
    lab.room = 24;
    lab.link_up();
    if transcript.seed & 1 == 1 {
        lab.proxy.use_credit();
    }
    let mut outcomes = Vec::new();
    for (turn, (_, pieces)) in parts.iter().enumerate() {
        let mut flow = Ok(Flow::Done);
        for piece in pieces {
            flow = lab.input(piece.to_vec());
            if flow != Ok(Flow::Done) {
                break;
            }
        }
        let is_over = flow != Ok(Flow::Done);
        outcomes.push(outcome(&mut lab, turn, flow));
        if is_over {
            break;
        }
    }
    lab.lose();
    outcomes.push(outcome(&mut lab, parts.len(), Ok(Flow::Done)));
    outcomes
}

/// Lets the applications do what is their turn.
fn outcome(lab: &mut Lab, turn: usize, flow: Result<Flow, PeerError>) -> Outcome {
    let dials = lab.dials.len();
    for dial in 0..dials {
        if (turn + dial) % 4 == 3 {
            lab.dial_failed();
        } else {
            lab.dialled();
        }
    }
    for service in lab.listens.clone() {
        let clients = if turn == 0 { 2 } else { 1 };
        for _ in 0..clients {
            lab.accept(service);
        }
    }
    let mut read = Vec::new();
    for io in lab.ios() {
        let bytes = lab.reads(io, 16);
        if lab.ending(io).is_none() {
            lab.writes(io, b"hi");
        }
        read.push((io, bytes, lab.ending(io)));
    }
    let said = lab.said();
    let counters = lab.proxy.counters();
    Outcome {
        flow,
        said,
        read,
        events: [dials, lab.cancelled, lab.mismatches],
        sizes: [lab.proxy.connection_count(), lab.proxy.queued_size()],
        // Not how many bytes were put together, or moved within their buffer.
        counters: [
            counters.connections,
            counters.bytes_sent,
            counters.bytes_received,
            counters.messages_sent,
            counters.messages_received,
            counters.stale,
            counters.refused,
            counters.cut,
            counters.bytes_queued,
        ],
    }
}

/// Checks all transcripts to one end, and that they are worth it. `kinds`: what it has said in answer.
fn check(mode: Mode, kinds: &[i32]) {
    let (mut refused, mut closed, mut read, mut deliveries) = (0, 0, 0, 0);
    let mut said = BTreeSet::new();
    for seed in 0..TRANSCRIPTS {
        let transcript = Transcript::to_proxy(seed, mode);
        let (outcomes, count) =
            transcript.is_the_same_however_cut(|parts| arrive(mode, &transcript, parts));
        deliveries += count;
        for outcome in outcomes {
            refused += usize::from(outcome.flow.is_err());
            closed += usize::from(matches!(outcome.flow, Ok(Flow::Closed(_))));
            read += outcome
                .read
                .iter()
                .map(|(_, bytes, _)| bytes.len())
                .sum::<usize>();
            said.extend(outcome.said.messages.iter().map(|message| message.r#type));
        }
    }
    assert!(
        (30..140).contains(&refused) && closed >= 20,
        "{refused} refused, {closed} closed"
    );
    assert!(read >= 2_000, "{read} bytes read by applications");
    assert!(kinds.iter().all(|kind| said.contains(kind)), "{said:?}");
    assert!(deliveries >= 100 * TRANSCRIPTS as usize, "{deliveries}");
}

#[test]
fn a_source_does_the_same_wherever_its_bytes_are_cut() {
    check(Mode::Source, &[1, 2, 6]);
}

#[test]
fn a_destination_does_the_same_wherever_its_bytes_are_cut() {
    check(Mode::Destination, &[1, 3, 7]);
}

const TRANSCRIPTS: u64 = 240;
