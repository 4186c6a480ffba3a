//! Offline questions: a state of a cluster, flows, and what policy says to them.
//!
//! A [`Scenario`] is built from model updates or loaded from manifests. A [`Flow`] names its two ends the way people
//! do; an [`Evaluator`] looks them up and asks an engine, and a [`Report`] is the answer as JSON.

mod answer;
mod cuts;
mod flow;
mod load;
mod near;
mod peer;
mod ports;
mod report;
mod resolve;
mod text;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::fmt;

use portcullis_core::compile::{CompileScope, Engine, UpdateError};
use portcullis_core::model::{Cluster, EndpointId, PolicyId, Update};

use portcullis_core::reference::Settings;
use portcullis_k8s::PodPlace;
use portcullis_manifest::ForeignPolicies;

pub use answer::{Answer, Part, Plan, Question, Resolved};
pub use flow::{Flow, FlowError, Port, parse_protocol};
pub use load::LoadOptions;
pub use peer::{Peer, PeerError};
pub use ports::PortSet;
pub use report::Report;
pub use resolve::Evaluator;

/// A state of a cluster, with what only names need.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    cluster: Cluster,
    places: BTreeMap<EndpointId, PodPlace>,
    locations: BTreeMap<PolicyId, Location>,
    warnings: Vec<String>,
    foreign: Vec<ForeignPolicies>,
    skipped: BTreeMap<String, u64>,
}

/// Where an object stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    file: Arc<str>,
    line: u32,
}

impl Location {
    /// The file as it was named, or `stdin`.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line the object begins in, counted from 1.
    #[must_use]
    pub const fn line(&self) -> u32 {
        self.line
    }
}

/// `file:line`.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file: String = self.file.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        write!(f, "{file}:{}", self.line)
    }
}

impl Scenario {
    /// The objects.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The decision tables of the whole cluster, every endpoint local.
    ///
    /// # Errors
    /// As [`Engine::apply`].
    pub fn compile(&self, settings: &Settings) -> Result<Engine, UpdateError> {
        let mut engine = Engine::new(settings.clone(), CompileScope::All);
        for update in self.cluster.updates() {
            engine.apply(update)?;
        }
        engine.commit();
        Ok(engine)
    }

    /// Where a policy was read from.
    #[must_use]
    pub fn location(&self, policy: &PolicyId) -> Option<&Location> {
        self.locations.get(policy)
    }

    /// Doubts about the input that do not stop an evaluation: one line each, with file, line, object and field.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Policies of other network plugins (Cilium, Antrea, Istio, ...) in the input, by group and kind. They are not
    /// read, so answers leave them out, and whoever shows an answer should show these (decision D30). They are not
    /// among the [`warnings`](Self::warnings).
    #[must_use]
    pub fn foreign_policies(&self) -> &[ForeignPolicies] {
        &self.foreign
    }

    /// How many objects of which kind were skipped because policy does not depend on them, by kind.
    #[must_use]
    pub const fn skipped(&self) -> &BTreeMap<String, u64> {
        &self.skipped
    }
}

/// A scenario of model objects that come from anywhere.
impl FromIterator<Update> for Scenario {
    fn from_iter<I: IntoIterator<Item = Update>>(updates: I) -> Self {
        Self { cluster: updates.into_iter().collect(), ..Self::default() }
    }
}
