//! Prefixes and their classes, as the maps hold them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use portcullis_core::backend::{LowerError, Usage};
use portcullis_core::ir::{ClassId, Id as _};
use portcullis_core::net::{Cidr, IpVersion};

use crate::layout::SERVICE;
use crate::options::Capacity;

/// What the four maps of addresses hold: the prefixes of the IR, and those of services.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    classes: BTreeMap<Cidr, ClassId>,
    services: Vec<Cidr>,
    /// How many entries each length of prefix has.
    lengths: BTreeMap<(IpVersion, u8), usize>,
    /// How many prefixes each class has.
    uses: BTreeMap<ClassId, usize>,
}

/// An entry that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) net: Cidr,
    /// What addresses in it, but in no longer prefix, had.
    pub(crate) old: u32,
    /// What they have now.
    pub(crate) new: u32,
    /// Whether it was an entry of its own, and whether it is.
    pub(crate) was: bool,
    pub(crate) is: bool,
}

impl Entry {
    /// What the maps hold in the end.
    pub(crate) fn final_value(&self) -> Option<[u32; 2]> {
        self.is.then_some([self.new; 2])
    }
}

impl Addresses {
    /// No prefixes but those of `services`, which are not in the maps yet: see [`Addresses::services`].
    pub(crate) fn new(services: &[Cidr]) -> Self {
        let mut services = services.to_vec();
        services.sort_unstable();
        services.dedup();
        let mut addresses =
            Self { classes: BTreeMap::new(), services, lengths: BTreeMap::new(), uses: BTreeMap::new() };
        for net in addresses.services.clone() {
            addresses.count(net, 1);
        }
        addresses
    }

    /// The entries that are there without any prefix of the IR.
    pub(crate) fn services(&self) -> Vec<Entry> {
        let entry = |net: &Cidr| Entry { net: *net, old: 0, new: self.value(net), was: false, is: true };
        self.services.iter().map(entry).collect()
    }

    /// Whether any prefix has this class. Addresses without a prefix are of class 0.
    pub(crate) fn uses(&self, class: ClassId) -> bool {
        class == ClassId::UNKNOWN || self.uses.contains_key(&class)
    }

    /// The greatest class that any prefix has, and one more: as many classes the rows of a projection have to be for.
    pub(crate) fn most_classes(&self) -> usize {
        let greatest = self.uses.last_key_value().map_or(0, |(class, _)| class.number());
        usize::try_from(greatest).unwrap_or(usize::MAX).saturating_add(1)
    }

    /// Takes changes over. The entries of the maps that change, and what takes the changes back.
    pub(crate) fn apply(
        &mut self,
        changes: &[(Cidr, Option<ClassId>)],
    ) -> (Vec<Entry>, Vec<(Cidr, Option<ClassId>)>) {
        let mut touched: BTreeSet<Cidr> = changes.iter().map(|(net, _)| *net).collect();
        for service in &self.services {
            if changes.iter().any(|(net, _)| net.covers(service)) {
                touched.insert(*service);
            }
        }
        let before: Vec<(Cidr, u32, bool)> =
            touched.into_iter().map(|net| (net, self.value(&net), self.has(&net))).collect();
        let undo: Vec<_> = changes.iter().map(|(net, class)| (*net, self.set(*net, *class))).rev().collect();
        let entry = |(net, old, was): (Cidr, u32, bool)| {
            let entry = Entry { net, old, new: self.value(&net), was, is: self.has(&net) };
            (was != entry.is || old != entry.new).then_some(entry)
        };
        (before.into_iter().filter_map(entry).collect(), undo)
    }

    /// Takes changes back.
    pub(crate) fn undo(&mut self, changes: Vec<(Cidr, Option<ClassId>)>) {
        for (net, class) in changes {
            self.set(net, class);
        }
    }

    /// Whether the maps can hold what they hold and `entries` at once.
    pub(crate) fn check(&self, entries: &[Entry], capacity: &Capacity) -> Result<(), LowerError> {
        for (version, is_single, name, limit) in maps(capacity) {
            let is_here = |net: &Cidr| net.version() == version && net.is_host() == is_single;
            let going = entries.iter().filter(|entry| !entry.is && is_here(&entry.net));
            let needed = self.held(version, is_single).saturating_add(going.count());
            if needed > usize::try_from(limit).unwrap_or(usize::MAX) {
                return Err(LowerError::limit(name, limit, needed));
            }
        }
        Ok(())
    }

