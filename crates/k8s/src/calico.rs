//! Calico's own kinds, of the groups `projectcalico.org/v3` and `crd.projectcalico.org/v1`.
//!
//! What is refused is what Calico's resource definitions and its validator refuse. Two things that the validator
//! refuses and the dataplane reads without doubt are accepted with a warning: networks with bits beyond their
//! prefix (decision D21) and addresses without a prefix length in rules. Selectors are rewritten as Calico does
//! before it matches them, but on the parsed expression (decision D18).

mod endpoint;
mod entity;
mod felix;
mod list;
mod net;
mod network_set;
mod policy;
mod profile;
mod rule;
mod scalar;
mod selector;
mod spec;
mod staged_kubernetes;
mod stored;
#[cfg(test)]
mod tests;
mod tier;

use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::model::Update;
use portcullis_core::quote::quoted;
use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer};

use crate::context::Context;
use crate::error::{ConvertError, Warning};
use crate::meta::{self, ObjectMeta, Placing};
use crate::names::Names;
use crate::object::{self, Relevance};
use crate::path::Path;
use crate::validate;
pub use felix::FelixConfiguration;
pub(crate) use felix::FelixSettings;
use policy::Kind;
use rule::Families;
use spec::{
    HostEndpointSpec, NetworkSetSpec, PolicySpec, ProfileSpec, StagedKubernetesSpec, TierSpec,
    WorkloadEndpointSpec,
};

/// An object of one of Calico's kinds.
#[derive(Clone, Debug)]
pub struct CalicoObject {
    meta: ObjectMeta,
    group: Group,
    body: Body,
}

/// The group that an object was given in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    /// `projectcalico.org`: the API, which validates.
    Api,
    /// `crd.projectcalico.org`: its storage in the cluster, which does not.
    Storage,
}

impl Group {
    fn of(api_version: &str) -> Self {
        if api_version.starts_with("crd.") { Self::Storage } else { Self::Api }
    }

    const fn families(self) -> Families {
        match self {
            Self::Api => Families::One,
            Self::Storage => Families::Mixed,
        }
    }
}

/// The kind and the spec. A missing spec is reported by the conversion.
#[derive(Clone, Debug)]
enum Body {
    Policy(Kind, Option<Box<PolicySpec>>),
    StagedKubernetes(Option<Box<StagedKubernetesSpec>>),
    Tier(Option<TierSpec>),
    NetworkSet(Option<NetworkSetSpec>),
    GlobalNetworkSet(Option<NetworkSetSpec>),
    HostEndpoint(Option<HostEndpointSpec>),
    WorkloadEndpoint(Option<Box<WorkloadEndpointSpec>>),
    Profile(Option<ProfileSpec>),
}

/// Whether policy depends on objects of this kind of the group `projectcalico.org` or `crd.projectcalico.org`.
///
/// The other kinds of these groups configure Calico itself, but for policies of its other editions.
pub(crate) fn relevance(api_version: &str, kind: &str) -> Relevance {
    if !is_policy_kind(kind) {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        return object::unread(group, kind);
    }
    if API_VERSIONS.contains(&api_version) {
        return Relevance::Relevant;
    }
    Relevance::Unsupported(format!(
        "version {} of kind `{kind}` is not known, only `{}`",
        quoted(api_version),
        API_VERSIONS.join("`, `")
    ))
}

/// Whether `kind` is one that policy depends on.
pub(crate) fn is_policy_kind(kind: &str) -> bool {
    KINDS.contains(&kind)
}

/// The fields that every object has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, bound = "S: Deserialize<'de>")]
#[expect(dead_code, reason = "fields that are known and do not matter")]
struct Raw<S> {
    api_version: Option<IgnoredAny>,
    kind: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "meta::strict")]
    metadata: ObjectMeta,
    spec: Option<S>,
    status: Option<IgnoredAny>,
}

