//! Policies that do not fit the limits of a dataplane or of the compiler: each is replaced by its safe form, which denies everything to its own
//! subjects at its place, until it fits.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use portcullis_core::backend::{DataplaneError, LowerError, LowerErrorKind};
use portcullis_core::label::Name;
use portcullis_core::model::{Action, EntityMatch, Policy, PolicyId, Rule, Update};

use super::{ChangeError, Changed, LocalNode, Stage};

/// A policy that does not fit, see [`LocalNode::closed_policies`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClosedPolicy {
    /// Which one.
    pub policy: PolicyId,
    /// The limit, and how much is needed.
    pub reason: LowerError,
}

impl core::fmt::Display for ClosedPolicy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: everything is denied to its subjects: {}", self.policy, self.reason)
    }
}

/// The policies that are closed, as they were written.
#[derive(Debug, Default)]
pub(super) struct Closed {
    policies: BTreeMap<PolicyId, Original>,
    /// How many calls of [`LocalNode::maintain`] go by before one is tried without a sign of room, and how many did before.
    wait: u32,
    waited: u32,
}

#[derive(Debug)]
struct Original {
    policy: Box<Policy>,
    reason: LowerError,
    /// How much of the limit it asks for at least; doubled whenever it did not fit where there seemed to be as much.
    asks: u64,
}

impl Closed {
    pub(super) fn iter(&self) -> impl Iterator<Item = ClosedPolicy> + '_ {
        self.policies.iter().map(|(id, original)| original.told(id))
    }

    /// Whether just this policy is closed.
    pub(super) fn is(&self, policy: &Policy) -> bool {
        self.policies.get(&policy.id).is_some_and(|original| *original.policy == *policy)
    }

    /// Another policy takes its place, or none, or it fits. Whether it was closed.
    pub(super) fn forget(&mut self, id: &PolicyId) -> bool {
        self.policies.remove(id).is_some()
    }

    /// One call of [`LocalNode::maintain`].
    pub(super) const fn wait_less(&mut self) {
        self.wait = self.wait.saturating_sub(1);
    }

    fn wait_longer(&mut self) {
        self.waited = self.waited.saturating_mul(2).clamp(1, MOST_WAITING);
        self.wait = self.waited;
    }
}

impl Original {
    fn told(&self, id: &PolicyId) -> ClosedPolicy {
        ClosedPolicy { policy: id.clone(), reason: self.reason.clone() }
    }
}

/// How many calls of [`LocalNode::maintain`] go by at most before a closed policy is tried again without a sign of more room:
/// with one every few seconds, some minutes.
const MOST_WAITING: u32 = 64;

impl Changed {
    /// What a further step of the same change did.
    pub(super) fn add(&mut self, step: Self) {
        // Warnings are told once.
        let before = core::mem::take(&mut self.applied.warnings);
        self.applied = step.applied;
        self.applied.warnings.splice(0..0, before);
        self.ended_flows = self.ended_flows.saturating_add(step.ended_flows);
        self.closed.retain(|closed| !step.reopened.contains(&closed.policy));
        self.closed.extend(step.closed);
        self.reopened.extend(step.reopened);
    }
}

