use super::*;
use crate::limits::MAX_MESSAGE_SIZE;

fn parse(bytes: &[u8]) -> MessageView<'_> {
    fuzz_parse(bytes);
    MessageView::parse(bytes).unwrap()
}

fn refuse(bytes: &[u8]) -> DecodeError {
    fuzz_parse(bytes);
    MessageView::parse(bytes).unwrap_err()
}

#[test]
fn nothing_is_a_message_of_unknown_kind() {
    let view = parse(&[]);
    assert_eq!(view.kind, Kind::Unknown(0));
    assert_eq!((view.payload, view.payload_offset), (&[][..], 0));
}

#[test]
fn fields_come_in_any_order() {
    // aws-c-iot: 1, 2, 7, 3, 4, 5
    let view = parse(b"\x08\x01\x10\x02\x38\x03\x18\x01\x22\x02hi\x2a\x03SSH");
    assert_eq!(view.kind, Kind::Data);
    assert_eq!((view.stream_id, view.connection_id), (2, 3));
    assert!(view.ignorable);
    assert_eq!((view.service_id, view.payload), ("SSH", &b"hi"[..]));
    assert_eq!(view.payload_offset, 10);
    let reversed = parse(b"\x2a\x03SSH\x22\x02hi\x18\x01\x38\x03\x10\x02\x08\x01");
    assert_eq!(reversed.payload_offset, 7);
    assert_eq!(format!("{view:?}"), format!("{reversed:?}"));
}

#[test]
fn the_last_value_of_a_repeated_field_holds() {
    let view = parse(b"\x08\x01\x08\x02\x22\x02hi\x22\x00\x2a\x01A\x2a\x01B\x10\x05\x10\x00");
    assert_eq!(view.kind, Kind::StreamStart);
    assert_eq!((view.payload, view.payload_offset), (&[][..], 10));
    assert_eq!((view.service_id, view.stream_id), ("B", 0));
}

#[test]
fn numbers_are_cut_to_their_width() {
    let view = parse(b"\x08\x81\x80\x80\x80\x10\x10\x82\x80\x80\x80\x10\x38\x83\x80\x80\x80\x10");
    assert_eq!(view.kind, Kind::Data);
    assert_eq!((view.stream_id, view.connection_id), (2, 3));
    // Any bit makes a true.
    assert!(parse(b"\x18\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01").ignorable);
    assert!(!parse(b"\x18\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00").ignorable);
}

#[test]
fn a_key_may_have_needless_bytes() {
    let view = parse(b"\x88\x00\x01\xa2\x80\x00\x02hi");
    assert_eq!((view.kind, view.payload), (Kind::Data, &b"hi"[..]));
    assert!(!view.has_unknown_fields);
}

#[test]
fn unknown_fields_are_passed_over_and_reported() {
    for unknown in [
        &b"\x40\x7f"[..],            // field 8, varint
        b"\x41abcdefgh",             // 64 bit
        b"\x42\x03abc",              // delimited
        b"\x43\x08\x01\x44",         // a group with a field in it
        b"\x43\x43\x44\x4b\x4c\x44", // groups in a group
        b"\x45abcd",                 // 32 bit
        b"\xf8\xff\xff\xff\x0f\x00", // the last field number, 536870911
    ] {
        for bytes in [
            [&b"\x08\x01\x22\x02hi"[..], unknown].concat(),
            [unknown, b"\x08\x01\x22\x02hi"].concat(),
        ] {
            let view = parse(&bytes);
            assert_eq!((view.kind, view.payload), (Kind::Data, &b"hi"[..]));
            assert!(view.has_unknown_fields, "{unknown:x?}");
        }
        for size in 1..unknown.len() {
            refuse(&unknown[..size]);
        }
    }
}

#[test]
fn impossible_keys_are_refused() {
    assert_eq!(refuse(b"\x00\x00"), DecodeError::Key); // field 0
    assert_eq!(refuse(b"\x80\x80\x80\x80\x10\x00"), DecodeError::Key); // 33 bits
    for bad in [
        (b"\x46", 8, 6), // wire types that do not exist
        (b"\x47", 8, 7),
        (b"\x44", 8, 4), // the end of a group that did not start
    ] {
        let (field, wire_type) = (bad.1, bad.2);
        assert_eq!(refuse(bad.0), DecodeError::WireType { field, wire_type });
    }
}

#[test]
fn known_fields_have_one_wire_type_each() {
    for field in 1..=7u32 {
        let own = if [4, 5, 6].contains(&field) { 2 } else { 0 };
        for wire_type in (0..8).filter(|wire_type| *wire_type != own) {
            let mut bytes = vec![(field << 3 | wire_type) as u8];
            bytes.extend([0; 16]);
            assert_eq!(refuse(&bytes), DecodeError::WireType { field, wire_type });
        }
    }
}

#[test]
fn groups_end_as_they_began_and_nest_100_deep() {
    assert_eq!(refuse(b"\x43\x4c"), DecodeError::Group);
    assert_eq!(refuse(b"\x43\x00\x44"), DecodeError::Key);
    let nested = |depth| [vec![0x43; depth], vec![0x44; depth]].concat();
    assert!(parse(&nested(100)).has_unknown_fields);
    assert_eq!(refuse(&nested(101)), DecodeError::Depth);
    assert_eq!(refuse(&vec![0x43; MAX_MESSAGE_SIZE]), DecodeError::Depth);
}

