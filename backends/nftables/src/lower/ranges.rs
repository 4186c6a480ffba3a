//! Prefixes as ranges that do not overlap: nf_tables has no longest-prefix match.

use alloc::collections::BTreeMap;
use core::net::IpAddr;

use portcullis_core::ir::ClassId;
use portcullis_core::net::{AddressRange, Cidr, address_after, longest_prefix_ranges};

/// A range of addresses, first and last.
pub(crate) type Range = (IpAddr, IpAddr);

/// The prefixes of one family that are no single addresses, and the ranges where each is the longest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Networks {
    prefixes: BTreeMap<Cidr, ClassId>,
    /// Sorted; rebuilt when prefixes change.
    ranges: Vec<(AddressRange, ClassId)>,
}

impl Networks {
    /// Notes the class of a prefix, or that it is gone; the class it had. [`Networks::rebuild`] makes it count.
    pub(crate) fn set(&mut self, net: Cidr, class: Option<ClassId>) -> Option<ClassId> {
        match class {
            Some(class) => self.prefixes.insert(net, class),
            None => self.prefixes.remove(&net),
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// Computes the ranges anew.
    pub(crate) fn rebuild(&mut self) {
        self.ranges = longest_prefix_ranges(self.prefixes.iter().map(|(net, class)| (*net, *class)));
    }

    /// The ranges whose class is one that `wanted` names, with neighbours joined.
    pub(crate) fn ranges(&self, wanted: impl Fn(ClassId) -> bool) -> Vec<Range> {
        let mut found: Vec<Range> = Vec::new();
        for (range, _) in self.ranges.iter().filter(|(_, class)| wanted(*class)) {
            match found.last_mut() {
                Some(joined) if address_after(joined.1) == Some(range.first) => joined.1 = range.last,
                _ => found.push((range.first, range.last)),
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::ir::Id as _;

    use super::*;

    #[test]
    fn ranges_of_wanted_classes_are_joined() {
        let mut nets = Networks::default();
        for (net, class) in [("10.0.0.0/8", 1), ("10.0.0.0/16", 2), ("10.1.0.0/16", 3), ("11.0.0.0/8", 2)] {
            nets.set(net.parse().unwrap(), Some(ClassId::new(class)));
        }
        nets.set("10.1.0.0/16".parse().unwrap(), None);
        nets.rebuild();
        let range = |first: &str, last: &str| (first.parse().unwrap(), last.parse().unwrap());
        let of = |classes: &[u32]| nets.ranges(|class| classes.contains(&class.number()));
        assert_eq!(of(&[1]), [range("10.1.0.0", "10.255.255.255")]);
        assert_eq!(of(&[2]), [range("10.0.0.0", "10.0.255.255"), range("11.0.0.0", "11.255.255.255")]);
        assert_eq!(of(&[1, 2]), [range("10.0.0.0", "11.255.255.255")]);
        assert_eq!(of(&[3]), []);
    }
}
