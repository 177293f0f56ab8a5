use super::*;

const TRACK: Track = Track {
    seed: 7,
    stream: 3,
    direction: Direction::Up,
};

/// Where the seeded bytes of the long message are: after greeting, question, stop and its own header.
const LONG_BODY: std::ops::Range<usize> = 48 + 64 + 32 + 24..48 + 64 + 32 + 40_000 - 8;

/// A track with every shape of message: none, small, several segments and a part of one, numbers.
fn track(seed: u64, stream: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::greet(seed, stream, &mut out);
    writer.seeded(Kind::Ask, 64, 64, &mut out);
    writer.seeded(Kind::Stop, 0, MESSAGE_SIZE_MIN, &mut out);
    writer.seeded(Kind::Data, 0, 40_000, &mut out);
    writer.numbers(Kind::Pour, 0, [1, 2], &mut out);
    writer.seeded(Kind::Data, 0, 20_000, &mut out);
    writer.end(&mut out);
    out
}

/// The messages of a track that comes in pieces of `piece` bytes.
fn read(bytes: &[u8], piece: usize) -> Result<Vec<Message>, Fault> {
    let mut reader = Reader::awaiting_greeting();
    let mut messages = Vec::new();
    for mut piece in bytes.chunks(piece) {
        while let Some(message) = reader.next(&mut piece)? {
            messages.push(message);
        }
    }
    reader.finish()?;
    assert_eq!(reader.offset(), bytes.len() as u64);
    Ok(messages)
}

#[test]
fn a_track_arrives_in_pieces_of_any_size() {
    let bytes = track(7, 3);
    let whole = read(&bytes, bytes.len()).unwrap();
    assert_eq!(whole.len(), 7);
    assert_eq!(
        whole.iter().map(|message| message.size).sum::<usize>() + 3 * 16,
        bytes.len() + 3 * 16
    );
    for piece in [1, 2, 7, 24, 1000, 16_384, 16_385] {
        assert_eq!(read(&bytes, piece).unwrap(), whole);
    }
}

#[test]
fn any_changed_byte_is_found() {
    let bytes = track(7, 3);
    // Each byte of headers, numbers and hashes, and every 13th of long bodies.
    let is_dense =
        |offset: usize| offset < 400 || offset + 600 > bytes.len() || offset.is_multiple_of(13);
    for offset in (0..bytes.len()).filter(|&offset| is_dense(offset)) {
        let mut wrong = bytes.clone();
        wrong[offset] ^= 0x10;
        let fault = read(&wrong, 5000).expect_err("a changed byte");
        if LONG_BODY.contains(&offset) {
            let is_exact = matches!(fault, Fault::Byte { offset: at, .. } if at == offset as u64);
            assert!(is_exact, "changed at {offset}: {fault}");
        }
    }
}

#[test]
fn lost_doubled_and_moved_pieces_are_found() {
    let bytes = track(7, 3);
    for size in [1, 8, 24, 257, 1024, 4096, 16_384] {
        for offset in (0..bytes.len() - 2 * size).step_by(499) {
            let (before, rest) = bytes.split_at(offset);
            let (piece, after) = rest.split_at(size);
            let next = &after[..size];
            let lost = [before, after].concat();
            let doubled = [before, piece, piece, after].concat();
            let moved = [before, next, piece, &after[size..]].concat();
            for (what, wrong) in [("lost", lost), ("doubled", doubled), ("moved", moved)] {
                // Where the two happen to be the same, nothing has been changed.
                if wrong != bytes {
                    read(&wrong, 4096).expect_err(what);
                }
            }
        }
    }
}

#[test]
fn a_cut_anywhere_is_found() {
    let bytes = track(7, 3);
    for size in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        let cut = Fault::Cut {
            offset: size as u64,
        };
        assert_eq!(read(&bytes[..size], 4096), Err(cut));
    }
}

#[test]
fn nothing_may_follow_the_trailer() {
    let mut bytes = track(7, 3);
    let offset = bytes.len() as u64;
    bytes.push(0);
    assert_eq!(read(&bytes, 4096), Err(Fault::AfterTrailer { offset }));
}

