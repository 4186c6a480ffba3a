//! From longest-prefix match to ranges that do not overlap.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::Cidr;

/// The addresses from `first` to `last`, both included, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    /// The lowest address.
    pub first: IpAddr,
    /// The highest address.
    pub last: IpAddr,
}

/// Where each prefix is the longest one: disjoint ranges in ascending order, IPv4 first, each with the value of its
/// prefix. Addresses that no prefix contains are in no range. Neighbouring ranges may carry equal values.
///
/// `prefixes` may be nested; where one is given twice, the later value counts.
pub fn longest_prefix_ranges<T: Copy>(
    prefixes: impl IntoIterator<Item = (Cidr, T)>,
) -> Vec<(AddressRange, T)> {
    let mut sorted: Vec<(Cidr, T)> = prefixes.into_iter().collect();
    // A prefix comes before those inside it, so a stack of those that are still open is enough.
    sorted.sort_by_key(|(net, _)| *net);
    let mut ranges = Ranges { done: Vec::with_capacity(sorted.len()), next: None };
    let mut open: Vec<(Cidr, T)> = Vec::new();
    for (net, value) in sorted {
        while let Some((outer, value)) = open.pop_if(|(outer, _)| !outer.covers(&net)) {
            ranges.emit(outer.last_address(), value);
        }
        if let (Some((_, value)), Some(before)) = (open.last(), address_before(net.address())) {
            ranges.emit(before, *value);
        }
        ranges.next = Some(net.address());
        open.push((net, value));
    }
    while let Some((outer, value)) = open.pop() {
        ranges.emit(outer.last_address(), value);
    }
    ranges.done
}

/// The address after `address`, or `None` for the last of its family.
#[must_use]
pub fn address_after(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().checked_add(1)?).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().checked_add(1)?).into(),
    })
}

fn address_before(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().checked_sub(1)?).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().checked_sub(1)?).into(),
    })
}

struct Ranges<T> {
    done: Vec<(AddressRange, T)>,
    /// The first address that is in no range yet; `None` past the last.
    next: Option<IpAddr>,
}

impl<T> Ranges<T> {
    /// Adds the range up to `last` unless it is empty.
    fn emit(&mut self, last: IpAddr, value: T) {
        if let Some(first) = self.next.filter(|first| *first <= last) {
            self.done.push((AddressRange { first, last }, value));
            self.next = address_after(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    /// Every edge of every prefix, and the addresses beside it.
    fn edges(prefixes: &[(Cidr, u32)]) -> Vec<IpAddr> {
        let of = |(net, _): &(Cidr, u32)| {
            let (first, last) = (net.address(), net.last_address());
            [Some(first), Some(last), address_before(first), address_after(last)]
        };
        prefixes.iter().flat_map(of).flatten().collect()
    }

    fn check(prefixes: &[(Cidr, u32)]) {
        let ranges = longest_prefix_ranges(prefixes.iter().copied());
        assert!(ranges.iter().all(|(range, _)| range.first <= range.last), "{ranges:?}");
        assert!(ranges.is_sorted_by(|(a, _), (b, _)| a.last < b.first), "{ranges:?}");
        for address in edges(prefixes) {
            let of_prefix = prefixes
                .iter()
                .filter(|(net, _)| net.contains(&address))
                .max_by_key(|(net, _)| net.prefix())
                .map(|(_, value)| *value);
            let of_range = ranges
                .iter()
                .find(|(range, _)| (range.first..=range.last).contains(&address))
                .map(|(_, value)| *value);
            assert_eq!(of_range, of_prefix, "{address} of {prefixes:?}: {ranges:?}");
        }
    }

    #[test]
    fn ranges_give_the_value_of_the_longest_prefix() {
        let all: Vec<(Cidr, u32)> = [
            ("0.0.0.0/0", 1),
            ("10.0.0.0/8", 2),
            ("10.0.0.0/16", 3),
            ("10.1.0.0/16", 2),
            ("10.255.255.0/24", 4),
            ("255.255.255.0/24", 5),
            ("255.255.255.254/31", 6),
            ("0.0.0.0/31", 7),
            ("10.0.0.0/32", 8),
            ("::/0", 9),
            ("ff00::/8", 10),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", 11),
            ("::/128", 12),
        ]
        .map(|(net, value)| (net.parse().unwrap(), value))
        .into();
        // Every subset of eight neighbours, in both orders.
        for window in all.windows(8) {
            for chosen in 0..=u8::MAX {
                let mut some: Vec<(Cidr, u32)> = window.to_vec();
                let mut bit = 0;
                some.retain(|_| {
                    bit += 1;
                    chosen & (1 << (bit - 1)) != 0
                });
                check(&some);
                some.reverse();
                check(&some);
            }
        }
        check(&all);
    }

    #[test]
    fn without_prefixes_there_are_no_ranges() {
        assert_eq!(longest_prefix_ranges::<u32>([]), vec![]);
    }
}
