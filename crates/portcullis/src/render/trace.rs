//! The way through tiers, policies and rules, step by step: for people as text, for programs as JSON.

use core::fmt;

use serde::Serialize;
use serde_json::Number;

use portcullis_core::model::{Action, DefaultAction, Enforcement, Order, PolicyId, ProfileOrigin, Rule};
use portcullis_core::path::Side;
use portcullis_core::reference::{RuleOutcome, Step};
use portcullis_core::verdict::{Direction, Hook, RuleRef, Verdict};

use super::{Dialect, Renderer, kubernetes_tier, rule};
use crate::scenario::{Location, Part};

/// One hook on the way of a packet, and all that was looked at there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TracedHook {
    /// Which hook, such as `workload-ingress`.
    pub hook: String,
    /// The endpoint it belongs to.
    pub endpoint: String,
    /// Its answer: `allow`, `deny`, `inspect` or `continue`.
    pub verdict: String,
    /// What was looked at, in order.
    pub steps: Vec<TracedStep>,
}

/// One step. Its text is a line of the explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TracedStep {
    /// A tier begins.
    Tier {
        /// Its name.
        tier: String,
        /// Its position; none for last.
        order: Option<Number>,
        /// What happens at its end: `deny` or `pass`.
        default: String,
        /// Whether it exists.
        exists: bool,
        /// What its policies are called together where they are Kubernetes'.
        #[serde(skip)]
        title: Option<&'static str>,
    },
    /// A policy that selects the endpoint.
    Policy {
        /// Its kind, namespace and name, as a user writes them.
        policy: String,
        /// Its order or priority; none for last.
        order: Option<Number>,
        /// Whether it is staged.
        staged: bool,
        /// Whether its rules were looked at.
        consulted: bool,
        /// Where it stands.
        location: Option<Location>,
        /// How its order is called, where the user gave one.
        #[serde(skip)]
        order_word: Option<&'static str>,
    },
    /// A rule of the policy or profile before it.
    Rule {
        /// Its position in its list, from 0.
        rule: usize,
        /// What it does.
        action: String,
        /// What it matches.
        matches: String,
        /// What became of it: `matched`, `missed`, or `needs-http`.
        outcome: String,
        /// Why it did not match, or what comes of the match.
        reason: Option<String>,
        /// Where it stands.
        location: Option<Location>,
    },
    /// No rule of a tier decided.
    TierEnd {
        /// What happens then: `deny` or `pass`.
        action: String,
    },
    /// A profile.
    Profile {
        /// Its name.
        profile: String,
        /// Whether it exists.
        exists: bool,
    },
    /// No policy decided, and the default of Kubernetes holds.
    Default {
        /// What it says.
        verdict: String,
    },
    /// The Baseline tier is not asked, because this NetworkPolicy selects the endpoint (the per-pod reading of D8).
    BaselineSkipped {
        /// The policy.
        policy: String,
    },
    /// The packet is exempt from policy at this hook.
    Exempt,
    /// The packet is in a tunnel that workloads may not send.
    Tunnel,
}

