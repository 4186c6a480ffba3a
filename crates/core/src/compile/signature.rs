//! What rules can observe of an address: predicates, and the sets of them that make up a class.

use alloc::vec::Vec;

use crate::compile::ids::{PortPredicateId, PredicateId};
use crate::compile::net_set::NetSet;
use crate::label::Name;
use crate::model::{EntitySelector, ServiceId};
use crate::packet::Protocol;

/// A yes-or-no condition on an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Predicate {
    /// It belongs to something that one of these selects: sorted, without duplicates.
    Select(Vec<EntitySelector>),
    /// It lies in these networks.
    Nets(NetSet),
    /// It is the address of a backend.
    Service(ServiceId),
}

/// A function of an address whose value is a set of (protocol, port).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PortPredicate {
    /// The ports of this name of the endpoints at the address; of those that one of the selectors selects, where there are
    /// any: sorted, without duplicates.
    Named(Vec<EntitySelector>, Name),
    /// The ports of the service's backends at the address.
    Service(ServiceId),
}

/// A set of (protocol, port), sorted, without duplicates.
pub(super) type Ports = Vec<(Protocol, u16)>;

/// What all predicates say of an address: the identity of a class. Restricted to some predicates, that of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Signature {
    /// The predicates that hold, sorted.
    pub(super) holds: Vec<PredicateId>,
    /// The port predicates with a non-empty value, sorted by id.
    pub(super) ports: Vec<(PortPredicateId, Ports)>,
}

impl Signature {
    pub(super) fn holds(&self, predicate: PredicateId) -> bool {
        self.holds.binary_search(&predicate).is_ok()
    }

    /// How many predicates hold, with the ports that they say.
    pub(super) fn size(&self) -> u64 {
        let ports =
            self.ports.iter().fold(self.holds.len(), |sum, (_, ports)| sum.saturating_add(ports.len()));
        u64::try_from(ports).unwrap_or(u64::MAX)
    }

    pub(super) fn ports(&self, predicate: PortPredicateId) -> &[(Protocol, u16)] {
        let found = self.ports.binary_search_by_key(&predicate, |(id, _)| *id).ok();
        found.and_then(|index| self.ports.get(index)).map_or(&[], |(_, ports)| ports)
    }

    /// Adds what `other` says: an address inherits from every prefix that covers it and every owner it has.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.holds.is_empty() {
            self.holds.clone_from(&other.holds);
        } else if !other.holds.is_empty() {
            self.holds.extend_from_slice(&other.holds);
            self.holds.sort_unstable();
            self.holds.dedup();
        }
        for (id, ports) in &other.ports {
            match self.ports.binary_search_by_key(id, |(id, _)| *id) {
                Ok(index) => {
                    if let Some((_, own)) = self.ports.get_mut(index) {
                        own.extend_from_slice(ports);
                        own.sort_unstable();
                        own.dedup();
                    }
                }
                Err(index) => self.ports.insert(index, (*id, ports.clone())),
            }
        }
    }

    /// The part about these predicates; both lists are sorted. Its cost follows the shorter of the two.
    pub(super) fn project(&self, predicates: &[PredicateId], ports: &[PortPredicateId]) -> Self {
        let holds = if predicates.len() < self.holds.len() {
            predicates.iter().copied().filter(|id| self.holds(*id)).collect()
        } else {
            self.holds.iter().copied().filter(|id| predicates.binary_search(id).is_ok()).collect()
        };
        let ports = if ports.len() < self.ports.len() {
            let of =
                |id: &PortPredicateId| Some((*id, self.ports(*id).to_vec())).filter(|(_, p)| !p.is_empty());
            ports.iter().filter_map(of).collect()
        } else {
            self.ports.iter().filter(|(id, _)| ports.binary_search(id).is_ok()).cloned().collect()
        };
        Self { holds, ports }
    }
}
