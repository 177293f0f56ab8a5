//! The table of the wire specification, section 16: bytes that a protobuf library made.

use super::{Control, DataHeader, Kind, MessageView, encode_service_ids};
use crate::framing::{Located, MessageReader};
use crate::ids::{Dialect, ServiceId};

/// Bytes from hex; everything that is no hex digit separates.
fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

/// The only message in these bytes, without its prefix.
fn unframed(bytes: &[u8]) -> &[u8] {
    let mut position = 0;
    let located = MessageReader::new().next(bytes, &mut position);
    assert_eq!(located, Some(Located::InChunk(2..bytes.len())));
    assert_eq!(position, bytes.len());
    &bytes[2..]
}

fn control<'a>(kind: Kind, stream_id: i32, service_id: &'a str, connection_id: u32) -> Control<'a> {
    Control {
        kind,
        stream_id,
        service_id,
        connection_id,
    }
}

/// name, bytes, meaning
fn controls() -> Vec<(&'static str, &'static str, Control<'static>)> {
    use Kind::*;
    vec![
        (
            "STREAM_START V1, stream 1",
            /* prefix, type, stream */ "00 04  08 02  10 01",
            control(StreamStart, 1, "", 0),
        ),
        (
            "STREAM_START V2, stream 1, SSH",
            /* service */ "00 09  08 02  10 01  2a 03 53 53 48",
            control(StreamStart, 1, "SSH", 0),
        ),
        (
            "STREAM_START V3, stream 1, SSH, conn 1",
            /* connection */ "00 0b  08 02  10 01  2a 03 53 53 48  38 01",
            control(StreamStart, 1, "SSH", 1),
        ),
        (
            "CONNECTION_START, conn 2",
            "00 0b  08 06  10 01  2a 03 53 53 48  38 02",
            control(ConnectionStart, 1, "SSH", 2),
        ),
        (
            "CONNECTION_RESET, conn 2",
            "00 0b  08 07  10 01  2a 03 53 53 48  38 02",
            control(ConnectionReset, 1, "SSH", 2),
        ),
        (
            "STREAM_RESET V2/V3",
            "00 09  08 03  10 01  2a 03 53 53 48",
            control(StreamReset, 1, "SSH", 0),
        ),
        (
            "STREAM_RESET V1",
            "00 04  08 03  10 01",
            control(StreamReset, 1, "", 0),
        ),
        (
            "SESSION_RESET",
            "00 02  08 04",
            control(SessionReset, 0, "", 0),
        ),
        (
            "stream 300, conn 128",
            "00 0d  08 02  10 ac 02  2a 03 53 53 48  38 80 01",
            control(StreamStart, 300, "SSH", 128),
        ),
        (
            "STREAM_RESET, stream 2147483647",
            "00 0d  08 03  10 ff ff ff ff 07  2a 03 53 53 48",
            control(StreamReset, i32::MAX, "SSH", 0),
        ),
        (
            "STREAM_RESET, stream -1 (to avoid)",
            "00 0d  08 03  10 ff ff ff ff ff ff ff ff ff 01",
            control(StreamReset, -1, "", 0),
        ),
    ]
}

#[test]
fn control_messages_are_written_and_read() {
    for (name, bytes, message) in controls() {
        let bytes = hex(bytes);
        let mut encoded = vec![0xee];
        message.encode(&mut encoded);
        assert_eq!(encoded[1..], bytes, "{name}");
        assert_eq!(message.size(), bytes.len(), "{name}");

        let view = MessageView::parse(unframed(&bytes)).unwrap();
        let read = control(
            view.kind,
            view.stream_id,
            view.service_id,
            view.connection_id,
        );
        assert_eq!(read, message, "{name}");
        assert!(view.payload.is_empty() && !view.ignorable && !view.has_unknown_fields);
    }
}

#[test]
fn service_ids_are_written_and_read() {
    for (bytes, names) in [
        ("00 02  08 05", &[][..]),
        ("00 07  08 05  32 03 53 53 48", &["SSH"]),
        (
            "00 0e  08 05  32 04 53 53 48 31  32 04 48 54 54 50",
            &["SSH1", "HTTP"],
        ),
    ] {
        let bytes = hex(bytes);
        let ids: Vec<ServiceId> = names.iter().map(|name| name.parse().unwrap()).collect();
        let mut encoded = vec![0xee];
        encode_service_ids(ids.iter(), false, &mut encoded);
        assert_eq!(encoded[1..], bytes);

        let view = MessageView::parse(unframed(&bytes)).unwrap();
        assert_eq!(view.kind, Kind::ServiceIds);
        assert!(view.available_service_ids().eq(names.iter().copied()));
        assert_eq!(view.service_ids(), Ok(ids));
    }
}