impl LocalNode {
    /// After a refusal: closes policies until the rest fits, as few as the order of [`LocalNode::suspects`] allows.
    ///
    /// # Errors
    /// The refusal, when it is not about a limit, or when nothing helps; then nothing is closed. Another refusal on the way:
    /// what is closed by then stays closed, and [`LocalNode::closed_policies`] has it.
    pub(super) fn close_what_does_not_fit(&mut self, error: DataplaneError) -> Result<Changed, ChangeError> {
        let Some(reason) = limit(&error).cloned() else { return Err(ChangeError::Dataplane(error)) };
        let suspects = self.suspects();
        // So many of the first of them are closed.
        let mut closed = 0_usize;
        let (mut too_few, mut changed) = loop {
            let more = suspects.len().min(closed.saturating_mul(2).saturating_add(1));
            if more == closed {
                for id in &suspects {
                    self.reopen(id);
                    self.closed.forget(id);
                }
                return self.commit_and_follow();
            }
            self.close(suspects.get(closed..more).unwrap_or_default(), &reason);
            let before = core::mem::replace(&mut closed, more);
            match self.commit_and_follow() {
                Err(ChangeError::Dataplane(error)) if limit(&error).is_some() => {}
                result => break (before, result?),
            }
        };
        // Fewer may be enough.
        let mut enough = closed;
        while enough.saturating_sub(too_few) > 1 {
            let middle = too_few.saturating_add(enough).div_euclid(2);
            let spared = suspects.get(middle..enough).unwrap_or_default();
            spared.iter().for_each(|id| self.reopen(id));
            match self.commit_and_follow() {
                Err(ChangeError::Dataplane(error)) if limit(&error).is_some() => {
                    self.close(spared, &reason);
                    changed.add(self.commit_and_follow()?);
                    too_few = middle;
                }
                result => {
                    for id in spared {
                        self.closed.forget(id);
                    }
                    changed.add(result?);
                    enough = middle;
                }
            }
        }
        for id in suspects.iter().take(enough) {
            self.note_asked(id, &reason);
            changed.closed.extend(self.closed.policies.get(id).map(|original| original.told(id)));
        }
        self.closed.wait_longer();
        self.free_numbers(&mut changed)?;
        Ok(changed)
    }

    /// Tries the closed policy that is the smallest, if there may be room, and goes on as long as they fit. Adds what that did to
    /// `changed`.
    ///
    /// # Errors
    /// When the dataplane refuses for another reason than a limit.
    pub(super) fn reopen_what_fits(&mut self, changed: &mut Changed) -> Result<(), ChangeError> {
        loop {
            let policies = self.closed.policies.iter();
            let smallest = policies.min_by_key(|(id, original)| (weight(&original.policy), *id));
            let Some((id, original)) = smallest else { return Ok(()) };
            let (id, reason, asks) = (id.clone(), original.reason.clone(), original.asks);
            if self.closed.wait > 0 && !self.has_room(&reason, asks) {
                return Ok(());
            }
            self.reopen(&id);
            match self.commit_and_follow() {
                Err(ChangeError::Dataplane(error)) => {
                    let limit = limit(&error).cloned();
                    self.close(core::slice::from_ref(&id), limit.as_ref().unwrap_or(&reason));
                    // The next commit has the safe form again.
                    let Some(reason) = limit else { return Err(ChangeError::Dataplane(error)) };
                    changed.add(self.commit_and_follow()?);
                    self.note_asked(&id, &reason);
                    self.closed.wait_longer();
                    return self.free_numbers(changed);
                }
                result => {
                    self.closed.forget(&id);
                    changed.add(result?);
                    changed.reopened.push(id);
                    self.closed.waited = 0;
                }
            }
        }
    }

    /// Numbers that a refused state had rest for one commit more. Until then, what anybody adds gets numbers beyond the limits that
    /// count them, such as those of classes in maps, and would be closed in place of what was refused.
    fn free_numbers(&mut self, changed: &mut Changed) -> Result<(), ChangeError> {
        changed.add(self.commit_and_follow()?);
        Ok(())
    }

    fn commit_and_follow(&mut self) -> Result<Changed, ChangeError> {
        let delta = self.compiler.commit();
        self.follow(&delta)
    }

    /// Puts the safe forms of policies in their place.
    fn close(&mut self, ids: &[PolicyId], reason: &LowerError) {
        for id in ids {
            let Some(policy) = self.compiler.cluster().policies().get(id) else { continue };
            let original = self.closed.policies.entry(id.clone()).or_insert_with(|| Original {
                policy: Box::new(policy.clone()),
                reason: reason.clone(),
                asks: 0,
            });
            original.reason = reason.clone();
            // A safe form is never refused: it has rules in its own directions only, and none with a request.
            let _ = self.compiler.apply(Update::Policy(safe_form(&original.policy)));
        }
    }

    /// Puts a policy back as it was written. It still counts as closed.
    fn reopen(&mut self, id: &PolicyId) {
        if let Some(original) = self.closed.policies.get(id) {
            // It was taken in before.
            let _ = self.compiler.apply(Update::Policy((*original.policy).clone()));
        }
    }

