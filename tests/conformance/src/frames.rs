//! Where frames begin and end in a stream, without reading them: headers in any order and of any
//! sense, so that those that are wrong pass as they are.

/// Follows the headers of one direction, however its bytes are cut.
#[derive(Default)]
pub(crate) struct Headers {
    /// The header of the frame that is being read, as far as it has come.
    header: Vec<u8>,
    /// Bytes of the payload that are still to come, once the header is whole.
    payload: u64,
}

/// What one step of the walk saw.
pub(crate) enum Step {
    /// The first byte of a frame, here.
    First(usize),
    /// A frame with this first byte ended before this place.
    End(u8, usize),
}

impl Headers {
    /// Walks over `bytes` and tells `see` of what is there, in order; the bytes can be changed there.
    pub(crate) fn walk(&mut self, bytes: &mut [u8], mut see: impl FnMut(&mut [u8], Step)) {
        let mut at = 0;
        while at < bytes.len() {
            if self.payload > 0 {
                let taken = self.payload.min((bytes.len() - at) as u64);
                self.payload -= taken;
                at += taken as usize;
            } else {
                if self.header.is_empty() {
                    see(bytes, Step::First(at));
                }
                self.header.push(bytes[at]);
                at += 1;
                let Some(size) = self.payload_size() else {
                    continue;
                };
                self.payload = size;
            }
            if self.payload == 0 {
                see(bytes, Step::End(self.header[0], at));
                self.header.clear();
            }
        }
    }

    /// Size of the payload once the header is whole.
    fn payload_size(&self) -> Option<u64> {
        let second = *self.header.get(1)?;
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let extra = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.header.len() < 2 + extra + mask {
            return None;
        }
        let field = self.header[2..2 + extra].iter();
        Some(match extra {
            0 => u64::from(second & 0x7f),
            _ => field.fold(0, |size, byte| size << 8 | u64::from(*byte)),
        })
    }
}
