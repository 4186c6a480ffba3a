//! From prefixes to classes.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::compile::groups::{GroupId, Groups};
use crate::compile::intern::Interner;
use crate::compile::signature::{PortPredicateId, Ports, PredicateId, Signature};
use crate::ir::ClassId;
use crate::net::{Cidr, IpVersion};

/// Every prefix that somebody owns or some rule names, with its class.
#[derive(Debug)]
pub(super) struct Addresses {
    prefixes: BTreeMap<Cidr, Prefix>,
    /// Number of prefixes of each length that are no single address: IPv4, then IPv6.
    lengths: [Vec<usize>; 2],
    pub(super) classes: Interner<ClassId, Signature>,
    dirty: BTreeSet<Cidr>,
}

#[derive(Debug, Default)]
struct Prefix {
    /// Owners by group, each with the number of owners.
    groups: Vec<(GroupId, usize)>,
    /// Predicates that hold for the prefix as such, each with the number of reasons.
    holds: Vec<(PredicateId, usize)>,
    /// Ports of services at the address.
    ports: Vec<(PortPredicateId, Ports)>,
    class: Option<ClassId>,
    /// What the table says, which leaves out prefixes that agree with the one above.
    listed: Option<ClassId>,
}

impl Prefix {
    fn is_vacant(&self) -> bool {
        self.groups.is_empty() && self.holds.is_empty() && self.ports.is_empty()
    }
}

impl Addresses {
    pub(super) fn new() -> Self {
        let mut classes = Interner::new();
        // Takes number 0 for the class of addresses that nothing selects, for ever.
        classes.acquire(Signature::default());
        Self {
            prefixes: BTreeMap::new(),
            lengths: [alloc::vec![0; 33], alloc::vec![0; 129]],
            classes,
            dirty: BTreeSet::new(),
        }
    }

    pub(super) fn add_owner(&mut self, net: Cidr, group: GroupId) {
        let prefix = self.touch(net);
        match prefix.groups.iter_mut().find(|(id, _)| *id == group) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => prefix.groups.push((group, 1)),
        }
    }

    pub(super) fn remove_owner(&mut self, net: Cidr, group: GroupId) {
        let prefix = self.touch(net);
        if let Some((_, count)) = prefix.groups.iter_mut().find(|(id, _)| *id == group) {
            *count = count.saturating_sub(1);
        }
        prefix.groups.retain(|(_, count)| *count > 0);
    }

    pub(super) fn add_predicate(&mut self, net: Cidr, predicate: PredicateId) {
        let prefix = self.touch(net);
        match prefix.holds.iter_mut().find(|(id, _)| *id == predicate) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => prefix.holds.push((predicate, 1)),
        }
    }

    pub(super) fn remove_predicate(&mut self, net: Cidr, predicate: PredicateId) {
        let prefix = self.touch(net);
        if let Some((_, count)) = prefix.holds.iter_mut().find(|(id, _)| *id == predicate) {
            *count = count.saturating_sub(1);
        }
        prefix.holds.retain(|(_, count)| *count > 0);
    }

    /// Removes every reason for the predicate to hold.
    pub(super) fn clear_predicate(&mut self, net: Cidr, predicate: PredicateId) {
        self.touch(net).holds.retain(|(id, _)| *id != predicate);
    }

    /// Sets the ports of a service at an address; none removes them.
    pub(super) fn set_ports(&mut self, net: Cidr, service: PortPredicateId, ports: Ports) {
        let prefix = self.touch(net);
        prefix.ports.retain(|(id, _)| *id != service);
        if !ports.is_empty() {
            prefix.ports.push((service, ports));
        }
    }

    pub(super) fn mark(&mut self, net: Cidr) {
        self.dirty.insert(net);
    }

    fn touch(&mut self, net: Cidr) -> &mut Prefix {
        self.dirty.insert(net);
        if !self.prefixes.contains_key(&net) {
            self.count(net, true);
        }
        self.prefixes.entry(net).or_default()
    }

    fn count(&mut self, net: Cidr, more: bool) {
        if is_host(net) {
            return;
        }
        let [v4, v6] = &mut self.lengths;
        let lengths = match net.version() {
            IpVersion::V4 => v4,
            IpVersion::V6 => v6,
        };
        if let Some(count) = lengths.get_mut(usize::from(net.prefix())) {
            *count = if more { count.saturating_add(1) } else { count.saturating_sub(1) };
        }
    }

    /// The class of the longest prefix above `net`.
    fn class_above(&self, net: Cidr) -> ClassId {
        let [v4, v6] = &self.lengths;
        let lengths = match net.version() {
            IpVersion::V4 => v4,
            IpVersion::V6 => v6,
        };
        let shorter = (0..net.prefix()).zip(lengths).rev().filter(|(_, count)| **count > 0);
        shorter
            .filter_map(|(prefix, _)| self.prefixes.get(&Cidr::new(net.address(), prefix).ok()?)?.class)
            .next()
            .unwrap_or(ClassId::UNKNOWN)
    }

    /// Brings the classes of all marked prefixes, and of those below them where it matters, up to date. Calls `list`
    /// with every change of the table.
    pub(super) fn settle(&mut self, groups: &Groups, mut list: impl FnMut(Cidr, Option<ClassId>)) {
        // A prefix sorts before those below it, so the smallest marked one never depends on another marked one.
        while let Some(net) = self.dirty.pop_first() {
            let above = self.class_above(net);
            let Some(prefix) = self.prefixes.get(&net) else { continue };
            let (old, listed) = (prefix.class, prefix.listed);
            let class = (!prefix.is_vacant()).then(|| {
                let mut signature = self.classes.lookup(above).cloned().unwrap_or_default();
                let own = Signature {
                    holds: {
                        let mut holds: Vec<PredicateId> = prefix.holds.iter().map(|(id, _)| *id).collect();
                        holds.sort_unstable();
                        holds
                    },
                    ports: {
                        let mut ports = prefix.ports.clone();
                        ports.sort_unstable();
                        ports
                    },
                };
                signature.merge(&own);
                for (group, _) in &prefix.groups {
                    if let Some(group) = groups.lookup(*group) {
                        signature.merge(&group.signature);
                    }
                }
                self.classes.acquire(signature).0
            });
            if let Some(old) = old {
                self.classes.release(old);
            }
            let now_listed = class.filter(|class| *class != above);
            if listed != now_listed {
                list(net, now_listed);
            }
            match class {
                Some(_) => {
                    if let Some(prefix) = self.prefixes.get_mut(&net) {
                        prefix.class = class;
                        prefix.listed = now_listed;
                    }
                }
                None => {
                    self.prefixes.remove(&net);
                    self.count(net, false);
                }
            }
            // A vacant prefix below this one has no class of its own, and inherits through the look-up above.
            if class != old && !is_host(net) {
                let below =
                    self.prefixes.range(net..).map(|(below, _)| *below).take_while(|below| net.covers(below));
                self.dirty.extend(below.filter(|below| *below != net));
            }
        }
    }
}

fn is_host(net: Cidr) -> bool {
    match net.version() {
        IpVersion::V4 => net.prefix() == 32,
        IpVersion::V6 => net.prefix() == 128,
    }
}
