//! Addresses: hash tables of single addresses, and intervals for the prefixes behind them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use portcullis_core::ir::{ClassId, Id};
use portcullis_core::net::{Cidr, IpVersion};

use crate::hosts::{Bits, Hosts};

/// From an address to its class.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    v4: Hosts<u32, 8>,
    v6: Hosts<u128, 6>,
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

    /// Not inlined: the addresses of pods are the common case, and their path stays short.
    #[inline(never)]
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
