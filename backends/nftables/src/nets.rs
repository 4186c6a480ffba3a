//! Prefixes as ranges that do not overlap: nf_tables has no longest-prefix match.

use alloc::collections::BTreeMap;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis_core::ir::ClassId;
use portcullis_core::net::Cidr;

/// A range of addresses, first and last.
pub(crate) type Range = (IpAddr, IpAddr);

/// The prefixes of one family that are no single addresses, and the ranges where each is the longest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nets {
    prefixes: BTreeMap<Cidr, ClassId>,
    /// Sorted; rebuilt when prefixes change.
    ranges: Vec<(IpAddr, IpAddr, ClassId)>,
}

impl Nets {
    /// Notes the class of a prefix, or that it is gone; the class it had. [`Nets::rebuild`] makes it count.
    pub(crate) fn set(&mut self, net: Cidr, class: Option<ClassId>) -> Option<ClassId> {
        match class {
            Some(class) => self.prefixes.insert(net, class),
            None => self.prefixes.remove(&net),
        }
    }

    /// Computes the ranges anew.
    pub(crate) fn rebuild(&mut self) {
        self.ranges.clear();
        // A prefix comes before those inside it, so a stack of those that are still open is enough.
        let mut sorted: Vec<(Cidr, ClassId)> =
            self.prefixes.iter().map(|(net, class)| (*net, *class)).collect();
        sorted.sort_by_key(|(net, _)| (net.address(), net.prefix()));
        let mut open: Vec<(Cidr, ClassId)> = Vec::new();
        // Where what is not yet in a range begins; `None` past the last address.
        let mut next: Option<IpAddr> = None;
        for (net, class) in sorted {
            while let Some((outer, outer_class)) =
                open.last().copied().filter(|(outer, _)| !outer.covers(&net))
            {
                open.pop();
                next = self.emit(next, outer.last_address(), outer_class);
            }
            if let Some((_, outer_class)) = open.last().copied()
                && let Some(before) = before(net.address())
            {
                self.emit(next, before, outer_class);
            }
            next = Some(net.address());
            open.push((net, class));
        }
        while let Some((outer, class)) = open.pop() {
            next = self.emit(next, outer.last_address(), class);
        }
    }

    /// Adds the range from `first` to `last` unless it is empty; where what comes after it begins.
    fn emit(&mut self, first: Option<IpAddr>, last: IpAddr, class: ClassId) -> Option<IpAddr> {
        match first {
            Some(first) if first <= last => {
                self.ranges.push((first, last, class));
                after(last)
            }
            rest => rest,
        }
    }

    /// The ranges whose class is one that `wanted` names, with neighbours joined.
    pub(crate) fn ranges(&self, wanted: impl Fn(ClassId) -> bool) -> Vec<Range> {
        let mut found: Vec<Range> = Vec::new();
        for (first, last, _) in self.ranges.iter().filter(|(_, _, class)| wanted(*class)) {
            match found.last_mut() {
                Some(joined) if after(joined.1) == Some(*first) => joined.1 = *last,
                _ => found.push((*first, *last)),
            }
        }
        found
    }
}

/// The address after `address`, or `None` for the last.
pub(crate) fn after(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().checked_add(1)?).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().checked_add(1)?).into(),
    })
}

fn before(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().checked_sub(1)?).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().checked_sub(1)?).into(),
    })
}

#[cfg(test)]
mod tests {
    use portcullis_core::ir::Id as _;

    use super::*;

    #[test]
    fn ranges_give_the_class_of_the_longest_prefix() {
        let nets = [
            ("0.0.0.0/0", 1),
            ("10.0.0.0/8", 2),
            ("10.0.0.0/16", 3),
            ("10.1.0.0/16", 2),
            ("10.255.255.0/24", 4),
            ("255.255.255.0/24", 5),
            ("255.255.255.254/31", 6),
            ("0.0.0.0/31", 7),
        ];
        for without in 0..=nets.len() {
            let mut all = Nets::default();
            let mut prefixes: Vec<(Cidr, u32)> = Vec::new();
            for (index, (net, class)) in nets.iter().enumerate() {
                if index != without {
                    prefixes.push((net.parse().unwrap(), *class));
                    all.set(net.parse().unwrap(), Some(ClassId::new(*class)));
                }
            }
            all.rebuild();
            let edges = prefixes.iter().flat_map(|(net, _)| {
                let (first, last) = (net.address(), net.last_address());
                [Some(first), Some(last), before(first), after(last)]
            });
            for address in edges.flatten() {
                let longest = prefixes
                    .iter()
                    .filter(|(net, _)| net.contains(&address))
                    .max_by_key(|(net, _)| net.prefix());
                for class in 1..8 {
                    let ranges = all.ranges(|c| c == ClassId::new(class));
                    let inside =
                        ranges.iter().filter(|(first, last)| (first..=last).contains(&&address)).count();
                    let want = longest.is_some_and(|(_, of)| *of == class);
                    assert_eq!(
                        inside,
                        usize::from(want),
                        "{address} class {class} without {without}: {ranges:?}"
                    );
                }
            }
        }
    }
}
