//! What the source says about a service.

use super::counters::Reason;
use super::label::{Act, Label};
use super::service::{Bridged, Reach, Service, Shared, Stream, Verdict, same_form};
use crate::tunnel::error::PeerError;
use adit_proto::ids::StreamId;

impl Service {
    pub(super) fn start_stream(
        &mut self,
        label: Label,
        reach: Reach,
    ) -> Result<Verdict, PeerError> {
        self.is_known = true;
        self.has_begun = true;
        match reach {
            // Specification 12, item 9: so that applications fail fast.
            Reach::Absent => {
                self.stream = Stream::Idle;
                let answer = Label::stream_reset(label.stream);
                return Ok(Verdict::Answer(answer, Reason::Absent));
            }
            Reach::Unable => {
                self.stream = Stream::Idle;
                let answer = Label::stream_reset(label.stream);
                return Ok(Verdict::Answer(answer, Reason::Unable));
            }
            Reach::Single | Reach::Many => {}
        }
        match self.stream {
            // Repeated: specification 7.2, the destination ignores it.
            Stream::Shared(Shared { ids, first, .. }) if ids.source == label.stream => {
                same_form(first.is_some(), label.connection)?;
                Ok(Verdict::Forward(Label {
                    stream: ids.destination,
                    ..label
                }))
            }
            Stream::Bridged(Bridged { ids, .. }) if ids.source == label.stream => {
                same_form(true, label.connection)?;
                Ok(Verdict::Drop(Reason::Stale))
            }
            // The destination has no stream that it could ignore the repetition for.
            Stream::Waiting { source } if source == label.stream => {
                same_form(true, label.connection)?;
                Ok(Verdict::Forward(self.open(label, reach)))
            }
            Stream::Bridged(Bridged { ids, .. }) => Ok(Verdict::Restart {
                end: Label::stream_reset(ids.destination),
                start: self.open(label, reach),
            }),
            Stream::Idle | Stream::Waiting { .. } | Stream::Shared(_) => {
                Ok(Verdict::Forward(self.open(label, reach)))
            }
        }
    }

    pub(super) fn start_connection(
        &mut self,
        label: Label,
        reach: Reach,
    ) -> Result<Verdict, PeerError> {
        // What comes behind it is late where it is refused, and no violation.
        self.is_known = true;
        let Some(connection) = label.connection else {
            return Ok(Verdict::Drop(Reason::Stale));
        };
        let refused = Label::connection_reset(label.stream, connection);
        if matches!(reach, Reach::Absent | Reach::Unable) {
            return Ok(Verdict::Answer(refused, Reason::Absent));
        }
        match &mut self.stream {
            Stream::Shared(shared) if shared.ids.source == label.stream => {
                same_form(shared.first.is_some(), label.connection)?;
                shared.has_more = true;
                Ok(Verdict::Forward(Label {
                    stream: shared.ids.destination,
                    ..label
                }))
            }
            Stream::Waiting { source } if *source == label.stream => {
                Ok(Verdict::Forward(self.open(label, reach)))
            }
            // Specification 6.4 (c).
            Stream::Bridged(bridged) if bridged.ids.source == label.stream => {
                Ok(Verdict::Answer(refused, Reason::Busy))
            }
            // A source that keeps its stream over lost links and refusals, and starts it but once (specification 7.3).
            Stream::Idle if !self.has_begun => Ok(Verdict::Forward(self.open(label, reach))),
            // The stream ended while this was on its way, and so does the connection.
            Stream::Idle | Stream::Shared(_) | Stream::Waiting { .. } | Stream::Bridged(_) => {
                Ok(Verdict::Answer(refused, Reason::Stale))
            }
        }
    }

    #[inline]
    pub(super) fn source_data(&mut self, label: Label) -> Result<Verdict, PeerError> {
        match &self.stream {
            Stream::Shared(shared) if shared.ids.source == label.stream => {
                same_form(shared.first.is_some(), label.connection)?;
                Ok(Verdict::Forward(Label {
                    stream: shared.ids.destination,
                    ..label
                }))
            }
            Stream::Bridged(bridged) if bridged.ids.source == label.stream => {
                same_form(true, label.connection)?;
                Ok(match bridged.is(label.connection) {
                    true => {
                        let ids = bridged.ids;
                        Verdict::Forward(Label::new(Act::Data, ids.destination, bridged.told))
                    }
                    false => Verdict::Drop(Reason::Stale),
                })
            }
            Stream::Waiting { source } if *source == label.stream => {
                same_form(true, label.connection)?;
                Ok(Verdict::Drop(Reason::Stale))
            }
            Stream::Idle | Stream::Shared(_) | Stream::Waiting { .. } | Stream::Bridged(_) => {
                Ok(Verdict::Drop(Reason::Stale))
            }
        }
    }

    /// Credit is for connections that both sides see.
    pub(super) fn source_credits(&self, label: Label) -> Verdict {
        match self.stream {
            Stream::Shared(Shared { ids, first, .. })
                if ids.source == label.stream && first.is_some() =>
            {
                Verdict::Forward(Label {
                    stream: ids.destination,
                    ..label
                })
            }
            Stream::Idle | Stream::Shared(_) | Stream::Waiting { .. } | Stream::Bridged(_) => {
                Verdict::Drop(Reason::Stale)
            }
        }
    }

    pub(super) fn source_ends_stream(&mut self, stream: StreamId) -> Verdict {
        match self.stream {
            Stream::Shared(Shared { ids, .. }) | Stream::Bridged(Bridged { ids, .. })
                if ids.source == stream =>
            {
                self.stream = Stream::Idle;
                Verdict::Forward(Label::stream_reset(ids.destination))
            }
            // The destination has none: its last one ended with the connection.
            Stream::Waiting { source } if source == stream => {
                self.stream = Stream::Idle;
                Verdict::Drop(Reason::Stale)
            }
            Stream::Idle | Stream::Shared(_) | Stream::Waiting { .. } | Stream::Bridged(_) => {
                Verdict::Drop(Reason::Stale)
            }
        }
    }

    pub(super) fn source_ends_connection(&mut self, label: Label) -> Result<Verdict, PeerError> {
        match self.stream {
            Stream::Shared(Shared { ids, first, .. }) if ids.source == label.stream => {
                same_form(first.is_some(), label.connection)?;
                Ok(Verdict::Forward(Label {
                    stream: ids.destination,
                    ..label
                }))
            }
            // Specification 6.4 (d).
            Stream::Bridged(bridged)
                if bridged.ids.source == label.stream && bridged.is(label.connection) =>
            {
                self.stream = Stream::Waiting {
                    source: bridged.ids.source,
                };
                Ok(Verdict::Forward(Label::stream_reset(
                    bridged.ids.destination,
                )))
            }
            Stream::Idle | Stream::Shared(_) | Stream::Waiting { .. } | Stream::Bridged(_) => {
                Ok(Verdict::Drop(Reason::Stale))
            }
        }
    }
}
