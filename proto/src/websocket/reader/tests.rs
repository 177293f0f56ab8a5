use super::super::transcript::Transcript;
use super::super::{CloseCode, write_close, write_control};
use super::*;
use crate::limits::MAX_FRAME_PAYLOAD_SIZE;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

fn frame(fin: bool, opcode: Opcode, key: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        fin,
        opcode,
        mask: key,
        payload_size: payload.len() as u64,
    };
    let mut bytes = vec![0; header.size()];
    header.write(&mut bytes);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    if let Some(key) = key {
        mask(key, 0, &mut bytes[start..]);
    }
    bytes
}

/// Reads a stream whole, cut in two everywhere, and byte by byte: always the same.
fn read(role: Role, bytes: &[u8]) -> Transcript {
    let whole = Transcript::read(role, [bytes.to_vec()]);
    for cut in 0..=bytes.len() {
        let (front, back) = bytes.split_at(cut);
        let parts = &mut [front.to_vec(), back.to_vec()];
        assert_eq!(Transcript::read(role, parts), whole, "cut at {cut}");
    }
    let mut single: Vec<_> = bytes.iter().map(|byte| vec![*byte]).collect();
    assert_eq!(Transcript::read(role, &mut single), whole, "byte by byte");
    whole
}

fn error(role: Role, bytes: &[u8]) -> FrameError {
    read(role, bytes).error.expect("the stream is refused")
}

