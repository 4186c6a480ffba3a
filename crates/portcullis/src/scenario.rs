//! Offline questions: a state of a cluster, flows, and what policy says to them.
//!
//! A [`Scenario`] is built from model updates or loaded from manifests. A [`Flow`] names its two ends the way people
//! do; an [`Evaluator`] looks them up and asks an engine, and a [`Report`] is the answer as JSON.

mod answer;
mod candidate;
mod cuts;
mod direct;
mod ends;
mod flow;
mod load;
mod location;
mod peer;
mod pod_kinds;
mod ports;
mod reach;
mod report;
mod resolve;
mod shield;
mod suggest;
mod through;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use portcullis_core::compile::{CompileScope, Compiler, UpdateError};
use portcullis_core::model::{Cluster, EndpointId, PolicyId, Update};

use portcullis_core::settings::Settings;
use portcullis_core::verdict::{Cause, RuleRef};
use portcullis_k8s::{Configured, Frontend, PodPlace, WorkloadPods};
use portcullis_manifest::{ForeignPolicies, PolicyPlace};

pub use answer::{Answer, Part, Plan, Question, Resolved};
pub use flow::{Flow, FlowError, FlowFormat, FlowListError, ListedFlow, Port, parse_protocol};
pub use load::LoadOptions;
pub use location::Location;
pub use peer::{Peer, PeerError};
pub use ports::PortSet;
pub use report::Report;
pub use resolve::Evaluator;

/// A state of a cluster, with what only names need.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    cluster: Cluster,
    places: BTreeMap<EndpointId, PodPlace>,
    workloads: BTreeMap<EndpointId, Vec<WorkloadPods>>,
    frontends: Vec<Frontend>,
    policies: BTreeMap<PolicyId, PolicyPlace>,
    settings: Settings,
    configured: Configured,
    warnings: Vec<String>,
    foreign: Vec<ForeignPolicies>,
    repeated: BTreeMap<&'static str, u64>,
    skipped: BTreeMap<String, u64>,
    others: BTreeMap<&'static str, u64>,
}

impl Scenario {
    /// The objects.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The objects, without what is known of their places.
    #[must_use]
    pub fn into_cluster(self) -> Cluster {
        self.cluster
    }

    /// What the input configures beside policy, such as failsafe ports of nodes. An engine and an [`Evaluator`] of this
    /// scenario should be given these, or what is made of them.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Which settings the input says something about.
    #[must_use]
    pub const fn configured(&self) -> Configured {
        self.configured
    }

    /// The decision tables of the whole cluster, every endpoint local.
    ///
    /// # Errors
    /// As [`Compiler::apply`].
    pub fn compile(&self, settings: &Settings) -> Result<Compiler, UpdateError> {
        Compiler::from_cluster(self.cluster.clone(), settings.clone(), CompileScope::All)
    }

    /// Where a policy was read from.
    #[must_use]
    pub fn location(&self, policy: &PolicyId) -> Option<Location> {
        let place = self.policies.get(policy)?;
        Some(Location::new(Arc::clone(&place.file), place.position))
    }

    /// Where a rule of a policy was read from.
    #[must_use]
    pub fn rule_location(&self, rule: &RuleRef) -> Option<Location> {
        let place = self.policies.get(&rule.policy)?;
        Some(Location::new(Arc::clone(&place.file), place.rule(rule.direction, rule.index)?))
    }

    /// Where the reader finds what decided: the rule, else the policy.
    #[must_use]
    pub fn cause_location(&self, cause: &Cause) -> Option<Location> {
        match cause {
            Cause::Rule(rule) => self.rule_location(rule).or_else(|| self.location(&rule.policy)),
            _ => self.location(cause.policy()?),
        }
    }

    /// Doubts about the input that do not stop an evaluation: one line each, with file, line, object and field.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Policies of other network plugins (Cilium, Antrea, Istio, ...) in the input, by group and kind. They are not
    /// read, so answers leave them out, and a program that shows an answer should show these (decision D30). They are not
    /// among the [`warnings`](Self::warnings).
    #[must_use]
    pub fn foreign_policies(&self) -> &[ForeignPolicies] {
        &self.foreign
    }

    /// How many objects of which kind were given again with the same meaning, by kind.
    #[must_use]
    pub const fn repeated(&self) -> &BTreeMap<&'static str, u64> {
        &self.repeated
    }

    /// How many objects of which kind were skipped because policy does not depend on them, by kind.
    #[must_use]
    pub const fn skipped(&self) -> &BTreeMap<String, u64> {
        &self.skipped
    }

    /// How many documents hold no Kubernetes object, by what they are: `Helm values`, `CI workflow`, ...
    #[must_use]
    pub const fn others(&self) -> &BTreeMap<&'static str, u64> {
        &self.others
    }
}

/// A scenario of model objects that come from anywhere.
impl FromIterator<Update> for Scenario {
    fn from_iter<I: IntoIterator<Item = Update>>(updates: I) -> Self {
        Self { cluster: updates.into_iter().collect(), ..Self::default() }
    }
}
