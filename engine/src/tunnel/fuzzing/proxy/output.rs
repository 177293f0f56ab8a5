//! What a service reads of a proxy's output: in order, in its dialect, and each connection's bytes its own.

use adit_proto::framing::{Located, MessageReader};
use adit_proto::ids::Mode;
use adit_proto::message::{Credit, Kind, MessageView};
use adit_proto::websocket::{FrameEvent, FrameReader, Role};
use std::collections::BTreeMap;

/// What a service makes of the output.
pub(super) struct Output {
    mode: Mode,
    frames: FrameReader,
    messages: MessageReader,
    /// Whose bytes a connection of this link carries; a source never uses its ids again.
    owners: BTreeMap<(String, i32, u32), u8>,
    /// The limit that a connection of this link was told last.
    limits: BTreeMap<(String, i32, u32), u64>,
}

impl Output {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            mode,
            frames: FrameReader::new(Role::Server, 16_384),
            messages: MessageReader::new(),
            owners: BTreeMap::new(),
            limits: BTreeMap::new(),
        }
    }

    pub(super) fn restart(&mut self) {
        *self = Self::new(self.mode);
    }

    pub(super) fn read(&mut self, bytes: &mut [u8]) {
        let mut position = 0;
        while let Some(event) = self.frames.next(bytes, &mut position).expect("our frames") {
            let FrameEvent::Data(range) = event else {
                continue;
            };
            let chunk = bytes[range].to_vec();
            let mut at = 0;
            while let Some(located) = self.messages.next(&chunk, &mut at) {
                let message = match located {
                    Located::InChunk(range) => chunk[range].to_vec(),
                    Located::Assembled => self.messages.assembled().to_vec(),
                };
                self.check(&MessageView::parse(&message).expect("our messages"));
            }
        }
    }

    fn check(&mut self, message: &MessageView<'_>) {
        let is_source = self.mode == Mode::Source;
        assert!(!message.has_unknown_fields);
        assert_eq!(message.ignorable, message.kind == Kind::Credit);
        match message.kind {
            Kind::StreamStart => assert!(is_source && message.stream_id > 0),
            Kind::ConnectionStart => {
                assert!(is_source && message.stream_id > 0 && message.connection_id > 0);
            }
            Kind::ConnectionReset => assert!(message.connection_id > 0),
            Kind::StreamReset => assert!(message.stream_id > 0 && message.connection_id == 0),
            Kind::Data => {
                assert!(message.stream_id > 0 && !message.payload.is_empty());
                self.check_payload(message, is_source);
            }
            Kind::Credit => self.check_credit(message, is_source),
            Kind::SessionReset | Kind::ServiceIds | Kind::Unknown(_) => {
                panic!("no proxy sends {:?}", message.kind)
            }
        }
    }

    /// It is announced without an id, and a limit only rises, unless it was lifted. The source that a destination has here
    /// may use an id again.
    fn check_credit(&mut self, message: &MessageView<'_>, is_source: bool) {
        let limit = Credit::limit_of(message).expect("it carries a limit");
        if message.stream_id == 0 {
            return assert!(message.connection_id == 0 && limit == 0);
        }
        assert!(message.connection_id > 0);
        if is_source {
            let last = self.limits.entry(label_of(message)).or_default();
            assert!(limit > *last || *last == u64::MAX, "{limit} after {last}");
            *last = limit;
        }
    }

    /// An application's bytes are all the same, and no two connections have the same application.
    fn check_payload(&mut self, message: &MessageView<'_>, is_source: bool) {
        let first = message.payload[0];
        assert!(message.payload.iter().all(|byte| *byte == first));
        if is_source {
            let owner = *self.owners.entry(label_of(message)).or_insert(first);
            assert_eq!(owner, first, "bytes of another connection");
        }
    }
}

fn label_of(message: &MessageView<'_>) -> (String, i32, u32) {
    (
        message.service_id.to_owned(),
        message.stream_id,
        message.connection_id,
    )
}
