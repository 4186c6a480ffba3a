//! Where policies and their rules stand.

use alloc::sync::Arc;

use portcullis_core::verdict::Direction;

use crate::document::Document;
use crate::position::Position;

/// Where a policy stands, and where each of its rules does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyPlace {
    /// The file as the caller named it, or `stdin`.
    pub file: Arc<str>,
    /// Where the object begins.
    pub position: Position,
    rules: RulePlaces,
}

impl PolicyPlace {
    pub(crate) const fn new(file: Arc<str>, position: Position, rules: RulePlaces) -> Self {
        Self { file, position, rules }
    }

    /// Where the rule at `index` of a direction begins, counted from 0.
    #[must_use]
    pub fn rule(&self, direction: Direction, index: usize) -> Option<Position> {
        let rules = match direction {
            Direction::Ingress => &self.rules.ingress,
            Direction::Egress => &self.rules.egress,
        };
        rules.get(index).copied()
    }
}

/// The positions of the rules of one policy, 8 bytes each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RulePlaces {
    ingress: Box<[Position]>,
    egress: Box<[Position]>,
}

impl RulePlaces {
    /// The rules in `spec.ingress` and `spec.egress`, which is where every kind of policy has them; one rule of the model
    /// for each.
    pub(crate) fn of(document: &Document) -> Self {
        let spec = document.root().get("spec");
        let list = |field| {
            let items = spec.and_then(|spec| spec.get(field)).into_iter().flat_map(|list| list.items());
            items.map(|item| item.position()).collect()
        };
        Self { ingress: list("ingress"), egress: list("egress") }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.ingress.is_empty() && self.egress.is_empty()
    }
}