impl Renderer<'_> {
    /// All that one side of `part` looked at. A hook before destination NAT looked at the packet as it was sent.
    #[must_use]
    pub fn trace(&self, side: &Side, part: &Part) -> Vec<TracedHook> {
        let packet = &part.resolved.packet;
        let hooks = side.consulted.iter();
        hooks
            .map(|asked| {
                let packet = part.sent.as_ref().filter(|_| asked.is_before_nat).unwrap_or(packet);
                let (decision, trace) = self.reference.explain(&asked.endpoint, asked.hook, packet);
                TracedHook {
                    hook: asked.hook.to_string(),
                    endpoint: asked.endpoint.to_string(),
                    verdict: decision.verdict.to_string(),
                    steps: self.steps(&trace.steps, asked.hook, decision.verdict),
                }
            })
            .collect()
    }

    fn steps(&self, steps: &[Step], hook: Hook, verdict: Verdict) -> Vec<TracedStep> {
        let mut all = Vec::new();
        let mut subject = Subject::None;
        for (index, step) in steps.iter().enumerate() {
            let rest = steps.get(index.saturating_add(1)..).unwrap_or_default();
            match step {
                Step::Exempt => all.push(TracedStep::Exempt),
                Step::Tunnel => all.push(TracedStep::Tunnel),
                Step::Tier { name, .. } if name.as_str() == portcullis_k8s::SHIELD_TIER => {}
                Step::Tier { name, order, default_action } => all.push(TracedStep::Tier {
                    tier: name.to_string(),
                    order: number(*order),
                    default: default_action.to_string(),
                    exists: self.scenario.cluster().tiers().contains_key(name),
                    title: kubernetes_tier(name).filter(|_| is_kubernetes(rest)),
                }),
                Step::Policy { id, order, enforcement, consulted } => {
                    if let Some(policy) = portcullis_k8s::shielding_policy(id) {
                        all.push(TracedStep::BaselineSkipped { policy: policy.to_string() });
                        subject = Subject::Hidden;
                        continue;
                    }
                    all.push(TracedStep::Policy {
                        policy: id.to_string(),
                        order: number(*order),
                        staged: *enforcement == Enforcement::Staged,
                        consulted: *consulted,
                        location: self.scenario.location(id),
                        order_word: order_word(id),
                    });
                    subject = Subject::Policy(id);
                }
                Step::Profile { name, exists } => {
                    let origin = self.scenario.cluster().profiles().get(name).map(|profile| profile.origin);
                    if origin == Some(ProfileOrigin::Implicit) {
                        all.push(TracedStep::Default { verdict: verdict.to_string() });
                        subject = Subject::Hidden;
                    } else {
                        all.push(TracedStep::Profile { profile: name.to_string(), exists: *exists });
                        subject = Subject::Profile(name.as_str());
                    }
                }
                Step::Rule { index, action, outcome } => {
                    all.extend(self.rule(&subject, hook.direction(), *index, *action, *outcome));
                }
                Step::TierEnd { action } if !matches!(subject, Subject::Hidden) => {
                    all.push(TracedStep::TierEnd { action: action.to_string() });
                }
                _ => {}
            }
        }
        all
    }

    fn rule(
        &self,
        subject: &Subject<'_>,
        direction: Direction,
        index: usize,
        action: Action,
        outcome: RuleOutcome,
    ) -> Option<TracedStep> {
        let (found, dialect, location) = match *subject {
            Subject::Hidden => return None,
            Subject::None => (None, Dialect::Calico, None),
            Subject::Policy(id) => {
                let policy = self.scenario.cluster().policies().get(id);
                let at = policy.map(|policy| RuleRef {
                    policy: id.clone(),
                    tier: policy.tier.clone(),
                    direction,
                    index,
                });
                let location = at.and_then(|at| self.scenario.rule_location(&at));
                let rules = policy.map(|policy| of(direction, &policy.ingress, &policy.egress));
                (rules, Dialect::of(id), location)
            }
            Subject::Profile(name) => {
                let profile = self.scenario.cluster().profiles().get(name);
                let rules = profile.map(|profile| of(direction, &profile.ingress, &profile.egress));
                (rules, Dialect::Calico, None)
            }
        };
        let (outcome, reason) = match (outcome, action, subject) {
            (RuleOutcome::Matched, Action::Pass, Subject::Profile(_)) => {
                ("matched", Some("a pass in a profile denies".into()))
            }
            (RuleOutcome::Matched, Action::Pass, _) => ("matched", Some("go on with the next tier".into())),
            (RuleOutcome::Matched, Action::Log, _) => ("matched", Some("logged".into())),
            (RuleOutcome::Matched, _, _) => ("matched", None),
            (RuleOutcome::NeedsHttp, _, _) => ("needs-http", Some("matches if the HTTP request does".into())),
            (RuleOutcome::Missed(miss), _, _) => ("missed", Some(miss.to_string())),
        };
        let rules: &[Rule] = found.unwrap_or_default();
        Some(TracedStep::Rule {
            rule: index,
            action: action.to_string(),
            matches: rules.get(index).map(|it| rule(it, direction, dialect)).unwrap_or_default(),
            outcome: outcome.into(),
            reason,
            location,
        })
    }
}

