//! Addresses: hash tables of single addresses, and intervals for the prefixes behind them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis_core::ir::{ClassId, Id};
use portcullis_core::net::{Cidr, IpVersion};

use crate::pages::Pages;

/// From an address to its class.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    v4: Hosts<u32>,
    v6: Hosts<u128>,
    nets4: Nets<u32>,
    nets6: Nets<u128>,
    /// Every prefix that is longer than a single address, sorted: what the intervals are built from.
    nets: Arc<[(Cidr, ClassId)]>,
}

impl Addresses {
    pub(crate) fn new() -> Self {
        Self {
            v4: Hosts::new(),
            v6: Hosts::new(),
            nets4: Nets::new(),
            nets6: Nets::new(),
            nets: Arc::from([]),
        }
    }

    #[inline]
    pub(crate) fn v4(&self, address: Ipv4Addr) -> u32 {
        let key = address.to_bits();
        self.v4.find(key).unwrap_or_else(|| self.nets4.find(key))
    }

    #[inline]
    pub(crate) fn v6(&self, address: Ipv6Addr) -> u32 {
        let key = address.to_bits();
        self.v6.find(key).unwrap_or_else(|| self.nets6.find(key))
    }

    pub(crate) fn any(&self, address: IpAddr) -> u32 {
        match address {
            IpAddr::V4(address) => self.v4(address),
            IpAddr::V6(address) => self.v6(address),
        }
    }

    pub(crate) fn change<'a>(&mut self, changes: impl Iterator<Item = (&'a Cidr, Option<ClassId>)>) {
        let mut nets: Vec<(Cidr, Option<ClassId>)> = Vec::new();
        for (cidr, class) in changes {
            let class_number = class.map(ClassId::number);
            match (cidr.address(), cidr.prefix()) {
                (IpAddr::V4(address), 32) => self.v4.set(address.to_bits(), class_number),
                (IpAddr::V6(address), 128) => self.v6.set(address.to_bits(), class_number),
                _ => nets.push((*cidr, class)),
            }
        }
        if nets.is_empty() {
            return;
        }
        let changed = |cidr: &Cidr| nets.binary_search_by(|(c, _)| c.cmp(cidr)).is_ok();
        let mut all: Vec<_> = self.nets.iter().filter(|(cidr, _)| !changed(cidr)).copied().collect();
        all.extend(nets.iter().filter_map(|(cidr, class)| Some((*cidr, (*class)?))));
        all.sort_unstable_by_key(|(cidr, _)| *cidr);
        let family = |version| all.iter().filter(move |(cidr, _)| cidr.version() == version);
        self.nets4 = Nets::build(family(IpVersion::V4).map(|(cidr, class)| (ends4(cidr), class.number())));
        self.nets6 = Nets::build(family(IpVersion::V6).map(|(cidr, class)| (ends6(cidr), class.number())));
        self.nets = all.into();
    }
}

fn ends4(cidr: &Cidr) -> (u32, u32) {
    match (cidr.address(), cidr.last_address()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (first.to_bits(), last.to_bits()),
        _ => (u32::MAX, 0),
    }
}

fn ends6(cidr: &Cidr) -> (u128, u128) {
    match (cidr.address(), cidr.last_address()) {
        (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits(), last.to_bits()),
        _ => (u128::MAX, 0),
    }
}

/// A number that stands for an address.
trait Bits: Copy + Ord + Default {
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
        let low = u64::try_from(self & u128::from(u64::MAX)).unwrap_or(0);
        let high = u64::try_from(self.wrapping_shr(64)).unwrap_or(0);
        (high.wrapping_mul(SPREAD).rotate_left(32) ^ low).wrapping_mul(SPREAD)
    }
}

const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// Open addressing with linear probing, at most half full.
#[derive(Clone, Debug)]
struct Hosts<K> {
    slots: Pages<Slot<K>, 1024>,
    /// Base 2 logarithm of the number of slots.
    bits: u32,
    len: usize,
}

/// The key and one more than the class; 0 when vacant.
#[derive(Clone, Copy, Debug, Default)]
struct Slot<K>(K, u32);

impl<K: Bits> Hosts<K> {
    fn new() -> Self {
        Self::with_bits(4)
    }

    fn with_bits(bits: u32) -> Self {
        let mut slots = Pages::new();
        slots.reserve(1usize.wrapping_shl(bits));
        Self { slots, bits, len: 0 }
    }

