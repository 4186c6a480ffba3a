//! What entries were before a change.

use alloc::vec::Vec;
use core::borrow::Borrow;

/// The images of one kind of entry: what each was before a change, `None` where it was absent.
///
/// Most commits replace a handful of entries, so a sorted list is cheaper to make, to search and to drop than a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Images<K, T> {
    /// Sorted by key, each key once.
    list: Vec<(K, T)>,
}

impl<K, T> Default for Images<K, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, T> Images<K, T> {
    pub(super) const fn new() -> Self {
        Self { list: Vec::new() }
    }
}

impl<K: Ord, T> Images<K, T> {
    /// The images of a list in any order. Of several images for one key the first is the earliest, and holds.
    pub(super) fn from_replaced(mut list: Vec<(K, T)>) -> Self {
        if !list.is_sorted_by(|(a, _), (b, _)| a < b) {
            list.sort_by(|(a, _), (b, _)| a.cmp(b));
            list.dedup_by(|(later, _), (earlier, _)| later == earlier);
        }
        Self { list }
    }

    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&T>
    where
        K: Borrow<Q>,
    {
        let at = self.list.binary_search_by(|(other, _)| other.borrow().cmp(key)).ok()?;
        self.list.get(at).map(|(_, image)| image)
    }

    /// Adds the images of a later change. `both` says what holds where there are two for one key.
    pub(super) fn append(&mut self, later: Self, mut both: impl FnMut(T, T) -> T) {
        if self.list.is_empty() {
            *self = later;
            return;
        }
        let earlier = core::mem::take(&mut self.list).into_iter();
        let mut merged: Vec<(K, T)> = Vec::with_capacity(earlier.len().saturating_add(later.list.len()));
        let mut later = later.list.into_iter().peekable();
        for (key, image) in earlier {
            while let Some(between) = later.next_if(|(other, _)| *other < key) {
                merged.push(between);
            }
            let image = match later.next_if(|(other, _)| *other == key) {
                Some((_, between)) => both(image, between),
                None => image,
            };
            merged.push((key, image));
        }
        merged.extend(later);
        self.list = merged;
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn the_earliest_image_of_a_key_holds() {
        let mut images = Images::from_replaced(vec![(3, 'a'), (1, 'b'), (3, 'c'), (2, 'd')]);
        assert_eq!(images.list, [(1, 'b'), (2, 'd'), (3, 'a')]);
        images.append(Images::from_replaced(vec![(0, 'e'), (2, 'f'), (4, 'g')]), |earlier, _| earlier);
        assert_eq!(images.list, [(0, 'e'), (1, 'b'), (2, 'd'), (3, 'a'), (4, 'g')]);
        for (key, image) in [(0, Some('e')), (2, Some('d')), (4, Some('g')), (5, None)] {
            assert_eq!(images.get(&key).copied(), image);
        }
        let mut none = Images::new();
        none.append(images.clone(), |earlier, _| earlier);
        assert_eq!(none, images);
        images.append(Images::new(), |earlier, _| earlier);
        assert_eq!(none, images);
    }
}
