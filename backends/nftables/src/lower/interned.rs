//! Chains and range sets that are made once and never changed: equal content, one object.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use hashbrown::HashSet;
use portcullis_core::ir::{DecisionEntry, DecisionId, L4TableId, L7ProgramId, Snapshot};
use portcullis_core::label::Name;
use portcullis_core::net::IpVersion;
use portcullis_core::verdict::{Cause, RuleRef, Verdict};

use crate::command::{Content, Part, Target};
use crate::lower::base_names::BaseNames;
use crate::lower::decision_chains::{self, HookKind};
use crate::lower::l4_chains::{self, Rules};
use crate::lower::names::Names;
use crate::lower::ranges::Range;
use crate::options::Options;

/// Names of chains and sets that packets can come to.
pub(crate) type Used = HashSet<Name>;

/// What a decision chain is made of. The L7 program takes no part in the kernel; it is here so that an event tells which one
/// it is.
type DecisionKey = (Verdict, Cause, Vec<RuleRef>, Option<L7ProgramId>, HookKind);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interned {
    chains: BTreeMap<Rules, Name>,
    decisions: BTreeMap<DecisionKey, Name>,
    content: BTreeMap<Name, Content>,
    /// What the chains of decisions stand for.
    meaning: BTreeMap<Name, Meaning>,
    ranges: BTreeMap<Vec<Range>, Name>,
    /// Of tables that did not change; entries of others are dropped before they are asked for.
    tables: BTreeMap<(L4TableId, HookKind), Name>,
    /// What was made since [`Interned::keep`].
    made: Vec<Name>,
}

/// What the chain of a decision stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) decision: Arc<DecisionEntry>,
    pub(crate) hook_kind: HookKind,
}

impl Interned {
    /// The chain for an L4 table. `None` when the snapshot breaks an invariant.
    pub(crate) fn table(
        &mut self,
        id: L4TableId,
        hook_kind: HookKind,
        work: &LowerContext<'_>,
    ) -> Option<Name> {
        if let Some(name) = self.tables.get(&(id, hook_kind)) {
            return Some(name.clone());
        }
        let table = work.snapshot.tables.lookup(id)?;
        let name = l4_chains::chain(table, &mut OfKind { interned: self, hook_kind, work })?;
        self.tables.insert((id, hook_kind), name.clone());
        Some(name)
    }

    /// Forgets what was derived from these tables.
    pub(crate) fn forget(&mut self, changed: &BTreeSet<L4TableId>) {
        self.tables.retain(|(table, _), _| !changed.contains(table));
    }

    /// The chain with these rules.
    pub(crate) fn chain(&mut self, kind: &str, rules: Rules, names: &Names) -> Name {
        if let Some(name) = self.chains.get(&rules) {
            return name.clone();
        }
        let name = names.fresh(kind);
        self.made.push(name.clone());
        self.content.insert(name.clone(), rules.iter().map(|parts| (parts.clone(), None)).collect());
        self.chains.insert(rules, name.clone());
        name
    }

    fn decision(&mut self, id: DecisionId, hook_kind: HookKind, work: &LowerContext<'_>) -> Option<Name> {
        let decision = work.snapshot.decisions.lookup(id)?;
        let key = (decision.verdict, decision.cause.clone(), decision.logs.clone(), decision.l7, hook_kind);
        if let Some(name) = self.decisions.get(&key) {
            return Some(name.clone());
        }
        let name = work.names.fresh("d");
        let rules = decision_chains::rules(&name, decision, hook_kind, work.options, work.base_names);
        self.made.push(name.clone());
        self.content.insert(name.clone(), rules);
        self.meaning.insert(name.clone(), Meaning { decision: Arc::new(decision.clone()), hook_kind });
        self.decisions.insert(key, name.clone());
        Some(name)
    }

    /// The set of these ranges.
    pub(crate) fn ranges(&mut self, version: IpVersion, ranges: Vec<Range>, names: &Names) -> Name {
        let kind = match version {
            IpVersion::V4 => "nets_v4_",
            IpVersion::V6 => "nets_v6_",
        };
        let made = &mut self.made;
        let make = || {
            let name = names.fresh(kind);
            made.push(name.clone());
            name
        };
        self.ranges.entry(ranges).or_insert_with(make).clone()
    }

    /// The rules of a chain.
    pub(crate) fn content(&self, chain: &Name) -> Option<&Content> {
        self.content.get(chain)
    }

    /// The decisions that chains carry out, by chain.
    pub(crate) const fn meaning(&self) -> &BTreeMap<Name, Meaning> {
        &self.meaning
    }

    /// All range sets.
    pub(crate) fn all_ranges(&self) -> impl Iterator<Item = (&Name, &Vec<Range>)> {
        self.ranges.iter().map(|(ranges, name)| (name, ranges))
    }

    /// The same without what can be derived anew.
    #[cfg(test)]
    pub(crate) fn without_cache(&self) -> Self {
        Self { tables: BTreeMap::new(), ..self.clone() }
    }

    /// All chains.
    pub(crate) fn chains(&self) -> impl Iterator<Item = &Name> {
        self.content.keys()
    }

    /// Drops the chains that were made since [`Interned::keep`], by an update that failed.
    pub(crate) fn drop_made(&mut self) {
        let made: Used = self.made.drain(..).collect();
        self.retain(|name| !made.contains(name));
    }

    /// Drops everything that is not in `kept`, and returns the decisions among it.
    pub(crate) fn keep(&mut self, kept: &Used) -> Vec<(Name, Meaning)> {
        let made: Used = self.made.drain(..).collect();
        let gone = self.meaning.iter().filter(|(name, _)| !kept.contains(*name) && !made.contains(*name));
        let gone = gone.map(|(name, meaning)| (name.clone(), meaning.clone())).collect();
        self.retain(|name| kept.contains(name));
        gone
    }

    fn retain(&mut self, stays: impl Fn(&Name) -> bool) {
        self.chains.retain(|_, name| stays(name));
        self.decisions.retain(|_, name| stays(name));
        self.content.retain(|name, _| stays(name));
        self.meaning.retain(|name, _| stays(name));
        self.ranges.retain(|_, name| stays(name));
        self.tables.retain(|_, name| stays(name));
    }
}

/// What rules need besides the interned chains.
pub(crate) struct LowerContext<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) options: &'a Options,
    pub(crate) base_names: &'a BaseNames,
    pub(crate) names: &'a Names,
}

struct OfKind<'p, 'w, 'a> {
    interned: &'p mut Interned,
    hook_kind: HookKind,
    work: &'w LowerContext<'a>,
}

impl l4_chains::Chains for OfKind<'_, '_, '_> {
    fn decision(&mut self, id: DecisionId) -> Option<Name> {
        self.interned.decision(id, self.hook_kind, self.work)
    }

    fn chain(&mut self, rules: Rules) -> Name {
        self.interned.chain("t", rules, self.work.names)
    }
}

/// The chains that a part of a rule leads to.
pub(crate) fn targets(part: &Part) -> impl Iterator<Item = &Name> {
    let (one, cases) = match part {
        Part::Go(target) => (Some(target), None),
        Part::Switch(_, cases) => (None, Some(cases)),
        _ => (None, None),
    };
    one.into_iter().chain(cases.into_iter().flatten().map(|(_, target)| target)).filter_map(Target::chain)
}

/// The set or map that a rule looks into.
pub(crate) const fn set_of(part: &Part) -> Option<&Name> {
    match part {
        Part::In(_, set) | Part::NotIn(_, set) | Part::Dispatch(_, set) | Part::Budget(_, set, _) => {
            Some(set)
        }
        _ => None,
    }
}
