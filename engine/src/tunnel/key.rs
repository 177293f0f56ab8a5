//! Names of connections that outlive them harmlessly.

/// A connection of one proxy: a slot, and which of its successive tenants is meant.
///
/// A key of a connection that is gone finds nothing, even after its slot was given on; after
/// 2^32 tenants of one slot it could be mistaken, at 10,000 connections a second in five days of
/// holding one stale key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Values in slots that are reused, found by [`ConnectionKey`].
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    count: usize,
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            count: 0,
        }
    }
}

impl<T> Slots<T> {
    pub(crate) fn insert(&mut self, value: T) -> ConnectionKey {
        self.count += 1;
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.value = Some(value);
            return ConnectionKey {
                index,
                generation: slot.generation,
            };
        }
        let index =
            u32::try_from(self.slots.len()).expect("connections are bounded far below 2^32");
        self.slots.push(Slot {
            generation: 0,
            value: Some(value),
        });
        ConnectionKey {
            index,
            generation: 0,
        }
    }

    pub(crate) fn remove(&mut self, key: ConnectionKey) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        self.count -= 1;
        Some(value)
    }

    pub(crate) fn find(&self, key: ConnectionKey) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        (slot.generation == key.generation)
            .then_some(slot.value.as_ref())
            .flatten()
    }

    pub(crate) fn find_mut(&mut self, key: ConnectionKey) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        (slot.generation == key.generation)
            .then_some(slot.value.as_mut())
            .flatten()
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnectionKey, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let key = ConnectionKey {
                index: index as u32,
                generation: slot.generation,
            };
            slot.value.as_ref().map(|value| (key, value))
        })
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ConnectionKey, &mut T)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(|(index, slot)| {
                let key = ConnectionKey {
                    index: index as u32,
                    generation: slot.generation,
                };
                slot.value.as_mut().map(|value| (key, value))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slots = Slots::default();
        let first = slots.insert('a');
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert('b');
        assert_eq!(first.index, second.index, "the slot is reused");
        assert_eq!(slots.find(first), None);
        assert_eq!(slots.find_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.find(second), Some(&'b'));
        assert_eq!(slots.count(), 1);
    }
}
