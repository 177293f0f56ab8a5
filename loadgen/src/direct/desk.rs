//! Who makes which round trip: places with one connection each, and starts that wait for one.

use std::collections::VecDeque;
use std::time::Instant;

use super::load::Load;
use super::starts::Start;
use crate::drive::Dice;
use crate::profile::{RoundTrip, Shape};

/// Intended starts that wait for a free connection; further ones are skipped, and counted as that.
pub(super) const LATE_MAX: usize = 100_000;

/// The places of a run.
pub(super) struct Desk {
    places: Vec<Place>,
    shape: Shape,
    /// Whether a start belongs to one place, rather than to whichever is free.
    is_owned: bool,
    /// Places that can begin, the one that waits longest first; where starts are owned, only those whose own start waits.
    free: VecDeque<usize>,
    /// Starts that belong to nobody.
    late: VecDeque<Instant>,
    /// Starts that wait, owned or not. 0 <= late_count <= LATE_MAX
    late_count: usize,
}

struct Place {
    dice: Dice,
    /// `None`: it has to be opened.
    connection: Option<u32>,
    is_free: bool,
    /// Starts of its own.
    late: VecDeque<Instant>,
    /// Round trips until its connection is ended in order; `None`: it lasts.
    left: Option<usize>,
}

impl Desk {
    pub(super) fn new(load: &Load, seed: u64) -> Self {
        let count = load.asks + load.churns;
        let place = |index: usize| {
            // Other draws than those of the times, which are a place's own, too.
            let mut dice = Dice::new(seed, (count + index) as u64);
            let left = load.shape.lifetime(&mut dice);
            Place {
                dice,
                connection: None,
                is_free: false,
                late: VecDeque::new(),
                left,
            }
        };
        Self {
            places: (0..count).map(place).collect(),
            shape: load.shape,
            is_owned: load.is_by_chance(),
            free: VecDeque::new(),
            late: VecDeque::new(),
            late_count: 0,
        }
    }

    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// A round trip should begin. False: too many wait, and it is none.
    pub(super) fn want(&mut self, start: Start) -> bool {
        if self.late_count == LATE_MAX {
            return false;
        }
        self.late_count += 1;
        match start.place.filter(|_| self.is_owned) {
            None => self.late.push_back(start.intended),
            Some(index) => {
                let place = &mut self.places[index];
                place.late.push_back(start.intended);
                if place.is_free && place.late.len() == 1 {
                    self.free.push_back(index);
                }
            }
        }
        true
    }

    /// A place has nothing to do.
    pub(super) fn free(&mut self, index: usize) {
        let place = &mut self.places[index];
        if std::mem::replace(&mut place.is_free, true) {
            return;
        }
        if !self.is_owned || !place.late.is_empty() {
            self.free.push_back(index);
        }
    }

    /// The start that waits longest and can be made, and the place that makes it.
    pub(super) fn next(&mut self) -> Option<(usize, Instant)> {
        let &index = self.free.front()?;
        let place = &mut self.places[index];
        let late = match self.is_owned {
            true => &mut place.late,
            false => &mut self.late,
        };
        let intended = late.pop_front()?;
        place.is_free = false;
        self.free.pop_front();
        self.late_count -= 1;
        Some((index, intended))
    }

    /// What a place does now, and whether its connection ends in order after it.
    pub(super) fn draw(&mut self, index: usize) -> (RoundTrip, bool) {
        let place = &mut self.places[index];
        let trip = self.shape.next(&mut place.dice);
        let Some(left) = &mut place.left else {
            return (trip, false);
        };
        *left -= 1;
        let is_last = *left == 0;
        if is_last {
            place.left = self.shape.lifetime(&mut place.dice);
        }
        (trip, is_last)
    }

    pub(super) fn connection(&self, index: usize) -> Option<u32> {
        self.places[index].connection
    }

    pub(super) fn connect(&mut self, index: usize, connection: Option<u32>) {
        self.places[index].connection = connection;
    }

    /// Connections of the places that have nothing to do.
    pub(super) fn idle(&self) -> Vec<u32> {
        let free = self.places.iter().filter(|place| place.is_free);
        free.filter_map(|place| place.connection).collect()
    }

    /// Gives up what waits; how much that was.
    pub(super) fn skip(&mut self) -> usize {
        self.late.clear();
        self.places.iter_mut().for_each(|place| place.late.clear());
        if self.is_owned {
            // Free is on the list who has a start that waits.
            self.free.clear();
        }
        std::mem::take(&mut self.late_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk(shape: Shape) -> Desk {
        let load = Load {
            asks: 2,
            ..Load::none(shape, Some(10.0))
        };
        let mut desk = Desk::new(&load, 7);
        (0..2).for_each(|place| desk.free(place));
        desk
    }

    fn start(place: Option<usize>) -> Start {
        Start {
            intended: Instant::now(),
            place,
        }
    }

    const EVEN: Shape = Shape::fixed(64, 64);

    fn next(desk: &mut Desk) -> Option<usize> {
        desk.next().map(|(place, _)| place)
    }

    #[test]
    fn whoever_is_free_takes_a_start_of_nobody() {
        let mut desk = desk(EVEN);
        for _ in 0..3 {
            assert!(desk.want(start(None)));
        }
        assert_eq!(next(&mut desk), Some(0));
        assert_eq!(next(&mut desk), Some(1));
        assert_eq!(next(&mut desk), None);
        desk.free(1);
        assert_eq!(next(&mut desk), Some(1));
        assert_eq!(desk.skip(), 0);
    }

    /// A person's next key does not come out of somebody else's keyboard.
    #[test]
    fn starts_of_a_place_wait_for_it_in_their_order() {
        let mut desk = desk(Shape::Typing);
        let starts = [Some(1), Some(1), Some(0)].map(start);
        assert!(starts.iter().all(|it| desk.want(*it)));
        assert_eq!(desk.next(), Some((1, starts[0].intended)));
        assert_eq!(next(&mut desk), Some(0));
        desk.free(0);
        assert_eq!(next(&mut desk), None);
        desk.free(1);
        assert_eq!(desk.next(), Some((1, starts[1].intended)));
        desk.free(1);
        assert!(desk.want(start(Some(1))));
        assert_eq!(desk.skip(), 1);
        assert_eq!(next(&mut desk), None);
    }

    #[test]
    fn what_waits_has_a_bound() {
        for place in [None, Some(1)] {
            let mut desk = desk(Shape::Typing);
            (0..2).for_each(|place| assert!(desk.want(start(Some(place)))));
            while desk.next().is_some() {}
            let shape = match place {
                None => EVEN,
                Some(_) => Shape::Typing,
            };
            desk.is_owned = shape.is_by_chance();
            for _ in 0..LATE_MAX {
                assert!(desk.want(start(place)));
            }
            assert!(!desk.want(start(place)));
            assert_eq!(desk.skip(), LATE_MAX);
            assert!(desk.want(start(place)));
        }
    }

    #[test]
    fn a_connection_of_the_web_ends_after_some_round_trips_and_others_last() {
        let ends = |shape| {
            let mut desk = desk(shape);
            (0..1000).filter(|_| desk.draw(0).1).count()
        };
        assert!(ends(Shape::Http) >= 10);
        assert_eq!(ends(EVEN) + ends(Shape::Typing), 0);
    }
}
