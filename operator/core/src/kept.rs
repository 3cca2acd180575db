//! What is dear to make and asked for again: kept by its key, up to a bound, what was used last the longest.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Values by key, of which the least recently used give way when all together weigh more than the bound.
pub(crate) struct Kept<K, V> {
    /// The bound, in bytes as the makers of values estimate them.
    most: usize,
    inner: Mutex<Inner<K, V>>,
}

struct Inner<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// The keys by when they were used last.
    order: BTreeMap<u64, K>,
    weight: usize,
    clock: u64,
}

struct Entry<V> {
    value: V,
    weight: usize,
    used: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> Kept<K, V> {
    pub(crate) fn new(most: usize) -> Self {
        let inner = Inner { entries: HashMap::new(), order: BTreeMap::new(), weight: 0, clock: 0 };
        Self { most, inner: Mutex::new(inner) }
    }

    /// The value of a key; made by `make`, with its weight, where it is not kept. What cannot be made is not kept.
    pub(crate) fn get_or<Q, E>(&self, key: &Q, make: impl FnOnce() -> Result<(V, usize), E>) -> Result<V, E>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
    {
        if let Some(value) = self.lock().get(key) {
            return Ok(value);
        }
        // Others go on meanwhile; where two make the same at once, one of them is kept.
        let (value, weight) = make()?;
        self.lock().insert(key.to_owned(), value.clone(), weight, self.most);
        Ok(value)
    }

    #[cfg(test)]
    fn weight(&self) -> usize {
        self.lock().weight
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner<K, V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Inner<K, V> {
    fn get<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        let Inner { entries, order, weight: _, clock } = self;
        let entry = entries.get_mut(key)?;
        *clock += 1;
        if let Some(key) = order.remove(&entry.used) {
            order.insert(*clock, key);
        }
        entry.used = *clock;
        Some(entry.value.clone())
    }

    fn insert(&mut self, key: K, value: V, weight: usize, most: usize) {
        if weight > most {
            return;
        }
        self.clock += 1;
        self.order.insert(self.clock, key.clone());
        if let Some(before) = self.entries.insert(key, Entry { value, weight, used: self.clock }) {
            self.order.remove(&before.used);
            self.weight -= before.weight;
        }
        self.weight += weight;
        while self.weight > most {
            let Some((_, oldest)) = self.order.pop_first() else { return };
            if let Some(gone) = self.entries.remove(&oldest) {
                self.weight -= gone.weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn what_was_used_last_stays_and_the_bound_holds() {
        let kept: Kept<String, usize> = Kept::new(100);
        let made = Cell::new(0);
        let get = |key: &str, weight: usize| {
            kept.get_or(key, || {
                made.set(made.get() + 1);
                Ok::<_, ()>((key.len(), weight))
            })
        };
        for key in ["a", "bb", "a", "bb"] {
            assert_eq!(get(key, 40), Ok(key.len()));
        }
        assert_eq!((made.get(), kept.weight()), (2, 80));
        get("a", 40).unwrap();
        get("ccc", 40).unwrap();
        assert_eq!(kept.weight(), 80, "the least recently used gave way");
        get("a", 40).unwrap();
        assert_eq!(made.get(), 3);
        get("bb", 40).unwrap();
        assert_eq!(made.get(), 4, "it was made anew");
        get("dddd", 101).unwrap();
        assert!(kept.weight() <= 100, "what is beyond the bound alone is not kept");
        assert_eq!(kept.get_or("e", || Err("no")), Err("no"));
        assert_eq!(kept.get_or("e", || Ok::<_, ()>((5, 1))), Ok(5), "a failure is not kept");
    }
}