#[test]
fn texts_must_be_utf_8_even_when_replaced_later() {
    assert_eq!(
        refuse(b"\x2a\x01\xff\x2a\x01A"),
        DecodeError::Text { field: 5 }
    );
    assert_eq!(refuse(b"\x32\x02\xc3\x28"), DecodeError::Text { field: 6 });
    assert_eq!(parse("\x2a\x02é".as_bytes()).service_id, "é");
}

#[test]
fn every_cut_through_a_message_is_refused_or_reads_as_prost_reads_it() {
    let whole = b"\x08\x01\x10\xac\x02\x18\x01\x22\x05hello\x2a\x03SSH\x32\x01A\x38\x80\x01";
    let boundaries = [0, 2, 5, 7, 14, 19, 22, 25];
    assert_eq!(whole.len(), 25);
    for size in 0..=whole.len() {
        fuzz_parse(&whole[..size]);
        let parsed = MessageView::parse(&whole[..size]);
        assert_eq!(parsed.is_ok(), boundaries.contains(&size), "{size}");
        assert!(parsed.is_ok() || parsed == Err(DecodeError::Truncated));
    }
}

#[test]
fn a_length_past_the_end_is_refused_before_anything_else() {
    for key in [0x22, 0x2a, 0x32, 0x42] {
        assert_eq!(refuse(&[key, 0x01]), DecodeError::Truncated);
        let mut huge = vec![key];
        huge.extend([0xff; 9]);
        huge.push(0x01);
        assert_eq!(refuse(&huge), DecodeError::Truncated);
    }
}

#[test]
fn service_ids_come_once_each_and_in_order() {
    let view = parse(b"\x32\x01B\x08\x05\x32\x01A\x22\x02xx\x32\x01B\x40\x00\x32\x01C");
    let mut ids = view.available_service_ids();
    assert_eq!(ids.len(), 4);
    assert_eq!(ids.next(), Some("B"));
    assert!(ids.clone().eq(["A", "B", "C"]));
    assert_eq!(ids.len(), 3);
    let ids: Vec<String> = view
        .service_ids()
        .unwrap()
        .iter()
        .map(|id| id.to_string())
        .collect();
    assert_eq!(ids, ["B", "A", "C"]);
    assert_eq!(parse(b"\x08\x05").service_ids(), Ok(vec![]));
}

#[test]
fn service_ids_are_checked() {
    let bad = parse(b"\x32\x01A\x32\x02a.");
    assert!(matches!(bad.service_ids(), Err(InvalidServiceIds::Id(_))));
    assert!(parse(b"\x32\x00").service_ids().is_err());
}

/// Threat T-14: 32,767 empty names in one message.
#[test]
fn a_bomb_of_empty_service_ids_is_counted_and_refused() {
    let bomb: Vec<u8> = [0x32, 0x00].repeat(MAX_MESSAGE_SIZE / 2);
    let view = MessageView::parse(&bomb).unwrap();
    assert_eq!(view.service_ids_count, 32_767);
    assert_eq!(view.available_service_ids().count(), 32_767);
    assert_eq!(
        view.service_ids(),
        Err(InvalidServiceIds::TooMany { count: 32_767 })
    );

    let most: Vec<u8> = [0x32, 0x01, b'A'].repeat(MAX_SERVICE_IDS);
    assert_eq!(parse(&most).service_ids().unwrap().len(), 1);
    let more: Vec<u8> = [0x32, 0x01, b'A'].repeat(MAX_SERVICE_IDS + 1);
    assert!(parse(&more).service_ids().is_err());
}

#[test]
fn debug_shows_no_payload_and_no_control_characters() {
    let view = parse(b"\x08\x01\x22\x06canary\x2a\x04a\x1b\nb");
    let text = format!("{view:?}");
    assert!(
        !text.contains("canary") && text.contains("payload_size: 6"),
        "{text}"
    );
    assert!(!text.contains(char::is_control), "{text}");
}

/// What fuzzing holds the reader to has to notice each field that differs.
#[test]
fn a_message_that_differs_in_one_field_is_not_the_same() {
    use crate::wire::Message;
    use prost::Message as _;

    let same = Message {
        r#type: 1,
        stream_id: 2,
        connection_id: 3,
        ignorable: true,
        service_id: "SSH".to_owned(),
        payload: b"hi".to_vec(),
        available_service_ids: vec!["a".to_owned()],
    };
    let bytes = same.encode_to_vec();
    let view = parse(&bytes);
    assert!(view.is_same_as(&same));
    let changes: [fn(&mut Message); 7] = [
        |it| it.r#type = 2,
        |it| it.stream_id = 3,
        |it| it.connection_id = 2,
        |it| it.ignorable = false,
        |it| it.service_id.clear(),
        |it| it.payload = b"ho".to_vec(),
        |it| it.available_service_ids.push("b".to_owned()),
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut other = same.clone();
        change(&mut other);
        assert!(!view.is_same_as(&other), "field {number}");
    }
}