impl CalicoObject {
    /// Reads an object of `kind`, which [`relevance`] called relevant.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        api_version: &str,
        kind: &str,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        if let Relevance::Unsupported(reason) = relevance(api_version, kind) {
            return Err(D::Error::custom(reason));
        }
        let (mut meta, body) = match kind {
            "NetworkPolicy" => policy(Kind::Namespaced, deserializer)?,
            "GlobalNetworkPolicy" => policy(Kind::Global, deserializer)?,
            "StagedNetworkPolicy" => policy(Kind::StagedNamespaced, deserializer)?,
            "StagedGlobalNetworkPolicy" => policy(Kind::StagedGlobal, deserializer)?,
            staged_kubernetes::KIND => other(Body::StagedKubernetes, deserializer)?,
            "Tier" => other(Body::Tier, deserializer)?,
            "NetworkSet" => other(Body::NetworkSet, deserializer)?,
            "GlobalNetworkSet" => other(Body::GlobalNetworkSet, deserializer)?,
            "HostEndpoint" => other(Body::HostEndpoint, deserializer)?,
            "WorkloadEndpoint" => other(Body::WorkloadEndpoint, deserializer)?,
            "Profile" => other(Body::Profile, deserializer)?,
            _ => {
                return Err(D::Error::custom(format!(
                    "{} is not a kind that policy depends on",
                    quoted(kind)
                )));
            }
        };
        let group = Group::of(api_version);
        if group == Group::Storage {
            stored::restore(&mut meta).map_err(D::Error::custom)?;
        }
        Ok(Self { meta, group, body })
    }

    /// The kind as a user writes it. The kind NetworkPolicy also exists in Kubernetes, so Calico's is written with
    /// its group, as `kubectl` does.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.body {
            Body::Policy(kind, _) => kind.id_kind(),
            Body::StagedKubernetes(_) => staged_kubernetes::KIND,
            Body::Tier(_) => "Tier",
            Body::NetworkSet(_) => "NetworkSet",
            Body::GlobalNetworkSet(_) => "GlobalNetworkSet",
            Body::HostEndpoint(_) => "HostEndpoint",
            Body::WorkloadEndpoint(_) => "WorkloadEndpoint",
            Body::Profile(_) => "Profile",
        }
    }

    /// Whether objects of this kind live in a namespace.
    pub(crate) fn placing(&self) -> Placing {
        match &self.body {
            Body::Policy(Kind::Namespaced | Kind::StagedNamespaced, _)
            | Body::StagedKubernetes(_)
            | Body::NetworkSet(_)
            | Body::WorkloadEndpoint(_) => Placing::Namespaced,
            Body::Policy(Kind::Global | Kind::StagedGlobal, _)
            | Body::Tier(_)
            | Body::GlobalNetworkSet(_)
            | Body::HostEndpoint(_)
            | Body::Profile(_) => Placing::Cluster,
        }
    }

    /// The metadata.
    pub(crate) const fn metadata(&self) -> &ObjectMeta {
        &self.meta
    }

    pub(crate) const fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }

    /// The object in the model.
    ///
    /// A staged deletion gives no update. A profile that carries the labels of a namespace or a service account
    /// also gives an update of that.
    pub(crate) fn convert(
        &self,
        names: &mut Names,
    ) -> Result<(Vec<Update>, Vec<Warning>), Vec<ConvertError>> {
        let mut cx = Context::new(names, self.meta.reference(self.kind(), self.placing()));
        let updates = self.updates(&mut cx);
        cx.finish(updates)
    }

    fn updates(&self, cx: &mut Context<'_>) -> Option<Vec<Update>> {
        let id = match &self.body {
            Body::Policy(..) | Body::StagedKubernetes(_) => {
                self.meta.identify_strict(self.placing(), validate::dns_subdomain, cx)
            }
            Body::Tier(_) => self.meta.identify_strict(self.placing(), validate::dns_label, cx),
            _ => self.meta.identify(self.placing(), validate::dns_subdomain, cx),
        };
        let labels = self.meta.shared_labels(cx);
        // Without an identity the spec is checked all the same, so that its problems show at once.
        let name = id.as_ref().map_or_else(|| cx.name(""), |id| id.name.clone());
        let namespace = match self.placing() {
            Placing::Namespaced => Some(id.as_ref().map_or_else(|| cx.name(""), meta::Identity::namespace)),
            Placing::Cluster => None,
        };
        let namespace = namespace.as_ref();
        let families = self.group.families();
        let updates = match &self.body {
            Body::Policy(kind, spec) => {
                let spec = required(cx, spec.as_ref())?;
                policy::convert(cx, *kind, namespace, &name, spec, families)
                    .map(Update::Policy)
                    .into_iter()
                    .collect()
            }
            Body::StagedKubernetes(spec) => {
                let spec = required(cx, spec.as_ref())?;
                let policy = staged_kubernetes::convert(cx, namespace?, &name, spec);
                policy.map(Update::Policy).into_iter().collect()
            }
            Body::Tier(spec) => {
                let spec = required(cx, spec.as_ref())?;
                vec![Update::Tier(tier::convert(cx, &name, spec)?)]
            }
            Body::NetworkSet(spec) | Body::GlobalNetworkSet(spec) => {
                let spec = required(cx, spec.as_ref())?;
                vec![Update::NetworkSet(network_set::convert(cx, namespace, &name, labels, spec))]
            }
            Body::HostEndpoint(spec) => {
                let spec = required(cx, spec.as_ref())?;
                vec![Update::Endpoint(endpoint::host(cx, &name, labels, spec))]
            }
            Body::WorkloadEndpoint(spec) => {
                let spec = required(cx, spec.as_ref())?;
                vec![Update::Endpoint(endpoint::workload(cx, namespace?, &name, &labels, spec))]
            }
            Body::Profile(spec) => {
                let spec = required(cx, spec.as_ref())?;
                profile::convert(cx, &name, spec, families)
            }
        };
        id.map(|_| updates)
    }
}

