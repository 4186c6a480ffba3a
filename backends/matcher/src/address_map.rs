//! Hash tables of single addresses.

use alloc::vec::Vec;

use crate::cow_vec::CowVec;

/// A number that stands for an address.
pub(crate) trait Bits: Copy + Ord + Default {
    const MAX: Self;
    /// The next number; stays at the last.
    fn next(self) -> Self;
    /// Spreads over all 64 bits; the high ones are used, because low ones cluster on the addresses of pods.
    fn hash(self) -> u64;
}

impl Bits for u32 {
    const MAX: Self = Self::MAX;
    fn next(self) -> Self {
        self.saturating_add(1)
    }
    #[inline]
    fn hash(self) -> u64 {
        u64::from(self).wrapping_mul(SPREAD)
    }
}

impl Bits for u128 {
    const MAX: Self = Self::MAX;
    fn next(self) -> Self {
        self.saturating_add(1)
    }
    #[inline]
    fn hash(self) -> u64 {
        let low = u64::try_from(self & Self::from(u64::MAX)).unwrap_or(0);
        let high = u64::try_from(self.wrapping_shr(64)).unwrap_or(0);
        (high.wrapping_mul(SPREAD).rotate_left(32) ^ low).wrapping_mul(SPREAD)
    }
}

const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// From addresses to numbers: buckets of `N` entries, at most four fifths full. An entry that finds its bucket full
/// lies in the next one with room, so a search ends at a bucket that is not full.
#[derive(Clone, Debug)]
pub(crate) struct AddressMap<K, const N: usize> {
    buckets: CowVec<Bucket<K, N>, 64>,
    /// Base 2 logarithm of the number of buckets.
    bits: u32,
    len: usize,
}

/// Entries from the front; behind them zeros. With `N` 8 and 32-bit keys a cache line, all of it compared at once.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Bucket<K, const N: usize> {
    keys: [K; N],
    /// One more than the number that is stored; 0 when vacant.
    values: [u32; N],
}

impl<K: Bits, const N: usize> Default for Bucket<K, N> {
    fn default() -> Self {
        Self { keys: [K::default(); N], values: [0; N] }
    }
}

impl<K: Bits, const N: usize> Bucket<K, N> {
    /// One more than the number of `key`; 0 when it is not here. Without a branch, so that nothing is mispredicted.
    #[inline]
    fn find(&self, key: K) -> u32 {
        let entries = self.keys.iter().zip(&self.values);
        entries.fold(0, |found, (k, value)| found | if *k == key { *value } else { 0 })
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.values.last().is_some_and(|value| *value != 0)
    }

    fn entries(&self) -> impl Iterator<Item = (K, u32)> {
        self.keys.iter().copied().zip(self.values).take_while(|(_, value)| *value != 0)
    }

    fn put(&mut self, at: usize, (key, value): (K, u32)) {
        if let (Some(k), Some(v)) = (self.keys.get_mut(at), self.values.get_mut(at)) {
            (*k, *v) = (key, value);
        }
    }

    fn push(&mut self, entry: (K, u32)) {
        self.put(self.entries().count(), entry);
    }

    /// Fills the place of the entry with the last one.
    fn take(&mut self, at: usize) {
        if let Some((last, entry)) = self.entries().enumerate().last() {
            self.put(at, entry);
            self.put(last, (K::default(), 0));
        }
    }
}

impl<K: Bits, const N: usize> AddressMap<K, N> {
    pub(crate) fn new() -> Self {
        Self::with_bits(1)
    }

    fn with_bits(bits: u32) -> Self {
        let mut buckets = CowVec::new();
        buckets.reserve(1usize.wrapping_shl(bits));
        Self { buckets, bits, len: 0 }
    }

    #[inline]
    fn home(&self, key: K) -> usize {
        usize::try_from(key.hash().wrapping_shr(self.bits.wrapping_neg())).unwrap_or(0)
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        at.wrapping_add(1) & self.mask()
    }

    #[inline]
    fn mask(&self) -> usize {
        1usize.wrapping_shl(self.bits).wrapping_sub(1)
    }

    #[inline(always)]
    pub(crate) fn find(&self, key: K) -> Option<u32> {
        let at = self.home(key);
        let bucket = self.buckets.get(at)?;
        let found = bucket.find(key);
        if found == 0 && bucket.is_full() {
            return self.find_behind(key, at);
        }
        found.checked_sub(1)
    }