/// Whose rules the steps are about.
enum Subject<'s> {
    None,
    /// Of something that is not an object of the user's.
    Hidden,
    Policy(&'s PolicyId),
    Profile(&'s str),
}

const fn of<'r>(direction: Direction, ingress: &'r [Rule], egress: &'r [Rule]) -> &'r [Rule] {
    match direction {
        Direction::Ingress => ingress,
        Direction::Egress => egress,
    }
}

/// Whether every policy of the tier that `rest` goes on with is Kubernetes'.
fn is_kubernetes(rest: &[Step]) -> bool {
    let tier = rest.iter().take_while(|step| !matches!(step, Step::Tier { .. }));
    let mut policies = tier.filter_map(|step| match step {
        Step::Policy { id, .. } => Some(id),
        _ => None,
    });
    policies.all(|id| Dialect::of(id) == Dialect::Kubernetes)
}

/// What the position of a policy among others is called in its kind.
fn order_word(id: &PolicyId) -> Option<&'static str> {
    match (Dialect::of(id), id.kind.as_str()) {
        (Dialect::Calico, _) => Some("order"),
        (Dialect::Kubernetes, "ClusterNetworkPolicy" | "AdminNetworkPolicy") => Some("priority"),
        (Dialect::Kubernetes, _) => None,
    }
}

/// The line of an explanation, without what stands before it.
impl fmt::Display for TracedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tier { title: Some(title), .. } => f.write_str(title),
            Self::Tier { tier, order, default, exists, title: None } => {
                let missing = if *exists { "" } else { "does not exist, " };
                write!(f, "tier {tier} ({missing}{}, ends in {default})", position("order", order.as_ref()))
            }
            Self::Policy { policy, order, staged, consulted, location, order_word } => {
                f.write_str(policy)?;
                let mut notes = Vec::new();
                notes.extend(order_word.map(|word| position(word, order.as_ref())));
                match (staged, consulted) {
                    (true, false) => notes.push("staged: not enforced".into()),
                    (true, true) => notes.push("staged".into()),
                    (false, _) => {}
                }
                if !notes.is_empty() {
                    write!(f, " ({})", notes.join(", "))?;
                }
                location.iter().try_for_each(|location| write!(f, " at {location}"))
            }
            Self::Rule { rule, action, matches, outcome, reason, location } => {
                write!(f, "rule {rule}")?;
                if let Some(location) = location {
                    write!(f, " at {}:{}", location.line(), location.column())?;
                }
                write!(f, " {action} {matches}: ")?;
                match (outcome.as_str(), reason) {
                    ("needs-http", Some(reason)) => f.write_str(reason),
                    (outcome, Some(reason)) => write!(f, "{outcome}, {reason}"),
                    (outcome, None) => f.write_str(outcome),
                }
            }
            Self::TierEnd { action } if *action == DefaultAction::Deny.to_string() => {
                f.write_str("no rule matches: deny")
            }
            Self::TierEnd { .. } => f.write_str("no rule matches: go on with the next tier"),
            Self::Profile { profile, exists: true } => write!(f, "profile {profile}"),
            Self::Profile { profile, exists: false } => write!(f, "profile {profile} does not exist"),
            Self::Default { verdict } => write!(f, "no policy decides: {verdict} by default"),
            Self::BaselineSkipped { policy } => {
                write!(f, "tier Baseline is not asked: {policy} selects the pod (`--baseline per-pod`)")
            }
            Self::Exempt => f.write_str("exempt from policy"),
            Self::Tunnel => {
                f.write_str("a tunnel, dropped from workloads whatever policy says (`--tunnels`)")
            }
        }
    }
}

/// An order as JSON has it: `10`, not `10.0`.
fn number(order: Option<Order>) -> Option<Number> {
    serde_json::from_str(&order?.to_string()).ok()
}

fn position(word: &str, order: Option<&Number>) -> String {
    match order {
        Some(order) => format!("{word} {order}"),
        None => "last".into(),
    }
}