    /// How full each map is.
    pub(crate) fn usage(&self, capacity: &Capacity) -> impl Iterator<Item = Usage> {
        maps(capacity).into_iter().map(|(version, is_single, name, limit)| {
            let used = u64::try_from(self.held(version, is_single)).unwrap_or(u64::MAX);
            Usage { name, used, limit: Some(limit.into()) }
        })
    }

    /// How many entries the map of single addresses or of networks has.
    fn held(&self, version: IpVersion, is_single: bool) -> usize {
        let lengths = self
            .lengths
            .iter()
            .filter(|((of, prefix), _)| *of == version && (*prefix == of.bits()) == is_single);
        lengths.fold(0_usize, |sum, (_, count)| sum.saturating_add(*count))
    }

    fn set(&mut self, net: Cidr, class: Option<ClassId>) -> Option<ClassId> {
        let service = self.services.binary_search(&net).is_ok();
        let old = match class {
            Some(class) => self.classes.insert(net, class),
            None => self.classes.remove(&net),
        };
        match (old, class) {
            (None, Some(_)) if !service => self.count(net, 1),
            (Some(_), None) if !service => self.count(net, -1),
            _ => {}
        }
        if let Some(class) = class {
            *self.uses.entry(class).or_default() += 1;
        }
        if let Some(old) = old
            && let Some(uses) = self.uses.get_mut(&old)
        {
            *uses = uses.saturating_sub(1);
            if *uses == 0 {
                self.uses.remove(&old);
            }
        }
        old
    }

    fn count(&mut self, net: Cidr, change: isize) {
        let key = (net.version(), net.prefix());
        let count = self.lengths.entry(key).or_default();
        *count = count.saturating_add_signed(change);
        if *count == 0 {
            self.lengths.remove(&key);
        }
    }

    fn has(&self, net: &Cidr) -> bool {
        self.classes.contains_key(net) || self.services.binary_search(net).is_ok()
    }

    /// What addresses in `net`, but in no longer prefix, have.
    fn value(&self, net: &Cidr) -> u32 {
        let class = self.class(net).number();
        if self.services.iter().any(|service| service.covers(net)) { class | SERVICE } else { class }
    }

    fn class(&self, net: &Cidr) -> ClassId {
        let lengths = self.lengths.range((net.version(), 0)..=(net.version(), net.prefix()));
        lengths
            .rev()
            .filter_map(|((_, prefix), _)| Cidr::new(net.address(), *prefix).ok())
            .find_map(|cover| self.classes.get(&cover).copied())
            .unwrap_or(ClassId::UNKNOWN)
    }
}

/// The maps by what they hold: family, single addresses or networks, and the field of [`Capacity`].
fn maps(capacity: &Capacity) -> [(IpVersion, bool, &'static str, u32); 4] {
    [
        (IpVersion::V4, true, "addresses_v4", capacity.addresses_v4),
        (IpVersion::V6, true, "addresses_v6", capacity.addresses_v6),
        (IpVersion::V4, false, "networks_v4", capacity.networks_v4),
        (IpVersion::V6, false, "networks_v6", capacity.networks_v6),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_that_goes_leaves_its_addresses_to_the_one_around_it() {
        let mut addresses = Addresses::new(&[net("10.96.0.0/12")]);
        let (entries, _) = addresses.apply(&[
            (net("10.0.0.0/8"), Some(ClassId::new(3))),
            (net("10.97.0.1/32"), Some(ClassId::new(4))),
        ]);
        let values: Vec<_> = entries.iter().map(|entry| (entry.net.prefix(), entry.old, entry.new)).collect();
        assert_eq!(values, [(8, 0, 3), (12, SERVICE, SERVICE | 3), (32, SERVICE, SERVICE | 4)]);
        let (entries, undo) = addresses.apply(&[(net("10.97.0.1/32"), None)]);
        let [entry] = entries[..] else { panic!("{entries:?}") };
        assert_eq!((entry.old, entry.new, entry.was, entry.is), (SERVICE | 4, SERVICE | 3, true, false));
        assert!(!addresses.uses(ClassId::new(4)));
        addresses.undo(undo);
        assert!(addresses.uses(ClassId::new(4)));
    }
}
