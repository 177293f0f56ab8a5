//! When round trips should begin.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::load::Load;
use crate::drive::Dice;

/// A round trip that should begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) intended: Instant,
    /// The one place that makes it; `None`: whichever is free.
    pub(super) place: Option<usize>,
}

/// The starts of a run, in the order of their times.
pub(super) enum Starts {
    /// None has a time.
    Closed,
    /// At even distances. Computed from the start each time, so that no error adds up.
    Even {
        first: Instant,
        rate: f64,
        index: u64,
    },
    /// Each place has its own, by chance.
    ByChance {
        mean: Duration,
        dice: Vec<Dice>,
        /// One for each place.
        next: BinaryHeap<Reverse<(Instant, usize)>>,
    },
}

impl Starts {
    /// Of a load that begins at `first`.
    pub(super) fn new(load: &Load, seed: u64, first: Instant) -> Self {
        match load.rate {
            None => Self::Closed,
            Some(rate) if load.is_by_chance() => {
                let mean = Duration::from_secs_f64(load.asks as f64 / rate);
                let places = 0..load.asks;
                let mut dice: Vec<Dice> =
                    places.map(|place| Dice::new(seed, place as u64)).collect();
                let first =
                    |(place, dice): (usize, &mut Dice)| Reverse((first + dice.gap(mean), place));
                let next = dice.iter_mut().enumerate().map(first).collect();
                Self::ByChance { mean, dice, next }
            }
            Some(rate) => Self::Even {
                first,
                rate,
                index: 0,
            },
        }
    }

    /// The next one's time.
    pub(super) fn peek(&self) -> Option<Instant> {
        match self {
            Self::Closed => None,
            Self::Even { first, rate, index } => {
                Some(*first + Duration::from_secs_f64(*index as f64 / rate))
            }
            Self::ByChance { next, .. } => next.peek().map(|Reverse((at, _))| *at),
        }
    }

    /// Takes the next one, if it was meant to begin by `now` and before `end`.
    pub(super) fn take(&mut self, now: Instant, end: Instant) -> Option<Start> {
        let intended = self.peek().filter(|at| *at <= now && *at < end)?;
        let place = match self {
            Self::Closed => None,
            Self::Even { index, .. } => {
                *index += 1;
                None
            }
            Self::ByChance { mean, dice, next } => {
                let Reverse((at, place)) = next.pop()?;
                next.push(Reverse((at + dice[place].gap(*mean), place)));
                Some(place)
            }
        };
        Some(Start { intended, place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Shape;

    fn starts(shape: Shape, rate: f64, first: Instant) -> Starts {
        let load = Load {
            asks: 4,
            ..Load::none(shape, Some(rate))
        };
        Starts::new(&load, 7, first)
    }

    fn all(mut starts: Starts, first: Instant) -> Vec<Start> {
        let end = first + Duration::from_secs(10);
        std::iter::from_fn(|| starts.take(end, end)).collect()
    }

    #[test]
    fn even_starts_belong_to_nobody_and_come_in_time() {
        let first = Instant::now();
        let shape = Shape::fixed(64, 64);
        let mut few = starts(shape, 100.0, first);
        let end = first + Duration::from_secs(10);
        assert!(few.take(first, end).is_some());
        assert_eq!(few.take(first, end), None);
        let all = all(starts(shape, 100.0, first), first);
        assert_eq!(all.len(), 1000);
        assert!(all.iter().all(|it| it.place.is_none()));
    }

    #[test]
    fn chance_repeats_with_its_seed_keeps_the_rate_and_serves_all() {
        let first = Instant::now();
        let draw = || all(starts(Shape::Typing, 400.0, first), first);
        let all = draw();
        assert_eq!(all, draw());
        assert!(all.is_sorted_by_key(|it| it.intended));
        // Expected are 4,000, with a deviation of some 63.
        assert!((3_700..4_300).contains(&all.len()), "{}", all.len());
        for place in 0..4 {
            let of_place = all.iter().filter(|it| it.place == Some(place)).count();
            assert!((800..1_200).contains(&of_place), "{place}: {of_place}");
        }
    }
}
