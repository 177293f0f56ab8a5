//! What a source offers.

use crate::profile::Shape;

/// Connections by what they are for, and when round trips begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Connections for round trips, one at a time on each.
    pub asks: usize,
    /// Instead of `asks`: at most so many connections at once, each for one round trip.
    pub churns: usize,
    /// Connections with bulk upwards.
    pub pushes: usize,
    /// Connections with bulk downwards.
    pub pulls: usize,
    /// Whether the first of `pulls` stops reading for a time. One link carries all connections, so what comes for that
    /// one is put aside, up to a bound, and then the connection is reset: as a proxy does whose application stalls.
    pub stalls: bool,
    /// Connections that are held, and proved by a round trip each when the time is up.
    pub holds: usize,
    /// Sizes of round trips.
    pub shape: Shape,
    /// Round trips a second, on schedule (open model); `None`: each after the last (closed).
    pub rate: Option<f64>,
}

impl Load {
    /// No connection yet.
    #[must_use]
    pub const fn none(shape: Shape, rate: Option<f64>) -> Self {
        Self {
            asks: 0,
            churns: 0,
            pushes: 0,
            pulls: 0,
            stalls: false,
            holds: 0,
            shape,
            rate,
        }
    }

    /// Whether each connection has starts of its own, by chance.
    pub(super) fn is_by_chance(&self) -> bool {
        self.rate.is_some() && self.shape.is_by_chance()
    }
}
