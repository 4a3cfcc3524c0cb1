//! The destinations, in a slab with keys that notice when their place was given to another.

use rustc_hash::FxHashMap;
use sinew_types::MeshAddr;

use crate::destination::Destination;

/// Names a destination; stale once the destination is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

/// Destinations by key and address.
#[derive(Debug, Default)]
pub(crate) struct Table {
    places: Vec<(u32, Option<Destination>)>,
    free: Vec<u32>,
    by_addr: FxHashMap<MeshAddr, u32>,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.by_addr.len()
    }

    pub(crate) fn insert(&mut self, destination: Destination) -> Key {
        let addr = destination.origin.addr;
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            u32::try_from(self.places.len() - 1).expect("the table is bounded by twice K, far below 2^32")
        });
        let place = &mut self.places[index as usize];
        place.1 = Some(destination);
        self.by_addr.insert(addr, index);
        Key { index, generation: place.0 }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Destination> {
        let place = self.places.get_mut(key.index as usize).filter(|place| place.0 == key.generation)?;
        let gone = place.1.take()?;
        place.0 = place.0.wrapping_add(1);
        self.free.push(key.index);
        self.by_addr.remove(&gone.origin.addr);
        Some(gone)
    }

    pub(crate) fn find(&self, addr: &MeshAddr) -> Option<Key> {
        let &index = self.by_addr.get(addr)?;
        Some(Key { index, generation: self.places[index as usize].0 })
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Destination> {
        self.places.get(key.index as usize).filter(|place| place.0 == key.generation)?.1.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Destination> {
        self.places.get_mut(key.index as usize).filter(|place| place.0 == key.generation)?.1.as_mut()
    }

    /// All destinations, in an order that depends on the history alone.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &Destination)> {
        (0..).zip(&self.places).filter_map(|(index, (generation, place))| {
            Some((Key { index, generation: *generation }, place.as_ref()?))
        })
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }
}
