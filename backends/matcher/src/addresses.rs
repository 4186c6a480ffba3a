//! Addresses: hash tables of single addresses, and intervals for the prefixes behind them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use portcullis_core::ir::{ClassId, Id};
use portcullis_core::net::{Cidr, longest_prefix_ranges};

use crate::address_map::{AddressMap, Bits};
use crate::cow_vec::index;

/// From an address to its class.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    v4: AddressMap<u32, 8>,
    v6: AddressMap<u128, 6>,
    nets4: Nets<u32>,
    nets6: Nets<u128>,
    /// Every prefix that is longer than a single address, sorted: what the intervals are built from.
    nets: Arc<[(Cidr, ClassId)]>,
}

impl Addresses {
    pub(crate) fn new() -> Self {
        Self {
            v4: AddressMap::new(),
            v6: AddressMap::new(),
            nets4: Nets::new(),
            nets6: Nets::new(),
            nets: Arc::from([]),
        }
    }

    pub(crate) fn change<'a>(&mut self, changes: impl Iterator<Item = (&'a Cidr, Option<ClassId>)>) {
        let mut nets: Vec<(Cidr, Option<ClassId>)> = Vec::new();
        for (cidr, class) in changes {
            let class_number = class.map(ClassId::number);
            match cidr.address() {
                _ if !cidr.is_host() => nets.push((*cidr, class)),
                IpAddr::V4(address) => self.v4.set(address.to_bits(), class_number),
                IpAddr::V6(address) => self.v6.set(address.to_bits(), class_number),
            }
        }
        if nets.is_empty() {
            return;
        }
        let changed = |cidr: &Cidr| nets.binary_search_by(|(c, _)| c.cmp(cidr)).is_ok();
        let mut all: Vec<_> = self.nets.iter().filter(|(cidr, _)| !changed(cidr)).copied().collect();
        all.extend(nets.iter().filter_map(|(cidr, class)| Some((*cidr, (*class)?))));
        all.sort_unstable_by_key(|(cidr, _)| *cidr);
        let (mut v4, mut v6) = (Points::default(), Points::default());
        for (range, class) in longest_prefix_ranges(all.iter().copied()) {
            match (range.first, range.last) {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.range(first.to_bits(), last.to_bits(), class),
                (IpAddr::V6(first), IpAddr::V6(last)) => v6.range(first.to_bits(), last.to_bits(), class),
                // INVARIANT: a range has one family.
                _ => {}
            }
        }
        (self.nets4, self.nets6) = (Nets::index(v4.end()), Nets::index(v6.end()));
        self.nets = all.into();
    }
}

/// Something that has a class: a number that stands for an IPv4 or an IPv6 address, or any address.
///
/// Always inlined, as the verdict path is short only in one piece.
pub(crate) trait Classed: Copy {
    fn class(self, addresses: &Addresses) -> u32;
}

impl Classed for u32 {
    #[inline(always)]
    fn class(self, addresses: &Addresses) -> u32 {
        match addresses.v4.find(self) {
            Some(class) => class,
            None => addresses.nets4.find(self),
        }
    }
}

impl Classed for u128 {
    #[inline(always)]
    fn class(self, addresses: &Addresses) -> u32 {
        match addresses.v6.find(self) {
            Some(class) => class,
            None => addresses.nets6.find(self),
        }
    }
}

impl Classed for IpAddr {
    fn class(self, addresses: &Addresses) -> u32 {
        match self {
            Self::V4(address) => address.to_bits().class(addresses),
            Self::V6(address) => address.to_bits().class(addresses),
        }
    }
}

/// A number whose distance to another selects a slot.
trait Position: Bits {
    /// Number of bits that the distance to `from` needs; 0 for anything before it.
    fn width(self, from: Self) -> u32;
    /// The distance to `from` in units of two to the power of `shift`; 0 for anything before it.
    fn slot(self, from: Self, shift: u32) -> usize;
}

macro_rules! positions {
    ($($number:ty),*) => {$(
        impl Position for $number {
            fn width(self, from: Self) -> u32 {
                Self::BITS.saturating_sub(self.saturating_sub(from).leading_zeros())
            }
            #[inline]
            fn slot(self, from: Self, shift: u32) -> usize {
                let slot = self.saturating_sub(from).checked_shr(shift).unwrap_or(0);
                usize::try_from(slot).unwrap_or(usize::MAX)
            }
        }
    )*};
}
positions!(u32, u128);

