//! Finding the named-port predicates that may have a value for a group.

use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::compile::ids::PortPredicateId;
use crate::compile::idset::IdSet;
use crate::compile::labels::GroupLabels;
use crate::compile::selectors::{SelectorIndex, forget};
use crate::label::Name;
use crate::model::EntitySelector;

/// Named-port predicates, by their selectors; those without, by the name.
#[derive(Debug)]
pub(super) struct NamedPorts {
    by_selector: SelectorIndex<(PortPredicateId, u32)>,
    by_name: HashMap<Name, IdSet<PortPredicateId>>,
}

/// A predicate that may have a value, with the position of the selector that may select.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NamedPortCandidate {
    pub(super) predicate: PortPredicateId,
    /// `None` when it has none.
    pub(super) selector: Option<u32>,
}

impl NamedPorts {
    pub(super) fn new() -> Self {
        Self { by_selector: SelectorIndex::new(), by_name: HashMap::new() }
    }

    pub(super) fn insert(&mut self, id: PortPredicateId, selectors: &[EntitySelector], name: &Name) {
        if selectors.is_empty() {
            self.by_name.entry_ref(name).or_default().insert(id);
        }
        for (selector, at) in selectors.iter().zip(0..) {
            self.by_selector.insert((id, at), &selector.expr);
        }
    }

    pub(super) fn remove(&mut self, id: PortPredicateId, selectors: &[EntitySelector], name: &Name) {
        if selectors.is_empty() {
            forget(&mut self.by_name, name, id);
        }
        for (selector, at) in selectors.iter().zip(0..) {
            self.by_selector.remove((id, at), &selector.expr);
        }
    }

    /// In the order of the predicates.
    pub(super) fn candidates(&self, group: &GroupLabels<'_>) -> Vec<NamedPortCandidate> {
        if group.key.ports.is_empty() {
            return Vec::new();
        }
        let selected = self.by_selector.candidates(group).into_iter();
        let mut found: Vec<NamedPortCandidate> =
            selected.map(|(predicate, at)| NamedPortCandidate { predicate, selector: Some(at) }).collect();
        for port in &group.key.ports {
            let named = self.by_name.get(&port.name).into_iter().flat_map(IdSet::as_slice);
            found.extend(named.map(|id| NamedPortCandidate { predicate: *id, selector: None }));
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}
