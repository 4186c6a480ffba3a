//! Which programs a group has.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Compiler, Work};
use crate::compile::group_key::UntrackedPolicy;
use crate::compile::ids::{PolicyIx, PreludeIx};
use crate::compile::owners::{AddressOwner, AddressOwnerId};
use crate::compile::policies::cmp_policies;
use crate::compile::preludes::is_of_node;
use crate::compile::programs::{GroupPrograms, ProgramKey, TierKey};
use crate::ir::{EndpointEntry, HookPrograms, ProgramId};
use crate::label::Name;
use crate::model::{DefaultAction, Enforcement, EntityKinds, Placement, Policy, cmp_order};
use crate::settings::StagedPolicies;
use crate::verdict::{Direction, Hook};

/// What programs depend on beside policies.
struct Subject {
    kind: EntityKinds,
    profiles: Vec<Name>,
    prelude: PreludeIx,
}

impl Compiler {
    /// Gives groups with local members the programs of their policies. Returns the programs they had, whose
    /// references are still to be given back: after the new ones are known, so that what both use stays.
    pub(super) fn rekey(&mut self, work: &mut Work) -> Vec<ProgramId> {
        let mut old = Vec::new();
        let mut groups = core::mem::take(&mut work.rekey);
        groups.sort_unstable();
        groups.dedup();
        for id in groups {
            let Some(group) = self.groups.lookup(id) else { continue };
            let programs = if group.local == 0 {
                None
            } else {
                let mut policies = self.ordered(group.policies.as_slice());
                let key = &group.key;
                let subject =
                    Subject { kind: key.kind, profiles: key.profiles.clone(), prelude: key.prelude };
                if key.untracked == UntrackedPolicy::Ignored {
                    self.drop_untracked(&mut policies);
                }
                let enforce_staged = self.settings.staged == StagedPolicies::Enforce;
                let enforced = self.hook_programs(&subject, &policies, enforce_staged);
                let has_staged = |(_, tier): &(_, Vec<PolicyIx>)| tier.iter().any(|ix| self.is_staged(*ix));
                let differs = !enforce_staged && policies.iter().any(has_staged);
                let staged = differs.then(|| self.hook_programs(&subject, &policies, true));
                Some(GroupPrograms { entry: Arc::new(EndpointEntry { enforced, staged }) })
            };
            let Some(group) = self.groups.lookup_mut(id) else { continue };
            let had = core::mem::replace(&mut group.programs, programs);
            old.extend(had.iter().flat_map(GroupPrograms::ids));
            if had.map(|programs| programs.entry)
                == group.programs.as_ref().map(|programs| programs.entry.clone())
            {
                continue;
            }
            for member in &group.members {
                if let Some(AddressOwner { id: AddressOwnerId::Endpoint(id), local: true, .. }) =
                    self.owners.lookup(*member)
                {
                    work.endpoints.push(id.clone());
                }
            }
        }
        old
    }

    fn is_staged(&self, ix: PolicyIx) -> bool {
        self.policies.lookup(ix).is_some_and(|state| state.policy.enforcement == Enforcement::Staged)
    }

    /// Takes untracked policies out of an ordered list.
    fn drop_untracked(&self, tiers: &mut Vec<(Name, Vec<PolicyIx>)>) {
        for (_, policies) in &mut *tiers {
            policies.retain(|ix| {
                self.policies.lookup(*ix).is_some_and(|state| state.policy.placement != Placement::Untracked)
            });
        }
        tiers.retain(|(_, policies)| !policies.is_empty());
    }

    /// The policies by tier, both in evaluation order; see [`crate::reference`].
    fn ordered(&self, policies: &[PolicyIx]) -> Vec<(Name, Vec<PolicyIx>)> {
        let mut by_tier: BTreeMap<&Name, Vec<PolicyIx>> = BTreeMap::new();
        for ix in policies {
            if let Some(state) = self.policies.lookup(*ix) {
                by_tier.entry(&state.policy.tier).or_default().push(*ix);
            }
        }
        let mut tiers: Vec<(Name, Vec<PolicyIx>)> =
            by_tier.into_iter().map(|(tier, policies)| (tier.clone(), policies)).collect();
        for (_, policies) in &mut tiers {
            policies.sort_unstable_by(|a, b| cmp_policies(&self.policies, *a, *b));
        }
        if tiers.len() <= 1 {
            return tiers;
        }
        let known = self.cluster.tiers();
        tiers.sort_by(|(a, _), (b, _)| match (known.get(a), known.get(b)) {
            (Some(x), Some(y)) => cmp_order(x.order, y.order).then_with(|| a.cmp(b)),
            (x, y) => x.is_none().cmp(&y.is_none()).then_with(|| a.cmp(b)),
        });
        tiers
    }

    fn hook_programs(
        &mut self,
        subject: &Subject,
        tiers: &[(Name, Vec<PolicyIx>)],
        staged: bool,
    ) -> HookPrograms {
        let hooks = Hook::ALL.into_iter().filter(|hook| {
            let workload = matches!(hook, Hook::WorkloadIngress | Hook::WorkloadEgress);
            workload == (subject.kind == EntityKinds::WORKLOAD)
        });
        let mut programs = BTreeMap::new();
        for hook in hooks {
            let ends_in_deny =
                !matches!(hook, Hook::PreDnat | Hook::UntrackedIngress | Hook::UntrackedEgress);
            let prelude = if is_of_node(hook) { subject.prelude } else { PreludeIx::EVERY_NODE };
            let mut key = ProgramKey { hook, tiers: Vec::new(), profiles: Vec::new(), prelude };
            for (name, policies) in tiers {
                let takes_part = |ix: &PolicyIx| {
                    self.policies.lookup(*ix).is_some_and(|state| takes_part(&state.policy, hook, staged))
                };
                let policies: Vec<PolicyIx> = policies.iter().copied().filter(takes_part).collect();
                if !policies.is_empty() {
                    let action = self.cluster.tiers().get(name).map(|tier| tier.default_action);
                    let deny = ends_in_deny && action != Some(DefaultAction::Pass);
                    key.tiers.push(TierKey { name: name.clone(), deny, policies });
                }
            }
            if matches!(
                hook,
                Hook::WorkloadIngress | Hook::WorkloadEgress | Hook::HostIngress | Hook::HostEgress
            ) {
                let profile = |name| self.policies.profile_ix(name, self.cluster.profiles().get(name));
                key.profiles = subject.profiles.iter().map(profile).collect();
            }
            let program = self.programs.acquire(key, &self.cluster, &mut self.policies, &mut self.predicates);
            programs.insert(hook, program);
        }
        HookPrograms(programs)
    }
}

/// Whether `policy` takes part at `hook`, staged ones included when `staged` says so.
/// Source: see [`crate::reference`].
fn takes_part(policy: &Policy, hook: Hook, staged: bool) -> bool {
    let direction = match hook.direction() {
        Direction::Ingress => policy.directions.ingress,
        Direction::Egress => policy.directions.egress,
    };
    let placed = match hook {
        Hook::WorkloadIngress | Hook::WorkloadEgress | Hook::HostIngress | Hook::HostEgress => {
            matches!(policy.placement, Placement::Normal | Placement::ApplyOnForward)
        }
        Hook::ForwardIngress | Hook::ForwardEgress => policy.placement == Placement::ApplyOnForward,
        Hook::PreDnat => policy.placement == Placement::PreDnat,
        Hook::UntrackedIngress | Hook::UntrackedEgress => policy.placement == Placement::Untracked,
    };
    direction && placed && (staged || policy.enforcement == Enforcement::Enforced)
}
