//! The ordered list of rules that a program stands for.

use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::compile::ids::PredicateId;
use crate::compile::rules::CompiledRule;
use crate::compile::signature::Signature;
use crate::label::Name;
use crate::model::PolicyId;
use crate::verdict::{Cause, Direction, RuleRef, Verdict};

/// One element of a program's list.
#[derive(Debug)]
pub(super) enum Item<'a> {
    /// A rule.
    Rule { rule: &'a CompiledRule, owner: RuleOwner<'a> },
    /// The end of a tier: keys that are still open are denied for the cause, or go on without one.
    TierEnd(Option<Cause>),
}

/// Whose rule it is, which gives its decisions their cause.
#[derive(Clone, Debug)]
pub(super) enum RuleOwner<'a> {
    Policy {
        id: &'a PolicyId,
        tier: &'a Name,
    },
    Profile {
        name: &'a Name,
    },
    /// Not a user's rule: an exemption, or the default profile of a namespace.
    BuiltIn(Cause),
}

/// The list of a program, and what happens at its end.
#[derive(Debug)]
pub(super) struct ProgramRules<'a> {
    pub(super) direction: Direction,
    pub(super) items: Vec<Item<'a>>,
    pub(super) end: (Verdict, Cause),
    /// For long lists: the items that can concern a peer.
    index: Option<ItemIndex>,
}

/// Items by one predicate of the peer that they need.
#[derive(Debug, Default)]
struct ItemIndex {
    by_predicate: HashMap<PredicateId, Vec<usize>>,
    /// Items that need none.
    always: Vec<usize>,
}

impl<'a> ProgramRules<'a> {
    pub(super) fn new(direction: Direction, items: Vec<Item<'a>>, end: (Verdict, Cause)) -> Self {
        let index = (items.len() > SHORT).then(|| ItemIndex::new(&items));
        Self { direction, items, end, index }
    }

    /// The items that may concern a peer with this signature, in order.
    pub(super) fn relevant(&self, peer: &Signature) -> Vec<usize> {
        let Some(index) = &self.index else { return (0..self.items.len()).collect() };
        let mut relevant = index.always.clone();
        for predicate in &peer.holds {
            relevant.extend(index.by_predicate.get(predicate).into_iter().flatten());
        }
        relevant.sort_unstable();
        relevant.dedup();
        relevant
    }
}

impl ItemIndex {
    fn new(items: &[Item<'_>]) -> Self {
        let mut index = Self::default();
        for (at, item) in items.iter().enumerate() {
            match item {
                Item::TierEnd(_) => index.always.push(at),
                Item::Rule { rule, .. } => {
                    for alternative in &rule.peers {
                        match alternative.entity.must.last() {
                            Some(predicate) => index.by_predicate.entry(*predicate).or_default().push(at),
                            None => index.always.push(at),
                        }
                    }
                }
            }
        }
        index
    }
}

impl RuleOwner<'_> {
    pub(super) fn rule_ref(&self, index: usize, direction: Direction) -> Option<RuleRef> {
        match self {
            Self::Policy { id, tier } => {
                Some(RuleRef { policy: (*id).clone(), tier: (*tier).clone(), direction, index })
            }
            Self::Profile { .. } | Self::BuiltIn(_) => None,
        }
    }

    pub(super) fn cause(&self, index: usize, direction: Direction) -> Cause {
        match self {
            Self::Policy { id, tier } => {
                Cause::Rule(RuleRef { policy: (*id).clone(), tier: (*tier).clone(), direction, index })
            }
            Self::Profile { name } => Cause::Profile { profile: (*name).clone(), index: Some(index) },
            Self::BuiltIn(cause) => cause.clone(),
        }
    }
}

/// Up to this many items a list is walked as it is.
const SHORT: usize = 16;
