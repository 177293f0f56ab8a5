//! However what peers say is cut into buffers, the relay does the same.

use super::lab::*;
use super::transcript::{Pieces, Transcript};
use crate::tunnel::error::PeerError;
use crate::tunnel::flow::Flow;
use crate::tunnel::relay::Counters;
use std::collections::BTreeSet;

/// What came of one part, at the source and at the destination.
#[derive(Debug, PartialEq)]
struct Outcome {
    flow: Result<Flow, PeerError>,
    forwarded: [Vec<Message>; 2],
    said: [Said; 2],
    counters: [Counters; 2],
}

fn arrive(transcript: &Transcript, parts: &[Pieces<'_>]) -> Vec<Outcome> {
    let [source, destination] = transcript.offers;
    let mut lab = Lab::connected(transcript.names, source, destination);
    let (sides, mut source_parts) = ([SOURCE, DESTINATION], 0);
    let outcome = |(from, pieces): &Pieces<'_>| {
        source_parts += usize::from(*from == SOURCE);
        if transcript.has_new_source && *from == SOURCE && source_parts == 2 {
            lab.relay.lost(SOURCE);
            lab.connect(SOURCE, source);
        }
        let mut flow = Ok(Flow::Done);
        for piece in pieces {
            flow = lab.receive(*from, piece.to_vec());
            if flow != Ok(Flow::Done) {
                break;
            }
        }
        if let Err(error) = &flow {
            let (code, reason) = (error.close_code(), error.close_reason());
            lab.relay.close(*from, code, reason);
        }
        let mut said = sides.map(|side| lab.said(side));
        if flow != Ok(Flow::Done) {
            lab.relay.lost(*from);
            let other = usize::from(*from == SOURCE);
            said[other].messages.extend(lab.answers(from.other()));
        }
        Outcome {
            flow,
            forwarded: sides.map(|side| lab.forwarded(side)),
            said,
            // An empty payload takes two bytes of a message that had to be written anew, and may take none of one that
            // got its new stream id where it lay.
            counters: sides.map(|side| Counters {
                bytes_forwarded: 0,
                ..*lab.relay.counters(side)
            }),
        }
    };
    parts.iter().map(outcome).collect()
}

#[test]
fn what_comes_of_any_bytes_does_not_depend_on_where_they_are_cut() {
    let (mut refused, mut closed, mut deliveries) = (0, 0, 0);
    let (mut kinds, mut answers, mut offers) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for seed in 0..TRANSCRIPTS {
        let transcript = Transcript::of_both_sides(seed);
        let (outcomes, count) =
            transcript.is_the_same_however_cut(|parts| arrive(&transcript, parts));
        deliveries += count;
        offers.insert(transcript.offers);
        for outcome in outcomes {
            refused += usize::from(outcome.flow.is_err());
            closed += usize::from(matches!(outcome.flow, Ok(Flow::Closed(_))));
            kinds.extend(
                outcome
                    .forwarded
                    .iter()
                    .flatten()
                    .map(|message| message.r#type),
            );
            answers.extend(
                outcome
                    .said
                    .iter()
                    .flat_map(|said| &said.messages)
                    .map(|message| message.r#type),
            );
        }
    }
    // What the transcripts are worth.
    assert_eq!(offers.len(), 9);
    assert!(
        (40..140).contains(&refused) && closed >= 20,
        "{refused} refused, {closed} closed"
    );
    assert!(
        kinds.is_superset(&BTreeSet::from([1, 2, 3, 6, 7])),
        "{kinds:?}"
    );
    assert!(answers.is_superset(&BTreeSet::from([3, 7])), "{answers:?}");
    assert!(deliveries > 100 * TRANSCRIPTS as usize, "{deliveries}");
}

const TRANSCRIPTS: u64 = 240;
