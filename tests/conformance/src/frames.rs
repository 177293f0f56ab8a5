//! The frames of one direction, however its bytes are cut, without a judgement: headers in any order and of any sense,
//! so that those that are wrong can pass as they are.

use adit_tests::frames::push_size;

/// Follows one direction.
#[derive(Default)]
pub(crate) struct Frames {
    /// Of the frame that is being read, as far as it has come.
    header: Header,
    /// The header began in earlier bytes.
    is_split: bool,
    /// Bytes of the payload that are still to come, once the header is whole.
    payload: u64,
    mask: Mask,
}

/// The header of a frame, as it came: at most 14 bytes.
#[derive(Default)]
pub(crate) struct Header(Vec<u8>);

/// What comes next in a direction.
pub(crate) enum Piece<'a> {
    /// A frame begins with this header, which came in one piece or did not.
    Begin { header: &'a Header, is_split: bool },
    /// A part of its payload, unmasked.
    Payload(&'a [u8]),
    /// It ends.
    End(&'a Header),
}

/// What a payload is masked with, and how far; nothing without a key.
#[derive(Default)]
pub(crate) struct Mask {
    key: Option<[u8; 4]>,
    at: usize,
}

impl Frames {
    /// Tells `see` of what is in `bytes`, in order. Payloads are unmasked in place.
    pub(crate) fn walk(&mut self, bytes: &mut [u8], mut see: impl FnMut(Piece<'_>)) {
        self.is_split = !self.header.0.is_empty() && self.header.payload_size().is_none();
        let mut at = 0;
        while at < bytes.len() {
            if self.payload > 0 {
                let taken = self.payload.min((bytes.len() - at) as u64) as usize;
                let part = &mut bytes[at..at + taken];
                self.mask.apply(part);
                see(Piece::Payload(part));
                self.payload -= taken as u64;
                at += taken;
            } else {
                self.header.0.push(bytes[at]);
                at += 1;
                let Some(size) = self.header.payload_size() else {
                    continue;
                };
                self.payload = size;
                self.mask = Mask::new(self.header.key());
                see(Piece::Begin {
                    header: &self.header,
                    is_split: std::mem::take(&mut self.is_split),
                });
            }
            if self.payload == 0 {
                see(Piece::End(&self.header));
                self.header.0.clear();
            }
        }
    }
}

impl Header {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn is_final(&self) -> bool {
        self.0[0] & 0x80 != 0
    }

    /// The bits that no extension has claimed.
    pub(crate) fn reserved(&self) -> u8 {
        self.0[0] & 0x70
    }

    pub(crate) fn opcode(&self) -> u8 {
        self.0[0] & 0x0f
    }

    pub(crate) fn is_control(&self) -> bool {
        self.opcode() & 0x08 != 0
    }

    pub(crate) fn key(&self) -> Option<[u8; 4]> {
        let key = &self.0[self.0.len().saturating_sub(4)..];
        (self.0[1] & 0x80 != 0).then(|| key.try_into().expect("a mask has four bytes"))
    }

    /// Size of the payload, once the header is whole.
    pub(crate) fn payload_size(&self) -> Option<u64> {
        let second = *self.0.get(1)?;
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let extra = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.0.len() < 2 + extra + mask {
            return None;
        }
        let field = self.0[2..2 + extra].iter();
        Some(match extra {
            0 => u64::from(second & 0x7f),
            _ => field.fold(0, |size, byte| size << 8 | u64::from(*byte)),
        })
    }

    /// The same header of another payload: no bit of it changes but opcode and size.
    pub(crate) fn with(&self, opcode: u8, size: u64) -> Vec<u8> {
        let mut bytes = vec![self.0[0] & 0xf0 | opcode];
        push_size(self.0[1] & 0x80 != 0, size, &mut bytes);
        bytes.extend(self.key().iter().flatten());
        bytes
    }
}

impl Mask {
    pub(crate) fn new(key: Option<[u8; 4]>) -> Self {
        Self { key, at: 0 }
    }

    /// Masks what comes next, or unmasks it.
    pub(crate) fn apply(&mut self, bytes: &mut [u8]) {
        let Some(key) = self.key else {
            return;
        };
        for byte in bytes {
            *byte ^= key[self.at % 4];
            self.at += 1;
        }
    }
}
