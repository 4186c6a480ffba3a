//! The walk through tiers, policies, rules and profiles for one packet at one hook.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::label::Name;
use crate::model::cmp_order;
use crate::model::{
    Action, Cluster, DefaultAction, Endpoint, EndpointKind, Enforcement, Placement, Policy, ProfileOrigin,
    Rule,
};
use crate::packet::Packet;
use crate::reference::matching::rule_outcome;
use crate::reference::trace::{RuleOutcome, Step, Trace};
use crate::reference::{OrderedTier, Reference, is_neighbour_discovery};
use crate::settings::StagedPolicies;
use crate::verdict::{Cause, Decision, Direction, Hook, RuleRef, Verdict};

/// All tiers that hold a policy, in evaluation order: by order (missing last), then name; tiers that do not exist
/// after all others (decision D3). Source: Calico `felix/calc/policy_sorter.go`.
pub(super) fn ordered_tiers(cluster: &Cluster) -> Vec<OrderedTier<'_>> {
    let mut by_tier: BTreeMap<&Name, Vec<&Policy>> = BTreeMap::new();
    for policy in cluster.policies().values() {
        by_tier.entry(&policy.tier).or_default().push(policy);
    }
    let mut tiers: Vec<OrderedTier<'_>> = by_tier
        .into_iter()
        .map(|(name, mut policies)| {
            policies.sort_by(|a, b| a.cmp_in_tier(b));
            OrderedTier { name, tier: cluster.tiers().get(name), policies }
        })
        .collect();
    tiers.sort_by(|a, b| match (a.tier, b.tier) {
        (Some(x), Some(y)) => cmp_order(x.order, y.order).then_with(|| a.name.cmp(b.name)),
        (x, y) => x.is_none().cmp(&y.is_none()).then_with(|| a.name.cmp(b.name)),
    });
    tiers
}

/// One evaluation in progress.
pub(super) struct Walk<'r, 'a> {
    reference: &'r Reference<'a>,
    endpoint: &'a Endpoint,
    hook: Hook,
    packet: &'r Packet,
    trace: &'r mut Option<Trace>,
    logs: Vec<RuleRef>,
}

/// How a list of rules ended.
enum RulesEnd {
    Decided(Verdict, usize),
    Passed(usize),
    NoMatch,
}

impl<'r, 'a> Walk<'r, 'a> {
    pub(super) fn new(
        reference: &'r Reference<'a>,
        endpoint: &'a Endpoint,
        hook: Hook,
        packet: &'r Packet,
        trace: &'r mut Option<Trace>,
    ) -> Self {
        Self { reference, endpoint, hook, packet, trace, logs: Vec::new() }
    }

    pub(super) fn run(mut self) -> Decision {
        let (verdict, cause) = self.verdict();
        Decision { verdict, cause, logs: self.logs }
    }

    fn verdict(&mut self) -> (Verdict, Cause) {
        if is_neighbour_discovery(self.packet) {
            self.note(Step::Exempt);
            return (Verdict::Allow, Cause::NeighbourDiscovery);
        }
        let settings = self.reference.settings.of_node(self.endpoint.node.as_ref());
        if settings.failsafes.exempt(self.hook, self.packet) {
            self.note(Step::Exempt);
            return (Verdict::Allow, Cause::Failsafe);
        }
        // Source: Calico `felix/rules/endpoints.go`, which drops encapsulated packets from workloads before policy.
        if self.hook == Hook::WorkloadEgress && settings.tunnels.iter().any(|it| it.carries(self.packet)) {
            self.note(Step::Tunnel);
            return (Verdict::Deny, Cause::Tunnel);
        }
        if let Some(decided) = self.tiers() {
            return decided;
        }
        match self.hook {
            // Forwarded traffic that no forward policy decides goes on to the workload's own policy, and the
            // untracked and pre-DNAT hooks never end in a drop. Source: Calico `felix/rules/endpoints.go`.
            Hook::ForwardIngress
            | Hook::ForwardEgress
            | Hook::PreDnat
            | Hook::UntrackedIngress
            | Hook::UntrackedEgress => (Verdict::Continue, Cause::NoPolicy),
            Hook::WorkloadIngress | Hook::WorkloadEgress | Hook::HostIngress | Hook::HostEgress => {
                self.profiles()
            }
        }
    }

    fn tiers(&mut self) -> Option<(Verdict, Cause)> {
        for tier in &self.reference.tiers {
            let policies: Vec<&Policy> =
                tier.policies.iter().copied().filter(|policy| self.applies(policy)).collect();
            // A tier takes part only through a policy that acts; a tier of staged policies alone is skipped.
            let last = policies.iter().rfind(|policy| self.acts(policy));
            if policies.is_empty() {
                continue;
            }
            self.note(Step::Tier {
                name: tier.name.clone(),
                order: tier.tier.and_then(|t| t.order),
                default_action: tier.default_action(),
            });
            if let Some(decided) = self.policies(tier.name, &policies) {
                match decided {
                    Ok(decision) => return Some(decision),
                    Err(Passed) => continue,
                }
            }
            let Some(last) = last else { continue };
            let action = match self.hook {
                Hook::PreDnat | Hook::UntrackedIngress | Hook::UntrackedEgress => DefaultAction::Pass,
                _ => tier.default_action(),
            };
            self.note(Step::TierEnd { action });
            if action == DefaultAction::Deny {
                let cause = Cause::TierDefault { tier: tier.name.clone(), policy: last.id.clone() };
                return Some((Verdict::Deny, cause));
            }
        }
        None
    }