    #[inline(never)]
    fn find_behind(&self, key: K, mut at: usize) -> Option<u32> {
        loop {
            at = self.after(at);
            let bucket = self.buckets.get(at)?;
            let found = bucket.find(key);
            if found != 0 || !bucket.is_full() {
                return found.checked_sub(1);
            }
        }
    }

    /// Stores `number`, which must be less than `u32::MAX`, or removes the key.
    pub(crate) fn set(&mut self, key: K, number: Option<u32>) {
        match number {
            Some(number) => self.insert((key, number.saturating_add(1))),
            None => self.remove(key),
        }
    }

    /// Bucket and place of `key`, or of the vacancy where it belongs.
    fn place(&self, key: K) -> (usize, usize, bool) {
        let mut at = self.home(key);
        while let Some(bucket) = self.buckets.get(at) {
            if let Some(place) = bucket.entries().position(|(k, _)| k == key) {
                return (at, place, true);
            }
            if !bucket.is_full() {
                return (at, bucket.entries().count(), false);
            }
            at = self.after(at);
        }
        (at, 0, false)
    }

    fn insert(&mut self, entry: (K, u32)) {
        let (at, place, known) = self.place(entry.0);
        if !known && self.len.saturating_mul(5) >= self.slots().saturating_mul(4) {
            self.resize(self.bits.saturating_add(1));
            return self.insert(entry);
        }
        if let Some(bucket) = self.buckets.entry(at) {
            bucket.put(place, entry);
        }
        self.len = self.len.saturating_add(usize::from(!known));
    }

    fn slots(&self) -> usize {
        N.wrapping_shl(self.bits)
    }

    fn remove(&mut self, key: K) {
        let (mut hole, place, true) = self.place(key) else {
            return;
        };
        self.len = self.len.saturating_sub(1);
        let mut ended = self.take(hole, place);
        // A full bucket has passed entries on: those behind it that may lie in it move up.
        let mut at = hole;
        while !ended {
            at = self.after(at);
            let Some(bucket) = self.buckets.get(at) else {
                break;
            };
            let behind = |from: usize| at.wrapping_sub(from) & self.mask();
            let moves = |(key, _): &(K, u32)| behind(self.home(*key)) >= behind(hole);
            let found = bucket.entries().enumerate().find(|(_, entry)| moves(entry));
            ended = !bucket.is_full();
            if let Some((place, entry)) = found {
                ended = self.take(at, place);
                if let Some(bucket) = self.buckets.entry(hole) {
                    bucket.push(entry);
                }
                hole = at;
            }
        }
        if self.bits > 1 && self.len.saturating_mul(5) < self.slots() {
            self.resize(self.bits.saturating_sub(1));
        }
    }

    /// Removes an entry and says whether its bucket was not full before.
    fn take(&mut self, at: usize, place: usize) -> bool {
        self.buckets.entry(at).is_none_or(|bucket| {
            let had_room = !bucket.is_full();
            bucket.take(place);
            had_room
        })
    }

    fn resize(&mut self, bits: u32) {
        let mut next = Self::with_bits(bits);
        let entries: Vec<_> = self.buckets.iter().flat_map(Bucket::entries).collect();
        for entry in entries {
            let (at, place, _) = next.place(entry.0);
            if let Some(bucket) = next.buckets.entry(at) {
                bucket.put(place, entry);
            }
        }
        next.len = self.len;
        *self = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    /// All keys in few buckets, so that entries are passed on and around the end.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
    struct Clashing(u32);

    impl Bits for Clashing {
        const MAX: Self = Self(u32::MAX);
        fn next(self) -> Self {
            self
        }
        fn hash(self) -> u64 {
            if self.0.is_multiple_of(3) { u64::MAX } else { u64::from(self.0 % 5) << 58 }
        }
    }

    #[test]
    fn clashing_keys_come_and_go() {
        let mut hosts = AddressMap::<Clashing, 4>::new();
        let mut want = BTreeMap::new();
        let mut state = 1u64;
        for step in 0..20_000u32 {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            let key = Clashing(u32::try_from(state >> 33).unwrap() % 200);
            // First it grows, then it shrinks.
            if (state >> 20) % 10 < if step < 10_000 { 7 } else { 2 } {
                hosts.set(key, Some(step));
                want.insert(key, step);
            } else {
                hosts.set(key, None);
                want.remove(&key);
            }
            assert_eq!(hosts.len, want.len());
            if step % 16 == 0 {
                for key in (0..200).map(Clashing) {
                    assert_eq!(hosts.find(key), want.get(&key).copied(), "step {step}, {key:?}");
                }
            }
        }
    }
}
