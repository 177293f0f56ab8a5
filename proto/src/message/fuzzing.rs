//! Messages written again from what was read of them.

use prost::Message as _;

use super::{Control, DataHeader, Kind, MessageView, encode_service_ids, replace_stream_id};
use crate::ids::StreamId;
use crate::limits::{LENGTH_PREFIX_SIZE, MAX_MESSAGE_SIZE, MAX_SERVICE_ID_SIZE};
use crate::wire;

/// Reads any bytes, has our writers say the same once more, and holds both readers to it: ours and
/// `prost` find in the new bytes what was in the old ones.
pub fn fuzz_rewrite(bytes: &[u8]) {
    let Ok(view) = MessageView::parse(bytes) else {
        return;
    };
    fuzz_rename(bytes);
    if view.service_id.len() > MAX_SERVICE_ID_SIZE {
        return;
    }
    let expected = wire::Message {
        r#type: view.kind.raw(),
        stream_id: view.stream_id,
        connection_id: view.connection_id,
        service_id: view.service_id.to_owned(),
        ..wire::Message::default()
    };
    match view.kind {
        Kind::Data => rewrite_data(&view, expected),
        Kind::ServiceIds => rewrite_service_ids(&view),
        _ => {
            let control = Control {
                kind: view.kind,
                stream_id: view.stream_id,
                service_id: view.service_id,
                connection_id: view.connection_id,
            };
            let mut written = Vec::new();
            control.encode(&mut written);
            assert_eq!(written.len(), control.size());
            assert_eq!(read(&written), expected);
        }
    }
}

fn rewrite_data(view: &MessageView<'_>, expected: wire::Message) {
    let header = DataHeader {
        stream_id: view.stream_id,
        service_id: view.service_id,
        connection_id: view.connection_id,
    };
    let size = header.size(view.payload.len());
    assert!(size <= DataHeader::MAX_SIZE);
    if size + view.payload.len() > LENGTH_PREFIX_SIZE + MAX_MESSAGE_SIZE {
        return;
    }
    // What was there before must not show through.
    let mut written = vec![0xee; size];
    header.write(view.payload.len(), &mut written);
    written.extend_from_slice(view.payload);
    let expected = wire::Message {
        payload: view.payload.to_vec(),
        ..expected
    };
    assert_eq!(read(&written), expected);
}

fn rewrite_service_ids(view: &MessageView<'_>) {
    let Ok(ids) = view.service_ids() else {
        return;
    };
    let mut written = Vec::new();
    encode_service_ids(ids.iter(), view.ignorable, &mut written);
    let again = read(&written);
    assert_eq!(again.ignorable, view.ignorable);
    let names = again.available_service_ids.iter().map(String::as_str);
    assert!(names.eq(ids.iter().map(|id| id.as_str())));
}

/// Another stream id is all that changes, or nothing does.
fn fuzz_rename(bytes: &[u8]) {
    let before = wire::Message::decode(bytes).expect("the view accepts what prost accepts");
    for id in [1, 127, 128, 300, i32::MAX] {
        let mut renamed = bytes.to_vec();
        let id = StreamId::new(id).expect("it is positive");
        let mut expected = before.clone();
        if replace_stream_id(&mut renamed, id) {
            expected.stream_id = id.get();
        } else {
            assert_eq!(renamed, bytes);
        }
        assert_eq!(renamed.len(), bytes.len());
        let after = wire::Message::decode(&renamed[..]).expect("a number stays a number");
        assert_eq!(after, expected);
    }
}

/// What both readers find behind a length prefix that must be right.
fn read(written: &[u8]) -> wire::Message {
    let (prefix, message) = written.split_at(LENGTH_PREFIX_SIZE);
    assert_eq!(prefix, (message.len() as u16).to_be_bytes());
    super::fuzz_parse(message);
    wire::Message::decode(message).expect("prost reads what we write")
}
