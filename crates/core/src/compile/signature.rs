//! What rules can observe of an address: predicates, and the sets of them that make up a class.

use alloc::vec::Vec;

use crate::compile::ids::{PortPredicateId, PredicateId};
use crate::label::Name;
use crate::model::{EntitySelector, ServiceId};
use crate::net::Cidr;
use crate::packet::Protocol;

/// A yes-or-no condition on an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Predicate {
    /// It belongs to something selected.
    Select(EntitySelector),
    /// It lies in one of these networks: one family, sorted, without duplicates.
    Nets(Vec<Cidr>),
    /// It is the address of a backend.
    Service(ServiceId),
}

/// A function of an address whose value is a set of (protocol, port).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PortPredicate {
    /// The ports of this name of the endpoints at the address; of those that are selected, where a selector is given.
    Named(Option<EntitySelector>, Name),
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

    /// The part about these predicates; both lists are sorted.
    pub(super) fn project(&self, predicates: &[PredicateId], ports: &[PortPredicateId]) -> Self {
        Self {
            holds: self.holds.iter().copied().filter(|id| predicates.binary_search(id).is_ok()).collect(),
            ports: self.ports.iter().filter(|(id, _)| ports.binary_search(id).is_ok()).cloned().collect(),
        }
    }
}
