//! How large requests and answers are.

use crate::drive::Dice;

/// Sizes of one round trip after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Always the same.
    Fixed {
        /// Bytes of a request.
        size: usize,
        /// Bytes of its answer.
        reply: usize,
    },
    /// Somebody types into a shell: a key and its echo in a small packet each; one in twenty is a return key, and a
    /// command answers with up to 4 KiB.
    Typing,
    /// A page, its parts, and now and then something large: requests of 200 to 800 bytes; answers of up to 4 KiB
    /// (six in ten), 32 KiB (three) and 512 KiB (one), even within their class.
    Http,
}

/// One round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// Bytes of the request.
    pub size: usize,
    /// Bytes of the answer.
    pub reply: usize,
}

impl Shape {
    /// Round trips of one size.
    #[must_use]
    pub const fn fixed(size: usize, reply: usize) -> Self {
        Self::Fixed { size, reply }
    }

    /// The next round trip of a connection.
    pub fn next(self, dice: &mut Dice) -> RoundTrip {
        match self {
            Self::Fixed { size, reply } => RoundTrip { size, reply },
            Self::Typing => RoundTrip {
                size: dice.between(36, 53),
                reply: match dice.one_in(20) {
                    true => dice.between(100, 4097),
                    false => dice.between(36, 101),
                },
            },
            Self::Http => RoundTrip {
                size: dice.between(200, 801),
                reply: match dice.between(0, 10) {
                    0..6 => dice.between(300, KIB * 4),
                    6..9 => dice.between(KIB * 4, KIB * 32),
                    _ => dice.between(KIB * 32, KIB * 512),
                },
            },
        }
    }

    /// Whether operations of a connection come by chance, as people's do, rather than evenly.
    #[must_use]
    pub fn is_by_chance(self) -> bool {
        match self {
            Self::Typing => true,
            Self::Fixed { .. } | Self::Http => false,
        }
    }

    /// Round trips after which a connection is ended in order and opened anew; none: it lasts.
    pub fn lifetime(self, dice: &mut Dice) -> Option<usize> {
        match self {
            Self::Http => Some(dice.between(1, 100)),
            Self::Fixed { .. } | Self::Typing => None,
        }
    }
}

const KIB: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use adit_verify::{MESSAGE_SIZE_MAX, MESSAGE_SIZE_MIN};

    #[test]
    fn sizes_are_those_of_messages_and_follow_from_the_seed() {
        for shape in [Shape::Typing, Shape::Http] {
            let draw = || {
                let mut dice = Dice::new(1, 1);
                let trips = std::iter::repeat_with(move || shape.next(&mut dice));
                trips.take(5000).collect::<Vec<_>>()
            };
            let trips = draw();
            assert_eq!(trips, draw());
            for trip in trips {
                for size in [trip.size, trip.reply] {
                    assert!((MESSAGE_SIZE_MIN..=MESSAGE_SIZE_MAX).contains(&size));
                }
            }
        }
    }
}