    #[inline]
    fn home(&self, key: K) -> usize {
        usize::try_from(key.hash().wrapping_shr(64u32.wrapping_sub(self.bits))).unwrap_or(0)
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        at.wrapping_add(1) & self.mask()
    }

    #[inline]
    fn mask(&self) -> usize {
        1usize.wrapping_shl(self.bits).wrapping_sub(1)
    }

    #[inline]
    fn find(&self, key: K) -> Option<u32> {
        let mut at = self.home(key);
        loop {
            let Slot(found, value) = *self.slots.get(at)?;
            if found == key || value == 0 {
                return value.checked_sub(1);
            }
            at = self.after(at);
        }
    }

    fn set(&mut self, key: K, class: Option<u32>) {
        match class {
            Some(class) => self.insert(key, class.saturating_add(1)),
            None => self.remove(key),
        }
    }

    /// The slot that holds `key`, or the vacant one where it belongs.
    fn place(&self, key: K) -> usize {
        let mut at = self.home(key);
        while self.slots.get(at).is_some_and(|slot| slot.1 != 0 && slot.0 != key) {
            at = self.after(at);
        }
        at
    }

    fn insert(&mut self, key: K, value: u32) {
        let at = self.place(key);
        let new = self.slots.get(at).is_none_or(|slot| slot.1 == 0);
        if new && self.len.saturating_mul(2) >= self.mask() {
            self.resize(self.bits.saturating_add(1));
            return self.insert(key, value);
        }
        self.slots.set(at, Slot(key, value));
        self.len = self.len.saturating_add(usize::from(new));
    }

    fn remove(&mut self, key: K) {
        let mut hole = self.place(key);
        if self.slots.get(hole).is_none_or(|slot| slot.1 == 0) {
            return;
        }
        self.len = self.len.saturating_sub(1);
        // Entries behind the hole move up when the hole lies between their home and them.
        let mut at = self.after(hole);
        while let Some(slot) = self.slots.get(at).copied().filter(|slot| slot.1 != 0) {
            let behind = |from: usize| at.wrapping_sub(from) & self.mask();
            if behind(self.home(slot.0)) >= behind(hole) {
                self.slots.set(hole, slot);
                hole = at;
            }
            at = self.after(at);
        }
        self.slots.set(hole, Slot::default());
        if self.bits > 4 && self.len.saturating_mul(8) < self.mask() {
            self.resize(self.bits.saturating_sub(1));
        }
    }

    fn resize(&mut self, bits: u32) {
        let mut next = Self::with_bits(bits);
        for slot in self.slots.iter().filter(|slot| slot.1 != 0) {
            let at = next.place(slot.0);
            next.slots.set(at, *slot);
        }
        next.len = self.len;
        *self = next;
    }
}

/// Prefixes as disjoint intervals: where each starts, and its class.
#[derive(Clone, Debug)]
struct Nets<K> {
    starts: Arc<[K]>,
    classes: Arc<[u32]>,
}

impl<K: Bits> Nets<K> {
    fn new() -> Self {
        Self { starts: Arc::from([]), classes: Arc::from([]) }
    }

    fn find(&self, key: K) -> u32 {
        let before = self.starts.partition_point(|start| *start <= key);
        let at = before.checked_sub(1).and_then(|at| self.classes.get(at));
        at.copied().unwrap_or(ClassId::UNKNOWN.number())
    }

    /// From nested prefixes `((first, last), class)`, sorted by first address and then by length.
    fn build(nets: impl Iterator<Item = ((K, K), u32)>) -> Self {
        let mut points: Vec<(K, u32)> = Vec::new();
        let mut emit = |start: K, class: u32| {
            points.pop_if(|(last, _)| *last == start);
            if points.last().map_or(ClassId::UNKNOWN.number(), |(_, class)| *class) != class {
                points.push((start, class));
            }
        };
        let mut open: Vec<(K, u32)> = Vec::new();
        let outer = |open: &[(K, u32)]| open.last().map_or(ClassId::UNKNOWN.number(), |(_, class)| *class);
        for ((first, last), class) in nets {
            while let Some((end, _)) = open.pop_if(|(end, _)| *end < first) {
                emit(end.next(), outer(&open));
            }
            emit(first, class);
            open.push((last, class));
        }
        while let Some((end, _)) = open.pop() {
            if end != K::MAX {
                emit(end.next(), outer(&open));
            }
        }
        let (starts, classes): (Vec<_>, Vec<_>) = points.into_iter().unzip();
        Self { starts: starts.into(), classes: classes.into() }
    }
}
