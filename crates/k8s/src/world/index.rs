//! What belongs to a key, found without a look at anything else.

use alloc::collections::btree_map::{BTreeMap, Entry};
use alloc::collections::{BTreeSet, btree_set};
use core::borrow::Borrow;
use core::option;

use super::usage::Count;

/// Values by key, both in order. Most keys have one value, which takes no storage of its own.
#[derive(Debug)]
pub(super) struct Index<K, V>(BTreeMap<K, Values<V>>);

#[derive(Debug)]
enum Values<V> {
    One(V),
    /// Two and more.
    More(BTreeSet<V>),
}

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, V: Ord> Index<K, V> {
    /// The values of a key.
    pub(super) fn of<Q: Ord + ?Sized>(&self, key: &Q) -> impl Iterator<Item = &V> + use<'_, K, V, Q>
    where
        K: Borrow<Q>,
    {
        self.0.get(key).into_iter().flatten().inspect(|_| super::steps::count())
    }

    /// Whether a key has a value.
    pub(super) fn has<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    /// The keys from one on, in order.
    pub(super) fn keys_from(&self, first: K) -> impl Iterator<Item = &K> {
        self.0.range(first..).map(|(key, _)| key).inspect(|_| super::steps::count())
    }

    /// Notes a value of a key, or takes it away.
    pub(super) fn keep(&mut self, key: K, value: V, count: Count) {
        match (self.0.entry(key), count) {
            (Entry::Vacant(entry), Count::Add) => drop(entry.insert(Values::One(value))),
            (Entry::Vacant(_), Count::Remove) => {}
            (Entry::Occupied(mut entry), Count::Add) => entry.get_mut().add(value),
            (Entry::Occupied(mut entry), Count::Remove) => {
                if entry.get_mut().remove(&value) {
                    entry.remove();
                }
            }
        }
    }
}

impl<V: Ord> Values<V> {
    fn add(&mut self, value: V) {
        match self {
            Self::One(known) if *known == value => {}
            Self::One(_) => {
                let one = core::mem::replace(self, Self::More([value].into()));
                if let (Self::One(known), Self::More(more)) = (one, self) {
                    more.insert(known);
                }
            }
            Self::More(more) => drop(more.insert(value)),
        }
    }

    /// Whether none is left.
    fn remove(&mut self, value: &V) -> bool {
        let last = match self {
            Self::One(known) => return known == value,
            Self::More(more) => {
                more.remove(value);
                if more.len() > 1 { None } else { more.pop_first() }
            }
        };
        if let Some(last) = last {
            *self = Self::One(last);
        }
        false
    }
}

/// The values of a key, in order.
enum Iter<'a, V> {
    One(option::IntoIter<&'a V>),
    More(btree_set::Iter<'a, V>),
}

impl<'a, V> IntoIterator for &'a Values<V> {
    type Item = &'a V;
    type IntoIter = Iter<'a, V>;

    fn into_iter(self) -> Iter<'a, V> {
        match self {
            Values::One(value) => Iter::One(Some(value).into_iter()),
            Values::More(more) => Iter::More(more.iter()),
        }
    }
}

impl<'a, V> Iterator for Iter<'a, V> {
    type Item = &'a V;

    fn next(&mut self) -> Option<&'a V> {
        match self {
            Self::One(values) => values.next(),
            Self::More(values) => values.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn nothing_is_left_of_what_is_taken_away() {
        let mut index = Index::default();
        let of = |index: &Index<u8, u8>| index.of(&1).copied().collect::<Vec<_>>();
        for value in [3, 2, 3, 1] {
            index.keep(1, value, Count::Add);
        }
        index.keep(2, 9, Count::Add);
        assert_eq!(of(&index), [1, 2, 3]);
        index.keep(1, 7, Count::Remove);
        for (value, left) in [(2, &[1, 3][..]), (1, &[3]), (1, &[3]), (3, &[])] {
            index.keep(1, value, Count::Remove);
            assert_eq!(of(&index), left);
        }
        assert!(!index.has(&1) && index.has(&2));
    }
}
