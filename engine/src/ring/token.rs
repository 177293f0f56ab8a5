//! The 64-bit name under which the loop watches a descriptor.

use std::fmt;

/// What a readiness event belongs to.
///
/// bits 0..8: op · 8..16: zero · 16..32: slot generation · 32..64: slot index
///
/// The op is the owner's to use; the loop has one kind of slot, and its slots know what they hold
/// themselves. The generation
/// counts the reuses of a slot, so that an event which was taken from the kernel before the slot
/// was freed cannot be mistaken for one of its next tenant. The zero byte is left to backends
/// for names of their own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(u64);

impl Token {
    /// Packs the three parts.
    pub const fn new(op: u8, generation: u16, index: u32) -> Self {
        Token((op as u64) | ((generation as u64) << 16) | ((index as u64) << 32))
    }

    /// What kind of thing the slot is, in the loop's own numbering.
    pub const fn op(self) -> u8 {
        self.0 as u8
    }

    /// How often the slot had been reused when this token was made. Wraps at 65_536.
    pub const fn generation(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The slot's place in its slab.
    pub const fn index(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The packed form, as the kernel carries it.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Reads the packed form back. `None` when the byte that must be zero is not.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        if bits & RESERVED == 0 {
            Some(Token(bits))
        } else {
            None
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Token(op {} slot {} generation {})",
            self.op(),
            self.index(),
            self.generation()
        )
    }
}

/// Bits 8..16.
const RESERVED: u64 = 0xff00;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_sits_in_its_own_bits() {
        assert_eq!(Token::new(0xff, 0, 0).to_bits(), 0x0000_0000_0000_00ff);
        assert_eq!(Token::new(0, 0xffff, 0).to_bits(), 0x0000_0000_ffff_0000);
        assert_eq!(Token::new(0, 0, u32::MAX).to_bits(), 0xffff_ffff_0000_0000);
        assert_eq!(
            Token::new(0x12, 0x3456, 0x789a_bcde).to_bits(),
            0x789a_bcde_3456_0012
        );
    }

    #[test]
    fn parts_come_back_at_every_edge_of_their_range() {
        for op in [0, 1, 0x7f, 0xff] {
            for generation in [0, 1, 0x7fff, 0x8000, 0xffff] {
                for index in [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
                    let token = Token::new(op, generation, index);
                    assert_eq!(token.op(), op);
                    assert_eq!(token.generation(), generation);
                    assert_eq!(token.index(), index);
                    assert_eq!(Token::from_bits(token.to_bits()), Some(token));
                }
            }
        }
    }

    #[test]
    fn a_set_reserved_bit_is_no_token() {
        for bit in 8..16 {
            assert_eq!(Token::from_bits(1 << bit), None, "bit {bit}");
        }
        assert_eq!(
            Token::from_bits(Token::new(9, 9, 9).to_bits() | 0x0100),
            None
        );
    }

    #[test]
    fn tokens_of_two_generations_differ() {
        assert_ne!(Token::new(1, 1, 7), Token::new(1, 2, 7));
    }
}
