//! What comes out of a frame reader, however the stream is cut.

use super::{FrameError, FrameEvent, FrameReader, Role};
use crate::limits::MAX_FRAME_PAYLOAD_SIZE;

/// Reads frames from any bytes, in one piece and byte by byte: the same events must come out.
pub fn fuzz_frames(bytes: &[u8]) {
    for role in [Role::Client, Role::Server] {
        let whole = Transcript::read(role, [bytes.to_vec()]);
        let mut single = bytes.to_vec();
        assert_eq!(whole, Transcript::read(role, single.chunks_mut(1)));
    }
}

/// What a reader made of a stream, however it was cut.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Transcript {
    pub(super) data: Vec<u8>,
    /// Each with the size of `data` when it came.
    pub(super) events: Vec<(usize, FrameEvent)>,
    pub(super) error: Option<FrameError>,
}

impl Transcript {
    pub(super) fn read(role: Role, buffers: impl IntoIterator<Item: AsMut<[u8]>>) -> Self {
        let mut reader = FrameReader::new(role, MAX_FRAME_PAYLOAD_SIZE);
        let mut transcript = Self::default();
        for mut buffer in buffers {
            let buffer = buffer.as_mut();
            let mut position = 0;
            loop {
                match reader.next(buffer, &mut position) {
                    Ok(Some(FrameEvent::Data(range))) => {
                        assert!(!range.is_empty() && range.end == position);
                        transcript.data.extend_from_slice(&buffer[range]);
                    }
                    Ok(Some(event)) => transcript.events.push((transcript.data.len(), event)),
                    Ok(None) => break assert_eq!(position, buffer.len()),
                    Err(error) => {
                        assert_eq!(reader.next(buffer, &mut position), Err(error));
                        transcript.error = Some(error);
                        return transcript;
                    }
                }
            }
        }
        transcript
    }
}