#[test]
fn bytes_of_another_stream_seed_or_direction_are_found() {
    let bytes = track(7, 3);
    for other in [track(8, 3), track(7, 4)] {
        // All but the greeting, which tells of seed and stream.
        let mixed = [&bytes[..48], &other[48..]].concat();
        read(&mixed, 4096).unwrap_err();
    }
    let mut reader = Reader::new(Track {
        direction: Direction::Down,
        ..TRACK
    });
    reader
        .next(&mut bytes.as_slice())
        .expect_err("what went up came back");
}

#[test]
fn a_data_message_that_is_left_out_or_sent_again_is_found() {
    let mut out = Vec::new();
    let mut writer = Writer::greet(7, 3, &mut out);
    let mut starts = vec![out.len()];
    for _ in 0..4 {
        writer.seeded(Kind::Data, 0, 100, &mut out);
        starts.push(out.len());
    }
    writer.end(&mut out);
    let [first, second, third] = [0, 1, 2].map(|index| starts[index]);
    let without = [&out[..first], &out[second..]].concat();
    let twice = [&out[..third], &out[second..]].concat();
    for wrong in [without, twice] {
        let fault = read(&wrong, 4096).unwrap_err();
        assert!(
            matches!(
                fault,
                Fault::Header {
                    field: "sequence",
                    ..
                }
            ),
            "{fault}"
        );
    }
}

#[test]
fn sizes_out_of_bounds_are_refused_before_they_are_waited_for() {
    let mut bytes = Vec::new();
    let mut writer = Writer::greet(7, 3, &mut bytes);
    let hello = bytes.len();
    writer.seeded(Kind::Data, 0, 64, &mut bytes);
    bytes[hello + 1..hello + 4].copy_from_slice(&[0xff; 3]);
    let fault = read(&bytes[..hello + 24], 4096).unwrap_err();
    assert!(matches!(fault, Fault::TooLarge { .. }), "{fault}");
}

/// What a test sends: a greeting with the length, some messages, a trailer.
fn transfer(told: u64, bodies: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::greet_with_length(7, 3, told, &mut out);
    for body in bodies {
        writer.seeded(Kind::Data, 0, body + MESSAGE_SIZE_MIN, &mut out);
    }
    writer.end(&mut out);
    out
}

#[test]
fn a_track_is_held_to_the_length_that_its_greeting_tells() {
    read(&transfer(300, &[100, 200]), 4096).unwrap();
    read(&transfer(0, &[]), 4096).unwrap();
    for (told, bodies) in [(300, &[100][..]), (300, &[301]), (0, &[1])] {
        let came = bodies.iter().sum::<usize>() as u64;
        let fault = read(&transfer(told, bodies), 4096).unwrap_err();
        assert_eq!(fault, Fault::Length { told, came });
    }
}

#[test]
fn a_track_of_another_seed_than_expected_is_refused_at_its_greeting() {
    let bytes = transfer(300, &[300]);
    let mut reader = Reader::awaiting_greeting_of(8);
    let fault = reader.next(&mut &bytes[..48]).unwrap_err();
    let (expected, found) = (8, 7);
    assert_eq!(fault, Fault::Seed { expected, found });
}

/// Whoever reads as much as is wanted reads the track and nothing of what follows.
#[test]
fn what_is_wanted_never_goes_beyond_the_trailer() {
    let track = transfer(50_000, &[40_000, 1, 9_999]);
    for limit in [1, 5, 1000, usize::MAX] {
        let mut reader = Reader::awaiting_greeting_of(7);
        let (mut at, mut seeded) = (0, 0);
        while reader.wanted() > 0 {
            let mut piece = &track[at..at + reader.wanted().min(limit)];
            at += piece.len();
            while !piece.is_empty() {
                reader.next(&mut piece).unwrap();
            }
            assert!((seeded..=50_000).contains(&reader.seeded()));
            seeded = reader.seeded();
        }
        assert_eq!((at, seeded), (track.len(), 50_000));
        assert_eq!(reader.length(), Some(50_000));
        assert!(reader.has_ended());
    }
}