/// Wire specification, section 16, "On the WebSocket".
#[test]
fn the_worked_examples_are_read() {
    let data_v3 = hex("00 12 08 01 10 01 22 05 68 65 6c 6c 6f 2a 03 53 53 48 38 01");
    let start_v3 = hex("00 0b 08 02 10 01 2a 03 53 53 48 38 01");

    // header, message
    let unmasked = hex("82 14  00 12 08 01 10 01 22 05 68 65 6c 6c 6f 2a 03 53 53 48 38 01");
    assert_eq!(read(Role::Client, &unmasked).data, data_v3);

    // header, mask, message
    let masked = hex("82 94  37 fa 21 3d
         37 e8 29 3c 27 fb 03 38 5f 9f 4d 51 58 d0 22 6e 64 b2 19 3c");
    assert_eq!(read(Role::Server, &masked).data, data_v3);
    assert_eq!(frame(true, Opcode::Binary, Some(KEY), &data_v3), masked);

    // header, message, message
    let two = hex("82 21  00 0b 08 02 10 01 2a 03 53 53 48 38 01
         00 12 08 01 10 01 22 05 68 65 6c 6c 6f 2a 03 53 53 48 38 01");
    assert_eq!(
        read(Role::Client, &two).data,
        [start_v3, data_v3.clone()].concat()
    );

    // header, part; header, part
    let split = hex("82 07  00 12 08 01 10 01 22  82 0d  05 68 65 6c 6c 6f 2a 03 53 53 48 38 01");
    assert_eq!(read(Role::Client, &split).data, data_v3);
}

/// The reference client cuts a message into FIN=0 frames of 4,096 bytes, and pings in between.
#[test]
fn fragments_with_control_frames_between_are_read() {
    let mut bytes = frame(false, Opcode::Binary, Some(KEY), b"one ");
    write_control(
        Opcode::Ping,
        b"1795446956025",
        Some([1, 2, 3, 4]),
        &mut bytes,
    );
    bytes.extend(frame(false, Opcode::Continuation, Some([9; 4]), b"two "));
    bytes.extend(frame(false, Opcode::Continuation, Some(KEY), b""));
    write_control(Opcode::Pong, b"", Some(KEY), &mut bytes);
    bytes.extend(frame(true, Opcode::Continuation, Some(KEY), b"three "));
    bytes.extend(frame(true, Opcode::Binary, Some(KEY), b"four"));
    let transcript = read(Role::Server, &bytes);
    assert_eq!(transcript.data, b"one two three four");
    assert_eq!(transcript.error, None);
    let [
        (at_ping, FrameEvent::Ping { payload }),
        (at_pong, FrameEvent::Pong { payload: empty }),
    ] = &transcript.events[..]
    else {
        panic!("{:?}", transcript.events);
    };
    assert_eq!((*at_ping, &payload[..]), (4, &b"1795446956025"[..]));
    assert_eq!((*at_pong, &empty[..]), (8, &b""[..]));
}

#[test]
fn data_is_given_out_in_place_as_it_comes() {
    let bytes = frame(true, Opcode::Binary, None, b"hello");
    let mut reader = FrameReader::new(Role::Client, MAX_FRAME_PAYLOAD_SIZE);
    let mut buffer = [&b"xx"[..], &bytes[..4]].concat();
    let mut position = 2;
    let event = reader.next(&mut buffer, &mut position);
    assert_eq!(event, Ok(Some(FrameEvent::Data(4..6))));
    assert_eq!(reader.next(&mut buffer, &mut position), Ok(None));
    let mut buffer = bytes[4..].to_vec();
    let event = reader.next(&mut buffer, &mut 0);
    assert_eq!(event, Ok(Some(FrameEvent::Data(0..3))));
    assert_eq!(buffer, b"llo");
}

#[test]
fn a_close_ends_everything() {
    let mut bytes = Vec::new();
    write_close(CloseCode::Normal, "tunnel closed", Some(KEY), &mut bytes);
    bytes.extend(frame(true, Opcode::Binary, Some(KEY), b"late"));
    bytes.extend([0xff; 20]);
    let transcript = read(Role::Server, &bytes);
    assert!(transcript.data.is_empty() && transcript.error.is_none());
    let [(0, FrameEvent::Close { code, reason })] = &transcript.events[..] else {
        panic!("{:?}", transcript.events);
    };
    assert_eq!((*code, &reason[..]), (Some(1000), &b"tunnel closed"[..]));
}

#[test]
fn broken_closes_are_refused() {
    let close = |payload: &[u8]| frame(true, Opcode::Close, None, payload);
    assert_eq!(
        error(Role::Client, &close(b"\x03")),
        FrameError::CloseTruncated
    );
    assert_eq!(
        error(Role::Client, &close(b"\x03\xed")),
        FrameError::CloseCode(1005)
    );
    assert_eq!(
        error(Role::Client, &close(b"\x03\xe8\xff")),
        FrameError::CloseReason
    );
    assert!(read(Role::Client, &close(b"")).error.is_none());
}

#[test]
fn each_role_insists_on_its_masking() {
    for opcode in [Opcode::Binary, Opcode::Ping, Opcode::Close] {
        for payload in [&b""[..], b"\x03\xe8"] {
            let masked = frame(true, opcode, Some(KEY), payload);
            let plain = frame(true, opcode, None, payload);
            assert_eq!(error(Role::Client, &masked), FrameError::Masked);
            assert_eq!(error(Role::Server, &plain), FrameError::Unmasked);
            assert_eq!(read(Role::Server, &masked).error, None);
            assert_eq!(read(Role::Client, &plain).error, None);
        }
    }
}

#[test]
fn messages_are_continued_and_not_interleaved() {
    let open = frame(false, Opcode::Binary, None, b"a");
    let more = frame(true, Opcode::Continuation, None, b"b");
    let whole = frame(true, Opcode::Binary, None, b"c");
    assert_eq!(
        error(Role::Client, &more),
        FrameError::UnexpectedContinuation
    );
    let twice = [&open[..], &whole].concat();
    assert_eq!(
        error(Role::Client, &twice),
        FrameError::ExpectedContinuation
    );
    let ended = [&open[..], &more, &more].concat();
    assert_eq!(
        error(Role::Client, &ended),
        FrameError::UnexpectedContinuation
    );
    let good = [&open[..], &more, &whole].concat();
    assert_eq!(read(Role::Client, &good).data, b"abc");
}

#[test]
fn text_is_refused_whole_or_in_part() {
    for fin in [true, false] {
        let text = frame(fin, Opcode::Text, Some(KEY), b"hello");
        assert_eq!(error(Role::Server, &text), FrameError::Text);
    }
    assert_eq!(FrameError::Text.close_code().code(), 1003);
}

#[test]
fn the_header_rules_hold_in_the_reader() {
    for (bytes, expected) in [
        (&[0xc2, 0x00][..], FrameError::ReservedBits),
        (&[0x83, 0x00], FrameError::ReservedOpcode(3)),
        (&[0x82, 0x7e, 0x00, 0x7d], FrameError::LengthNotMinimal(125)),
        (
            &[0x82, 0x7f, 0xff, 0, 0, 0, 0, 0, 0, 0],
            FrameError::LengthTopBit,
        ),
        (&[0x89, 0x7e, 0x00, 0x7e], FrameError::ControlTooBig),
        (&[0x09, 0x00], FrameError::ControlFragmented),
    ] {
        assert_eq!(error(Role::Client, bytes), expected);
        assert_eq!(expected.close_code().code(), 1002);
    }
}

#[test]
fn the_limit_is_on_a_frames_payload() {
    let (size, max) = (131_077, 131_076);
    let over = frame(true, Opcode::Binary, None, &vec![0; 131_077]);
    let whole = Transcript::read(Role::Client, [over[..10].to_vec()]);
    assert_eq!(whole.error, Some(FrameError::TooBig { size, max }));
    assert_eq!(
        whole.error.map(|error| error.close_code().code()),
        Some(1009)
    );

    let mut bytes = frame(false, Opcode::Binary, None, &vec![1; 131_076]);
    bytes.extend(frame(true, Opcode::Continuation, None, &vec![2; 131_076]));
    let whole = Transcript::read(Role::Client, [bytes]);
    assert_eq!((whole.data.len(), whole.error), (2 * 131_076, None));
}

/// Threat T-12: a claim of 2^63 - 1 bytes.
#[test]
fn a_huge_claim_is_refused_at_its_header() {
    let huge = [0x82, 0x7f, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let size = u64::MAX >> 1;
    assert_eq!(
        error(Role::Client, &huge),
        FrameError::TooBig { size, max: 131_076 }
    );
    let mut reader = FrameReader::new(Role::Client, usize::MAX);
    assert_eq!(reader.next(&mut huge.to_vec(), &mut 0), Ok(None));
}

#[test]
fn an_error_is_final_until_reset() {
    let mut reader = FrameReader::new(Role::Client, 10);
    let mut bad = vec![0x81, 0x00];
    for _ in 0..3 {
        assert_eq!(reader.next(&mut bad, &mut 0), Err(FrameError::Text));
    }
    let mut good = frame(true, Opcode::Binary, None, b"hello");
    assert_eq!(reader.next(&mut good, &mut 0), Err(FrameError::Text));
    reader.reset();
    let event = reader.next(&mut good, &mut 0);
    assert_eq!(event, Ok(Some(FrameEvent::Data(2..7))));
}

#[test]
fn reset_forgets_a_half_read_header_and_a_fragmented_message() {
    let mut reader = FrameReader::new(Role::Client, 10);
    let mut open = frame(false, Opcode::Binary, None, b"a");
    open.extend([0x82, 0x7e, 0x00]);
    let mut position = 0;
    while let Ok(Some(_)) = reader.next(&mut open, &mut position) {}
    reader.reset();
    let mut good = frame(true, Opcode::Binary, None, b"hello");
    let event = reader.next(&mut good, &mut 0);
    assert_eq!(event, Ok(Some(FrameEvent::Data(2..7))));
}

/// Threat T-13: a flood of empty fragments and pings holds no memory between calls.
#[test]
fn floods_leave_nothing_behind() {
    let mut bytes = frame(false, Opcode::Binary, None, b"");
    for _ in 0..10_000 {
        bytes.extend(frame(false, Opcode::Continuation, None, b""));
        bytes.extend([0x89, 0x00]);
    }
    let whole = Transcript::read(Role::Client, [bytes]);
    assert_eq!((whole.events.len(), whole.error), (10_000, None));
    assert!(size_of::<FrameReader>() <= 96);
    assert!(size_of::<FrameEvent>() <= 32);
}

/// Go's `coder/websocket` ends each message that it streams with an empty fragment.
#[test]
fn an_empty_end_of_a_message_that_carried_bytes_is_not_idle() {
    let idle = |parts: &[Vec<u8>]| {
        let mut reader = FrameReader::new(Role::Client, MAX_FRAME_PAYLOAD_SIZE);
        for part in parts {
            let (mut buffer, mut position) = (part.clone(), 0);
            while reader.next(&mut buffer, &mut position).unwrap().is_some() {}
        }
        reader.take_idle_frames()
    };
    let binary = |fin, payload: &[u8]| frame(fin, Opcode::Binary, None, payload);
    let more = |fin, payload: &[u8]| frame(fin, Opcode::Continuation, None, payload);
    let message = [binary(false, b"a"), more(true, b"")];
    assert_eq!(idle(&message), 0);
    assert_eq!(idle(&[message.concat(), message.concat()]), 0);
    assert_eq!(
        idle(&[binary(false, b""), more(false, b"a"), more(true, b"")]),
        1
    );
    assert_eq!(
        idle(&[binary(false, b"a"), more(false, b""), more(true, b"")]),
        1
    );
    // One that carried none, also after one that did.
    assert_eq!(idle(&[binary(false, b""), more(true, b"")]), 2);
    assert_eq!(
        idle(&[message.concat(), binary(false, b""), more(true, b"")]),
        2
    );
    assert_eq!(idle(&[binary(true, b"a"), binary(true, b"")]), 1);
}
