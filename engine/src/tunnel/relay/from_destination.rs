//! What the destination says about a service.

use super::counters::Reason;
use super::label::{Act, Label};
use super::service::{Bridged, Service, Shared, Stream, Verdict, same_form};
use crate::tunnel::error::PeerError;
use adit_proto::ids::StreamId;

impl Service {
    #[inline]
    pub(super) fn destination_data(&mut self, label: Label) -> Result<Verdict, PeerError> {
        match &mut self.stream {
            Stream::Shared(shared) if shared.ids.destination == label.stream => {
                let ids = shared.ids;
                if shared.answers.is_none() {
                    return self.first_answer(label);
                }
                same_form(shared.answers == Some(true), label.connection)?;
                let connection = shared.first.and(label.connection);
                Ok(Verdict::Forward(Label::new(
                    Act::Data,
                    ids.source,
                    connection,
                )))
            }
            Stream::Bridged(bridged) if bridged.ids.destination == label.stream => {
                let is_named = *bridged.answers.get_or_insert(label.connection.is_some());
                same_form(is_named, label.connection)?;
                let connection = Some(bridged.connection);
                Ok(Verdict::Forward(Label::new(
                    Act::Data,
                    bridged.ids.source,
                    connection,
                )))
            }
            Stream::Idle | Stream::Shared(_) | Stream::Waiting { .. } | Stream::Bridged(_) => {
                Ok(Verdict::Drop(Reason::Stale))
            }
        }
    }

    /// The destination's first DATA in a shared stream shows whether it names connections.
    fn first_answer(&mut self, label: Label) -> Result<Verdict, PeerError> {
        let Stream::Shared(shared) = &mut self.stream else {
            return Ok(Verdict::Drop(Reason::Stale));
        };
        let ids = shared.ids;
        let is_named = label.connection.is_some();
        shared.answers = Some(is_named);
        match shared.first {
            // Either none of them names connections, or the destination takes an absent id for
            // 1 (specification 5.3) and says so; the source must not see it.
            None => Ok(Verdict::Forward(Label::new(Act::Data, ids.source, None))),
            Some(_) if is_named => Ok(Verdict::Forward(Label::new(
                Act::Data,
                ids.source,
                label.connection,
            ))),
            // It speaks V1 or V2, whatever its handshake said; with one connection that is no harm.
            Some(connection) if !shared.has_more => {
                self.is_single = true;
                self.stream = Stream::Bridged(Bridged {
                    ids,
                    connection,
                    told: Some(connection),
                    answers: Some(false),
                });
                Ok(Verdict::Forward(Label::new(
                    Act::Data,
                    ids.source,
                    Some(connection),
                )))
            }
            // Nobody can tell which connection the bytes are for. The next stream will be bridged.
            Some(_) => {
                self.is_single = true;
                self.stream = Stream::Idle;
                Ok(Verdict::EndBoth {
                    forward: Label::stream_reset(ids.source),
                    answer: Label::stream_reset(ids.destination),
                })
            }
        }
    }

    /// Credit is for connections that both sides see.
    pub(super) fn destination_credits(&self, label: Label) -> Verdict {
        match self.stream {
            Stream::Shared(Shared { ids, first, .. })
                if ids.destination == label.stream && first.is_some() =>
            {
                Verdict::Forward(Label {
                    stream: ids.source,
                    ..label
                })
            }
            Stream::Idle | Stream::Shared(_) | Stream::Waiting { .. } | Stream::Bridged(_) => {
                Verdict::Drop(Reason::Stale)
            }
        }
    }

    pub(super) fn destination_ends_stream(&mut self, stream: StreamId) -> Verdict {
        match self.stream {
            Stream::Shared(Shared { ids, .. }) if ids.destination == stream => {
                self.stream = Stream::Idle;
                Verdict::Forward(Label::stream_reset(ids.source))
            }
            // Specification 6.4 (d).
            Stream::Bridged(bridged) if bridged.ids.destination == stream => {
                self.stream = Stream::Waiting {
                    source: bridged.ids.source,
                };
                Verdict::Forward(Label::connection_reset(
                    bridged.ids.source,
                    bridged.connection,
                ))
            }
            Stream::Idle | Stream::Shared(_) | Stream::Waiting { .. } | Stream::Bridged(_) => {
                Verdict::Drop(Reason::Stale)
            }
        }
    }

    pub(super) fn destination_ends_connection(
        &mut self,
        label: Label,
    ) -> Result<Verdict, PeerError> {
        match &mut self.stream {
            Stream::Shared(shared) if shared.ids.destination == label.stream => {
                let ids = shared.ids;
                let is_named = *shared.answers.get_or_insert(true);
                same_form(is_named, label.connection)?;
                if shared.first.is_some() {
                    return Ok(Verdict::Forward(Label {
                        stream: ids.source,
                        ..label
                    }));
                }
                // The source's stream is its one connection, so both are over.
                self.stream = Stream::Idle;
                Ok(Verdict::EndBoth {
                    forward: Label::stream_reset(ids.source),
                    answer: Label::stream_reset(ids.destination),
                })
            }
            Stream::Bridged(bridged) if bridged.ids.destination == label.stream => {
                let bridged = *bridged;
                same_form(bridged.answers.unwrap_or(true), label.connection)?;
                self.stream = Stream::Waiting {
                    source: bridged.ids.source,
                };
                Ok(Verdict::EndBoth {
                    forward: Label::connection_reset(bridged.ids.source, bridged.connection),
                    answer: Label::stream_reset(bridged.ids.destination),
                })
            }
            Stream::Idle | Stream::Shared(_) | Stream::Waiting { .. } | Stream::Bridged(_) => {
                Ok(Verdict::Drop(Reason::Stale))
            }
        }
    }
}