fn policy<'de, D: Deserializer<'de>>(kind: Kind, deserializer: D) -> Result<(ObjectMeta, Body), D::Error> {
    let raw = Raw::<Box<PolicySpec>>::deserialize(deserializer)?;
    Ok((raw.metadata, Body::Policy(kind, raw.spec)))
}

fn other<'de, D: Deserializer<'de>, S: Deserialize<'de>>(
    body: fn(Option<S>) -> Body,
    deserializer: D,
) -> Result<(ObjectMeta, Body), D::Error> {
    let raw = Raw::<S>::deserialize(deserializer)?;
    Ok((raw.metadata, body(raw.spec)))
}

/// The spec, or an error that it is missing.
fn required<'a, S>(cx: &mut Context<'_>, spec: Option<&'a S>) -> Option<&'a S> {
    if spec.is_none() {
        cx.error(&Path::root("spec"), "the spec is missing");
    }
    spec
}

/// The kinds that policy depends on.
pub(crate) const KINDS: [&str; 11] = [
    "GlobalNetworkPolicy",
    "GlobalNetworkSet",
    "HostEndpoint",
    "NetworkPolicy",
    "NetworkSet",
    "Profile",
    "StagedGlobalNetworkPolicy",
    staged_kubernetes::KIND,
    "StagedNetworkPolicy",
    "Tier",
    "WorkloadEndpoint",
];
/// The versions of these kinds: of the API, and of its storage in the cluster.
const API_VERSIONS: [&str; 2] = ["projectcalico.org/v3", "crd.projectcalico.org/v1"];

/// The label that carries the name of an object's namespace.
const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";
/// The label that carries the name of a workload's service account.
const SERVICE_ACCOUNT_LABEL: &str = "projectcalico.org/serviceaccount";
/// The label that says who runs a workload.
const ORCHESTRATOR_LABEL: &str = "projectcalico.org/orchestrator";
