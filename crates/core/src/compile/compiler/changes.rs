//! Changed objects: which groups they concern, and what these groups' labels say now.

use alloc::vec::Vec;

use super::{Compiler, Dirty, Work};

use crate::compile::ids::{GroupId, PolicyIx};
use crate::compile::idset::IdSet;
use crate::compile::labels::GroupLabels;
use crate::compile::named_ports::NamedPortCandidate;
use crate::compile::signature::{PortPredicate, Predicate, Signature};

impl Compiler {
    /// Namespaces, service accounts and profiles: what groups inherit labels and rules from.
    pub(super) fn take_inherited(&mut self, dirty: &Dirty, work: &mut Work) {
        for name in &dirty.profiles {
            match self.cluster.profiles().get(name) {
                Some(profile) if !profile.labels.is_empty() => {
                    self.labelled.insert(name.clone());
                }
                _ => {
                    self.labelled.remove(name);
                }
            }
        }
        let mut stale: Vec<GroupId> = Vec::new();
        for namespace in &dirty.namespaces {
            stale.extend(self.groups.in_namespace(namespace));
        }
        for (namespace, account) in &dirty.service_accounts {
            let groups = self.groups.in_namespace(namespace).iter().filter(|id| {
                self.groups
                    .lookup(**id)
                    .is_some_and(|group| group.key.service_account.as_ref() == Some(account))
            });
            stale.extend(groups);
        }
        for name in &dirty.profiles {
            let now = self.cluster.profiles().get(name);
            if self.policies.is_current_profile(name, now) {
                continue;
            }
            self.policies.retire_profile(name);
            let groups = self.groups.with_profile(name);
            work.rekey.extend(groups);
            stale.extend(groups);
        }
        stale.sort_unstable();
        stale.dedup();
        for group in stale {
            self.evaluate(group, work);
        }
    }

    pub(super) fn take_policies(&mut self, dirty: &Dirty, work: &mut Work) {
        for (id, old) in &dirty.policies {
            let now = self.cluster.policies().get(id);
            let current = self.policies.current(id);
            if let Some(ix) = current {
                if old.as_deref() == now {
                    continue;
                }
                for group in self.policies.retire(ix).as_slice() {
                    if let Some(state) = self.groups.lookup_mut(*group) {
                        state.policies.remove(ix);
                    }
                    work.rekey.push(*group);
                }
            }
            let Some(policy) = now else { continue };
            let ix = self.policies.insert(policy);
            for group in self.groups.candidates(&policy.subject.expr, &self.labelled) {
                let Some(state) = self.groups.lookup_mut(group) else { continue };
                let labels =
                    GroupLabels { cluster: &self.cluster, labelled: &self.labelled, key: &state.key };
                if labels.selected_by(&policy.subject) {
                    state.policies.insert(ix);
                    if let Some(policy) = self.policies.lookup_mut(ix) {
                        policy.groups.insert(group);
                    }
                    work.rekey.push(group);
                }
            }
        }
        if !dirty.tiers.is_empty() {
            let policies = &self.policies;
            let concerned = |ix: &PolicyIx| {
                policies.lookup(*ix).is_some_and(|state| dirty.tiers.contains(&state.policy.tier))
            };
            let groups =
                self.groups.iter().filter(|(_, group)| group.policies.as_slice().iter().any(concerned));
            work.rekey.extend(groups.map(|(id, _)| id));
        }
    }

    /// Evaluates every predicate and every policy subject for a group anew.
    pub(super) fn evaluate(&mut self, id: GroupId, work: &mut Work) {
        let Some(group) = self.groups.lookup_mut(id) else { return };
        let labels = GroupLabels { cluster: &self.cluster, labelled: &self.labelled, key: &group.key };
        let mut signature = Signature::default();
        for (predicate, at) in self.predicate_index.candidates(&labels) {
            if signature.holds.last() != Some(&predicate)
                && let Some(Predicate::Select(selectors)) = self.predicates.plain.lookup(predicate)
                && usize::try_from(at)
                    .ok()
                    .and_then(|at| selectors.get(at))
                    .is_some_and(|s| labels.selected_by(s))
            {
                signature.holds.push(predicate);
            }
        }
        for NamedPortCandidate { predicate, selector } in self.named_ports.candidates(&labels) {
            if signature.ports.last().is_some_and(|(last, _)| *last == predicate) {
                continue;
            }
            if let Some(PortPredicate::Named(selectors, name)) = self.predicates.ports.lookup(predicate) {
                let selector = selector.and_then(|at| selectors.get(usize::try_from(at).ok()?));
                let ports = labels.named_ports(selector, name);
                if !ports.is_empty() {
                    signature.ports.push((predicate, ports));
                }
            }
        }
        let mut policies = self.policies.subjects.candidates(&labels);
        policies.retain(|ix| {
            self.policies.lookup(*ix).is_some_and(|state| labels.selected_by(&state.policy.subject))
        });
        let policies = IdSet::from_unsorted(policies);
        if group.signature != signature {
            group.signature = signature;
            work.changed_signatures.push(id);
        }
        if group.policies != policies {
            work.rekey.push(id);
            for ix in group.policies.as_slice().iter().filter(|ix| !policies.contains(**ix)) {
                if let Some(state) = self.policies.lookup_mut(*ix) {
                    state.groups.remove(id);
                }
            }
            for ix in policies.as_slice() {
                if let Some(state) = self.policies.lookup_mut(*ix) {
                    state.groups.insert(id);
                }
            }
            group.policies = policies;
        }
    }
}