    /// The policies of one tier: a decision, a pass, or nothing.
    fn policies(&mut self, tier: &Name, policies: &[&Policy]) -> Option<Result<(Verdict, Cause), Passed>> {
        for policy in policies {
            let consulted = self.acts(policy);
            self.note(Step::Policy {
                id: policy.id.clone(),
                order: policy.order,
                enforcement: policy.enforcement,
                consulted,
            });
            if !consulted {
                continue;
            }
            let direction = self.hook.direction();
            let rules = match direction {
                Direction::Ingress => &policy.ingress,
                Direction::Egress => &policy.egress,
            };
            let rule_ref =
                |index| RuleRef { policy: policy.id.clone(), tier: tier.clone(), direction, index };
            let (end, logged) = self.rules(rules);
            self.logs.extend(logged.into_iter().map(rule_ref));
            match end {
                RulesEnd::Decided(verdict, index) => {
                    return Some(Ok((verdict, Cause::Rule(rule_ref(index)))));
                }
                RulesEnd::Passed(_) => return Some(Err(Passed)),
                RulesEnd::NoMatch => {}
            }
        }
        None
    }

    /// Profiles in order; the first rule that allows or denies decides (decision D6).
    fn profiles(&mut self) -> (Verdict, Cause) {
        for name in &self.endpoint.profiles {
            let profile = self.reference.cluster.profiles().get(name);
            self.note(Step::Profile { name: name.clone(), exists: profile.is_some() });
            let Some(profile) = profile else {
                return (Verdict::Deny, Cause::Profile { profile: name.clone(), index: None });
            };
            let rules = match self.hook.direction() {
                Direction::Ingress => &profile.ingress,
                Direction::Egress => &profile.egress,
            };
            // A profile is no policy, so its Log rules have no policy to name; they only show in the trace.
            let (end, _) = self.rules(rules);
            let (verdict, index) = match end {
                RulesEnd::Decided(verdict, index) => (verdict, index),
                RulesEnd::Passed(index) => (Verdict::Deny, index),
                RulesEnd::NoMatch => continue,
            };
            let cause = match profile.origin {
                ProfileOrigin::Implicit => Cause::NoPolicy,
                ProfileOrigin::Declared => Cause::Profile { profile: name.clone(), index: Some(index) },
            };
            return (verdict, cause);
        }
        if self.endpoint.profiles.is_empty() {
            (Verdict::Deny, Cause::NoPolicy)
        } else {
            (Verdict::Deny, Cause::ProfileDefault)
        }
    }

    /// Rules in order until one ends the list, and the positions of the Log rules that matched.
    fn rules(&mut self, rules: &[Rule]) -> (RulesEnd, Vec<usize>) {
        let mut logged = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            let direction = self.hook.direction();
            let outcome = rule_outcome(&self.reference.entities, rule, direction, self.packet);
            self.note(Step::Rule { index, action: rule.action, outcome });
            let end = match (outcome, rule.action) {
                (RuleOutcome::Missed(_), _) | (RuleOutcome::NeedsHttp, Action::Log) => continue,
                (RuleOutcome::NeedsHttp, _) => RulesEnd::Decided(Verdict::Inspect, index),
                (RuleOutcome::Matched, Action::Allow) => RulesEnd::Decided(Verdict::Allow, index),
                (RuleOutcome::Matched, Action::Deny) => RulesEnd::Decided(Verdict::Deny, index),
                (RuleOutcome::Matched, Action::Pass) => RulesEnd::Passed(index),
                (RuleOutcome::Matched, Action::Log) => {
                    logged.push(index);
                    continue;
                }
            };
            return (end, logged);
        }
        (RulesEnd::NoMatch, logged)
    }

    /// Whether `policy` takes part at this hook of this endpoint, staged or not.
    ///
    /// Untracked policy does not on an endpoint for all interfaces (decision D25). Source: Calico
    /// `felix/dataplane/linux/endpoint_mgr.go`, `updateHostEndpoints`.
    fn applies(&self, policy: &Policy) -> bool {
        let direction = match self.hook.direction() {
            Direction::Ingress => policy.directions.ingress,
            Direction::Egress => policy.directions.egress,
        };
        direction
            && placed_at(policy.placement, self.hook)
            && !(policy.placement == Placement::Untracked && self.endpoint.is_wildcard())
            && hook_kind(self.hook) == self.endpoint.id.kind
            && self.reference.entities.selects_endpoint(&policy.subject, self.endpoint)
    }

    fn acts(&self, policy: &Policy) -> bool {
        policy.enforcement == Enforcement::Enforced
            || self.reference.settings.staged == StagedPolicies::Enforce
    }

    fn note(&mut self, step: Step) {
        if let Some(trace) = self.trace {
            trace.steps.push(step);
        }
    }
}

/// A rule said Pass: the rest of the tier, its default included, is skipped.
struct Passed;

/// Source: Calico `felix/calc/event_sequencer.go`, `tierInfoToProtoTierInfo`: an apply-on-forward policy is in the
/// normal list too, the other two kinds only in their own.
const fn placed_at(placement: Placement, hook: Hook) -> bool {
    match hook {
        Hook::WorkloadIngress | Hook::WorkloadEgress | Hook::HostIngress | Hook::HostEgress => {
            matches!(placement, Placement::Normal | Placement::ApplyOnForward)
        }
        Hook::ForwardIngress | Hook::ForwardEgress => matches!(placement, Placement::ApplyOnForward),
        Hook::PreDnat => matches!(placement, Placement::PreDnat),
        Hook::UntrackedIngress | Hook::UntrackedEgress => matches!(placement, Placement::Untracked),
    }
}

const fn hook_kind(hook: Hook) -> EndpointKind {
    match hook {
        Hook::WorkloadIngress | Hook::WorkloadEgress => EndpointKind::Workload,
        _ => EndpointKind::Host,
    }
}
