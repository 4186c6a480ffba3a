//! Calico's own kinds, of the groups `projectcalico.org/v3` and `crd.projectcalico.org/v1`.
//!
//! What is refused is what Calico's resource definitions and its validator refuse. Two things that the validator
//! refuses and the dataplane reads without doubt are accepted with a warning: networks with bits beyond their
//! prefix (decision D21) and addresses without a prefix length in rules. Selectors are rewritten as Calico does
//! before it matches them, but on the parsed expression (decision D18).

mod endpoint;
mod entity;
mod families;
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
use alloc::vec::Vec;

use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer};

use crate::context::Context;
use crate::error::{ConvertErrors, Warning};
use crate::form::Form;
use crate::kind::{CalicoKind, Group, PolicyKind};
use crate::meta::{self, ObjectMeta, Placing};
use crate::names::Names;
use crate::path::Path;
use crate::validate;
use families::Families;
pub use felix::FelixConfiguration;
pub(crate) use felix::FelixSettings;
use spec::{
    HostEndpointSpec, NetworkSetSpec, PolicySpec, ProfileSpec, StagedKubernetesSpec, TierSpec,
    WorkloadEndpointSpec,
};
pub(crate) use stored::ANNOTATION as STORED_METADATA;

/// An object of one of Calico's kinds.
#[derive(Clone, Debug)]
pub struct CalicoObject {
    meta: ObjectMeta,
    kind: CalicoKind,
    group: Group,
    body: Body,
}

/// The spec. A missing one is reported by the conversion.
#[derive(Clone, Debug)]
enum Body {
    Policy(PolicyKind, Option<Box<PolicySpec>>),
    StagedKubernetes(Option<Box<StagedKubernetesSpec>>),
    Tier(Option<TierSpec>),
    NetworkSet(Option<NetworkSetSpec>),
    GlobalNetworkSet(Option<NetworkSetSpec>),
    HostEndpoint(Option<HostEndpointSpec>),
    WorkloadEndpoint(Option<Box<WorkloadEndpointSpec>>),
    Profile(Option<ProfileSpec>),
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
    /// Reads an object of `kind`.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        kind: CalicoKind,
        group: Group,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let (mut meta, body) = match kind {
            CalicoKind::Policy(kind) => read(|spec| Body::Policy(kind, spec), deserializer)?,
            CalicoKind::StagedKubernetes => read(Body::StagedKubernetes, deserializer)?,
            CalicoKind::Tier => read(Body::Tier, deserializer)?,
            CalicoKind::NetworkSet => read(Body::NetworkSet, deserializer)?,
            CalicoKind::GlobalNetworkSet => read(Body::GlobalNetworkSet, deserializer)?,
            CalicoKind::HostEndpoint => read(Body::HostEndpoint, deserializer)?,
            CalicoKind::WorkloadEndpoint => read(Body::WorkloadEndpoint, deserializer)?,
            CalicoKind::Profile => read(Body::Profile, deserializer)?,
        };
        if group == Group::Storage {
            stored::restore(&mut meta).map_err(D::Error::custom)?;
        }
        Ok(Self { meta, kind, group, body })
    }

    /// The kind as a user writes it. The kind NetworkPolicy also exists in Kubernetes, so Calico's is written with
    /// its group, as `kubectl` does.
    pub(crate) const fn kind(&self) -> &'static str {
        self.kind.id_name()
    }

    /// Whether objects of this kind live in a namespace.
    pub(crate) const fn placing(&self) -> Placing {
        self.kind.placing()
    }

    /// The metadata.
    pub(crate) const fn metadata(&self) -> &ObjectMeta {
        &self.meta
    }

    pub(crate) const fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }

    /// The object in the form that the model is made of.
    pub(crate) fn convert(&self, names: &mut Names) -> Result<(Form, Vec<Warning>), ConvertErrors> {
        let mut cx = Context::new(names, self.meta.reference(self.kind(), self.placing()));
        let form = self.form(&mut cx);
        cx.finish(form)
    }

    fn form(&self, cx: &mut Context<'_>) -> Option<Form> {
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
        let families = match self.group {
            Group::Api => Families::One,
            Group::Storage => Families::Mixed,
        };
        let form = match &self.body {
            Body::Policy(kind, spec) => {
                let spec = required(cx, spec.as_ref())?;
                let policy = policy::convert(cx, *kind, namespace, &name, spec, families);
                Form::Policies(policy.into_iter().collect())
            }
            Body::StagedKubernetes(spec) => {
                let spec = required(cx, spec.as_ref())?;
                let policy = staged_kubernetes::convert(cx, namespace?, &name, spec);
                Form::Policies(policy.into_iter().collect())
            }
            Body::Tier(spec) => {
                let spec = required(cx, spec.as_ref())?;
                Form::Tier(tier::convert(cx, &name, spec)?)
            }
            Body::NetworkSet(spec) | Body::GlobalNetworkSet(spec) => {
                let spec = required(cx, spec.as_ref())?;
                Form::NetworkSet(network_set::convert(cx, namespace, &name, labels, spec))
            }
            Body::HostEndpoint(spec) => {
                let spec = required(cx, spec.as_ref())?;
                Form::Endpoint(Box::new(endpoint::host(cx, &name, labels, spec)))
            }
            Body::WorkloadEndpoint(spec) => {
                let spec = required(cx, spec.as_ref())?;
                Form::Endpoint(Box::new(endpoint::workload(cx, namespace?, &name, &labels, spec)))
            }
            Body::Profile(spec) => {
                let spec = required(cx, spec.as_ref())?;
                Form::Profile(Box::new(profile::convert(cx, &name, spec, families)))
            }
        };
        id.map(|_| form)
    }
}

fn read<'de, D: Deserializer<'de>, S: Deserialize<'de>>(
    body: impl FnOnce(Option<S>) -> Body,
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

/// The label that carries the name of an object's namespace.
const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";
/// The label that carries the name of a workload's service account.
const SERVICE_ACCOUNT_LABEL: &str = "projectcalico.org/serviceaccount";
/// The label that says who runs a workload.
const ORCHESTRATOR_LABEL: &str = "projectcalico.org/orchestrator";
