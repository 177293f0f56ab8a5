//! Lists of things that have something: each call looks at a bounded number.

use super::rules::matches;
use super::{Thing, ThingQuery};
use crate::tunnels::ThingName;

/// Things that one call looks at, some 20 ms: whoever asks for what no thing has must not keep others from the store.
const LOOKED_AT_MAX: usize = if cfg!(test) { 10 } else { 5_000 };

/// One page of things. It may be short, or empty, though another one follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThingPage {
    /// In the order of their names.
    pub things: Vec<Thing>,
    /// The next page is behind this name; `None`: there is no other.
    pub next: Option<ThingName>,
}

/// Looks at things in order until a page is full, or enough were looked at for one call.
pub(crate) struct ThingSearch<'a> {
    query: &'a ThingQuery,
    found: Vec<Thing>,
    looked_at: usize,
    /// What was looked at last, if it is known that more follows.
    last: Option<ThingName>,
}

impl<'a> ThingSearch<'a> {
    pub(crate) fn new(query: &'a ThingQuery) -> Self {
        Self {
            query,
            found: Vec::new(),
            looked_at: 0,
            last: None,
        }
    }

    /// Looks at one more thing. Returns whether to go on.
    pub(crate) fn look(&mut self, thing: Thing) -> bool {
        if self.looked_at == LOOKED_AT_MAX {
            return false;
        }
        let fits = matches(&thing, self.query);
        if fits && self.found.len() == self.query.count.get() {
            self.last = self.found.last().map(|thing| thing.name.clone());
            return false;
        }
        self.looked_at += 1;
        if self.looked_at == LOOKED_AT_MAX {
            self.last = Some(thing.name.clone());
        }
        if fits {
            self.found.push(thing);
        }
        true
    }

    /// What was found. Once [`look`](Self::look) has returned false another page follows.
    pub(crate) fn page(self) -> ThingPage {
        ThingPage {
            things: self.found,
            next: self.last,
        }
    }
}
