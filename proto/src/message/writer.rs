//! Writing fields into a slice whose size was computed before.

use std::mem;

use super::{Kind, key};

/// Fills a slice from the front.
///
/// Always inlined, here and in [`Route`]: by how many callers there are elsewhere, the compiler would
/// inline it or not, and a control message take a fifth more.
pub(super) struct Writer<'a> {
    rest: &'a mut [u8],
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut [u8]) -> Self {
        Self { rest: out }
    }

    /// Whether the slice was filled exactly.
    pub(super) fn is_full(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline(always)]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let (head, rest) = mem::take(&mut self.rest).split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        self.rest = rest;
    }

    #[inline(always)]
    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes(&[byte]);
    }

    #[inline(always)]
    pub(super) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    #[inline(always)]
    pub(super) fn number(&mut self, key: u32, value: u64) {
        self.varint(u64::from(key));
        self.varint(value);
    }

    #[inline(always)]
    pub(super) fn text(&mut self, key: u32, text: &str) {
        self.number(key, text.len() as u64);
        self.bytes(text.as_bytes());
    }
}

/// Bytes a number takes: seven bits each.
#[inline(always)]
pub(super) const fn varint_size(value: u64) -> usize {
    (64 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// The fields that say where a message belongs. Zero and empty ones are left out, as both known
/// clients do (wire specification, section 4).
#[derive(Clone, Copy)]
pub(super) struct Route<'a> {
    pub(super) kind: Kind,
    pub(super) stream_id: i32,
    pub(super) service_id: &'a str,
    pub(super) connection_id: u32,
}

impl Route<'_> {
    #[inline(always)]
    pub(super) fn size(&self) -> usize {
        let mut size = 1 + varint_size(widen(self.kind.raw()));
        if self.stream_id != 0 {
            size += 1 + varint_size(widen(self.stream_id));
        }
        if !self.service_id.is_empty() {
            let text_size = self.service_id.len();
            size += 1 + varint_size(text_size as u64) + text_size;
        }
        if self.connection_id != 0 {
            size += 1 + varint_size(u64::from(self.connection_id));
        }
        size
    }

    #[inline(always)]
    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer.number(key::TYPE, widen(self.kind.raw()));
        if self.stream_id != 0 {
            writer.number(key::STREAM_ID, widen(self.stream_id));
        }
        if !self.service_id.is_empty() {
            writer.text(key::SERVICE_ID, self.service_id);
        }
        if self.connection_id != 0 {
            writer.number(key::CONNECTION_ID, u64::from(self.connection_id));
        }
    }
}

/// Protobuf writes a negative int32 as the same number in 64 bits: ten bytes.
const fn widen(value: i32) -> u64 {
    value as i64 as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_size_is_what_varint_writes() {
        for shift in 0..64 {
            for value in [(1u64 << shift) - 1, 1 << shift, (1 << shift) + 1] {
                let mut out = vec![0; varint_size(value)];
                let mut writer = Writer::new(&mut out);
                writer.varint(value);
                assert!(writer.is_full(), "{value}");
            }
        }
        assert_eq!(varint_size(u64::MAX), 10);
        assert_eq!(varint_size(0), 1);
    }
}