#[test]
fn data_is_read_in_every_dialect() {
    for (bytes, dialect, service_id, connection_id) in [
        (
            /* prefix, type, stream, payload */
            "00 0b  08 01  10 01  22 05 68 65 6c 6c 6f",
            Dialect::V1,
            "",
            0,
        ),
        (
            /* service */
            "00 10  08 01  10 01  22 05 68 65 6c 6c 6f  2a 03 53 53 48",
            Dialect::V2,
            "SSH",
            0,
        ),
        (
            /* connection */
            "00 12  08 01  10 01  22 05 68 65 6c 6c 6f  2a 03 53 53 48  38 01",
            Dialect::V3,
            "SSH",
            1,
        ),
    ] {
        let bytes = hex(bytes);
        let view = MessageView::parse(unframed(&bytes)).unwrap();
        assert_eq!(view.kind, Kind::Data);
        assert_eq!(view.stream_id, 1);
        assert_eq!(view.payload, b"hello");
        assert_eq!(view.payload_offset, 6);
        assert_eq!(view.service_id, service_id);
        assert_eq!(view.connection_id, connection_id);
        assert_eq!(view.dialect(), dialect);
    }
}

/// We put the payload last, so our bytes are the table's in another order of fields.
#[test]
fn data_is_written_with_the_payload_last() {
    for (bytes, service_id, connection_id) in [
        ("00 0b  08 01  10 01  22 05", "", 0),
        ("00 10  08 01  10 01  2a 03 53 53 48  22 05", "SSH", 0),
        (
            "00 12  08 01  10 01  2a 03 53 53 48  38 01  22 05",
            "SSH",
            1,
        ),
    ] {
        let header = DataHeader {
            stream_id: 1,
            service_id,
            connection_id,
        };
        let mut written = vec![0; header.size(5)];
        header.write(5, &mut written);
        assert_eq!(written, hex(bytes));
    }
}

#[test]
fn an_unknown_type_survives() {
    let bytes = hex("00 04  08 63  18 01");
    let view = MessageView::parse(unframed(&bytes)).unwrap();
    assert_eq!(view.kind, Kind::Unknown(99));
    assert!(view.ignorable);
}

#[test]
fn the_largest_payload_fits() {
    let mut bytes = hex("fc 0f  08 01  10 01  22 80 f8 03");
    bytes.resize(bytes.len() + 64_512, 0);
    bytes.extend(hex("2a 03 53 53 48  38 01"));
    assert_eq!(bytes.len(), 64_529);
    let view = MessageView::parse(unframed(&bytes)).unwrap();
    assert_eq!(view.payload.len(), 64_512);
    assert_eq!(view.payload_offset, 8);
    assert_eq!((view.service_id, view.connection_id), ("SSH", 1));

    let header = DataHeader {
        stream_id: 1,
        service_id: "SSH",
        connection_id: 1,
    };
    assert_eq!(header.size(64_512) + 64_512, 64_529);
    let mut written = vec![0; header.size(64_512)];
    header.write(64_512, &mut written);
    assert_eq!(
        written,
        hex("fc 0f  08 01  10 01  2a 03 53 53 48  38 01  22 80 f8 03")
    );
}

/// The observed session of the reference source, from our side and from its.
#[test]
fn the_observed_session_is_read() {
    use Kind::*;
    for (bytes, kind, stream_id, connection_id) in [
        ("08 02 10 01 2a 04 53 53 48 31 38 01", StreamStart, 1, 1),
        (
            "08 01 10 01 22 05 68 65 6c 6c 6f 2a 04 53 53 48 31 38 01",
            Data,
            1,
            1,
        ),
        ("08 06 10 01 2a 04 53 53 48 31 38 02", ConnectionStart, 1, 2),
        ("08 07 10 01 2a 04 53 53 48 31 38 02", ConnectionReset, 1, 2),
        ("08 02 10 02 2a 04 53 53 48 31 38 04", StreamStart, 2, 4),
    ] {
        let bytes = hex(bytes);
        let view = MessageView::parse(&bytes).unwrap();
        assert_eq!(
            (view.kind, view.stream_id, view.connection_id),
            (kind, stream_id, connection_id)
        );
        assert_eq!(view.service_id, "SSH1");
    }
}