    /// Notes how much a policy that is closed, and was refused for `reason`, asks of the limit.
    fn note_asked(&mut self, id: &PolicyId, reason: &LowerError) {
        let used = self.used(reason).unwrap_or(0);
        if let (Some(original), LowerErrorKind::Limit { limit, needed, .. }) =
            (self.closed.policies.get_mut(id), reason.kind())
        {
            let asks = needed.saturating_sub(used).max(original.asks.saturating_mul(2));
            original.asks = asks.clamp(1, (*limit).max(1));
        }
    }

    fn has_room(&mut self, reason: &LowerError, asks: u64) -> bool {
        let LowerErrorKind::Limit { limit, .. } = reason.kind() else { return false };
        self.used(reason).is_some_and(|used| used.saturating_add(asks) <= *limit)
    }

    /// How much of the limit is used that `reason` is about, where the dataplane tells.
    fn used(&mut self, reason: &LowerError) -> Option<u64> {
        let LowerErrorKind::Limit { name, .. } = reason.kind() else { return None };
        let usage = self.dataplane.usage().ok()?;
        usage.iter().find(|usage| usage.name == *name).map(|usage| usage.used)
    }

    /// Which policies to close, the first ones first: where the compiler knows which programs are too large, their policies
    /// before all others; then those that changed before those that are in force; of these, policies of
    /// namespaces before global ones, those of the namespace that has most in its policies before those of others, and the
    /// largest first. So a tenant meets the consequences of its own policies.
    fn suspects(&self) -> Vec<PolicyId> {
        let everything_is_new = matches!(self.stage, Stage::New | Stage::NotLoaded);
        let is_new = |id: &PolicyId| everything_is_new || self.changed.contains(id);
        let excess = self.compiler.excess().map(|excess| excess.policies).unwrap_or_default();
        let open = self.compiler.cluster().policies().values();
        let open = open.filter(|policy| {
            !self.closed.policies.contains_key(&policy.id) && self.compiler.applies(&policy.id)
        });
        let weighed: Vec<(&Policy, usize)> = open.map(|policy| (policy, weight(policy))).collect();
        let mut tenants: BTreeMap<(bool, Option<&Name>), usize> = BTreeMap::new();
        for (policy, weight) in &weighed {
            let sum = tenants.entry((is_new(&policy.id), policy.id.namespace.as_ref())).or_default();
            *sum = sum.saturating_add(*weight);
        }
        let mut ranked: Vec<_> = weighed
            .into_iter()
            .map(|(policy, weight)| {
                let (id, namespace) = (&policy.id, policy.id.namespace.as_ref());
                let new = is_new(id);
                let of_tenant = tenants.get(&(new, namespace)).copied().unwrap_or(0);
                let of_excess = excess.contains(id);
                (!of_excess, !new, namespace.is_none(), Reverse(of_tenant), namespace, Reverse(weight), id)
            })
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(.., id)| id.clone()).collect()
    }
}

/// The limit that is too small, when that is what an error is about.
fn limit(error: &DataplaneError) -> Option<&LowerError> {
    error.lower().filter(|error| matches!(error.kind(), LowerErrorKind::Limit { .. }))
}

/// The policy that denies everything to the same subjects at the same place.
fn safe_form(policy: &Policy) -> Policy {
    let deny = |is_on: bool| if is_on { vec![Rule::new(Action::Deny)] } else { Vec::new() };
    Policy {
        ingress: deny(policy.directions.ingress),
        egress: deny(policy.directions.egress),
        ..policy.without_rules()
    }
}

/// How much there is in a policy: what its rules list.
fn weight(policy: &Policy) -> usize {
    let entity = |entity: &EntityMatch| {
        1_usize.saturating_add(entity.nets.len()).saturating_add(entity.not_nets.len())
    };
    let rules = policy.ingress.iter().chain(&policy.egress);
    rules.fold(0, |sum, rule| {
        let peers = rule.peers.iter().fold(entity(&rule.local), |sum, peer| sum.saturating_add(entity(peer)));
        let ports = rule.l4.iter().fold(1_usize, |sum, l4| {
            let lists =
                [&l4.source_ports, &l4.destination_ports, &l4.not_source_ports, &l4.not_destination_ports];
            lists.iter().fold(sum.saturating_add(1), |sum, list| sum.saturating_add(list.len()))
        });
        sum.saturating_add(peers).saturating_add(ports)
    })
}