/// Prefixes as disjoint intervals: where each starts, and its class. An index over equal parts of the address space
/// between the first and the last start leaves a handful of them to search.
#[derive(Clone, Debug)]
struct Nets<K> {
    starts: Arc<[K]>,
    classes: Arc<[u32]>,
    /// For each part the number of intervals that start before it; one more entry than parts.
    before: Arc<[u32]>,
    first: K,
    shift: u32,
}

impl<K: Position> Nets<K> {
    fn new() -> Self {
        Self::index(Points::default())
    }

    fn index(Points { starts, classes, .. }: Points<K>) -> Self {
        let first = starts.first().copied().unwrap_or_default();
        let last = starts.last().copied().unwrap_or_default();
        let parts = starts.len().saturating_mul(2).next_power_of_two();
        let shift = last.width(first).saturating_sub(parts.trailing_zeros());
        let mut before = Vec::new();
        for (count, start) in (0u32..).zip(&starts) {
            let part = start.slot(first, shift);
            before.resize(before.len().max(part.saturating_add(1)), count);
        }
        before.push(u32::try_from(starts.len()).unwrap_or(u32::MAX));
        Self { starts: starts.into(), classes: classes.into(), before: before.into(), first, shift }
    }

    /// Not inlined: the addresses of pods are the common case, and their path stays short.
    #[inline(never)]
    fn find(&self, key: K) -> u32 {
        let unknown = ClassId::UNKNOWN.number();
        let parts = self.before.len().saturating_sub(1);
        let part = key.slot(self.first, self.shift).min(parts.saturating_sub(1));
        let bound = |part: usize| self.before.get(part).map_or(self.starts.len(), |count| index(*count));
        let (from, to) = (bound(part), bound(part.saturating_add(1)));
        let near = self.starts.get(from..to).unwrap_or_default();
        let at = from.saturating_add(near.partition_point(|start| *start <= key));
        at.checked_sub(1).and_then(|at| self.classes.get(at)).copied().unwrap_or(unknown)
    }
}

/// Where each interval starts, and its class.
#[derive(Debug, Default)]
struct Points<K> {
    starts: Vec<K>,
    classes: Vec<u32>,
    /// Where the next interval starts unless a range does; `None` before the first and past the last address.
    open: Option<K>,
}

impl<K: Position> Points<K> {
    /// Adds a range that lies behind all others. What is between them has no class.
    fn range(&mut self, first: K, last: K, class: ClassId) {
        if let Some(gap) = self.open.filter(|gap| *gap < first) {
            self.start(gap, ClassId::UNKNOWN);
        }
        self.start(first, class);
        self.open = (last != K::MAX).then(|| last.next());
    }

    fn start(&mut self, at: K, class: ClassId) {
        if self.classes.last().copied().unwrap_or(ClassId::UNKNOWN.number()) != class.number() {
            self.starts.push(at);
            self.classes.push(class.number());
        }
    }

    /// After the last range.
    fn end(mut self) -> Self {
        if let Some(rest) = self.open {
            self.start(rest, ClassId::UNKNOWN);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The class of the last start that is not behind `key`.
    fn scan<K: Position>(starts: &[K], key: K) -> u32 {
        let at = starts.iter().filter(|start| **start <= key).count();
        u32::try_from(at).unwrap()
    }

    fn check<K: Position + core::fmt::Debug>(mut starts: Vec<K>, keys: impl Iterator<Item = K>) {
        starts.sort_unstable();
        starts.dedup();
        let classes = (1..).take(starts.len()).collect();
        let nets = Nets::index(Points { starts: starts.clone(), classes, open: None });
        for key in keys.chain(starts.iter().copied()) {
            assert_eq!(nets.find(key), scan(&starts, key), "{key:?} in {starts:?}");
        }
    }

    #[test]
    fn the_index_finds_what_a_scan_finds() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            u32::try_from(state >> 32).unwrap()
        };
        for count in [0, 1, 2, 3, 7, 64, 500] {
            // Narrow, wide, and with the ends of the address space.
            for mask in [0xff, 0xffff, u32::MAX] {
                let mut starts: Vec<u32> = (0..count).map(|_| 0x0a00_0000 ^ (random() & mask)).collect();
                let keys: Vec<u32> = (0..200).map(|_| 0x0a00_0000 ^ (random() & mask)).collect();
                check(starts.clone(), keys.iter().copied().chain([0, u32::MAX]));
                starts.extend([0, u32::MAX]);
                check(starts.clone(), keys.iter().copied());
                let wide = |n: &u32| u128::from(*n) << 96 | u128::from(n.reverse_bits());
                check(starts.iter().map(wide).collect(), keys.iter().map(wide).chain([0, u128::MAX]));
            }
        }
    }
}
