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

impl Item<'_> {
    /// How many [`ItemPeer`]s it makes.
    fn peers(&self) -> usize {
        match self {
            Self::Rule { rule, .. } => rule.peers.len(),
            Self::TierEnd(_) => 0,
        }
    }
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
    /// Positions of the ends of tiers, and of those that deny.
    ends: Vec<usize>,
    denying_ends: Vec<usize>,
    /// For long lists: the items and peers that can concern an address.
    index: Option<ItemIndex>,
}

/// A rule's item, and the position of one of its peers.
pub(super) type ItemPeer = (usize, usize);

/// Items and their peers by one predicate that they need: the one that the fewest ask.
#[derive(Debug, Default)]
struct ItemIndex {
    by_peer: HashMap<PredicateId, Vec<ItemPeer>>,
    by_subject: HashMap<PredicateId, Vec<ItemPeer>>,
    /// Those that need none.
    always: Vec<ItemPeer>,
}

impl<'a> ProgramRules<'a> {
    pub(super) fn new(direction: Direction, items: Vec<Item<'a>>, end: (Verdict, Cause)) -> Self {
        let index = (items.iter().map(Item::peers).sum::<usize>() > SHORT).then(|| ItemIndex::new(&items));
        let at = |is: fn(&Item<'_>) -> bool| {
            let items = items.iter().enumerate().filter(move |(_, item)| is(item));
            items.map(|(at, _)| at).collect::<Vec<usize>>()
        };
        let ends = at(|item| matches!(item, Item::TierEnd(_)));
        let denying_ends = at(|item| matches!(item, Item::TierEnd(Some(_))));
        Self { direction, items, end, ends, denying_ends, index }
    }

    /// The first end of a tier from this item on: of the tier that the item stands in.
    pub(super) fn tier_end(&self, item: usize) -> Option<usize> {
        self.ends.get(self.ends.partition_point(|end| *end < item)).copied()
    }

    /// The first end of a tier from this item on that denies what no rule decided.
    pub(super) fn denying_end(&self, item: usize) -> Option<usize> {
        self.denying_ends.get(self.denying_ends.partition_point(|end| *end < item)).copied()
    }

    /// The rules that may concern a peer and a subject with these signatures, each with those of its peers that may, in
    /// order.
    pub(super) fn relevant(&self, peer: &Signature, subject: &Signature) -> Vec<ItemPeer> {
        let Some(index) = &self.index else {
            let all = self.items.iter().enumerate();
            return all.flat_map(|(at, item)| (0..item.peers()).map(move |peer| (at, peer))).collect();
        };
        let mut relevant = index.always.clone();
        for (index, signature) in [(&index.by_peer, peer), (&index.by_subject, subject)] {
            for predicate in signature.holds.iter().filter(|_| !index.is_empty()) {
                relevant.extend(index.get(predicate).into_iter().flatten());
            }
        }
        relevant.sort_unstable();
        relevant.dedup();
        relevant
    }
}

impl ItemIndex {
    fn new(items: &[Item<'_>]) -> Self {
        let rules = || {
            items.iter().enumerate().filter_map(|(at, item)| match item {
                Item::Rule { rule, .. } => Some((at, *rule)),
                Item::TierEnd(_) => None,
            })
        };
        let mut asked_of_peers: HashMap<PredicateId, usize> = HashMap::new();
        let mut asked_of_subjects: HashMap<PredicateId, usize> = HashMap::new();
        let count = |asked: &mut HashMap<PredicateId, usize>, must: &[PredicateId]| {
            for predicate in must {
                let count = asked.entry(*predicate).or_default();
                *count = count.saturating_add(1);
            }
        };
        for (_, rule) in rules() {
            rule.peers.iter().for_each(|peer| count(&mut asked_of_peers, &peer.entity.must));
            count(&mut asked_of_subjects, &rule.local.must);
        }
        let rarest = |asked: &HashMap<PredicateId, usize>, must: &[PredicateId]| {
            let counted = must.iter().map(|id| (asked.get(id).copied().unwrap_or(0), *id));
            counted.min()
        };
        let mut index = Self::default();
        for (at, rule) in rules() {
            let subject = rarest(&asked_of_subjects, &rule.local.must);
            for (nth, alternative) in rule.peers.iter().enumerate() {
                let peer = rarest(&asked_of_peers, &alternative.entity.must);
                match (peer, subject) {
                    (Some((asked, peer)), subject) if subject.is_none_or(|(other, _)| asked <= other) => {
                        index.by_peer.entry(peer).or_default().push((at, nth));
                    }
                    (_, Some((_, subject))) => index.by_subject.entry(subject).or_default().push((at, nth)),
                    (_, None) => index.always.push((at, nth)),
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

/// Up to this many peers a list is walked as it is.
const SHORT: usize = 16;
