//! An object in the form that the model is made of.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use portcullis_core::model::{
    Endpoint, Namespace, NetworkSet, Node, Policy, Profile, ServiceAccount, Tier, Update,
};

use crate::autoscaling::HorizontalPodAutoscaler;
use crate::calico::FelixSettings;
use crate::importer::services::{OfEndpoints, OfSlice, Plan};
use crate::workload::{PodCount, PodRecord, WorkloadKind};

/// What one object says, with every part checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Form {
    Namespace(Namespace),
    ServiceAccount(ServiceAccount),
    Node(Node),
    Pod(Box<PodRecord>),
    Workload(Box<WorkloadRecord>),
    Autoscaler(Box<HorizontalPodAutoscaler>),
    Service(Box<Plan>),
    EndpointSlice(OfSlice),
    Endpoints(OfEndpoints),
    /// None for a staged deletion. Only the safe form of an object is more than one.
    Policies(Vec<Policy>),
    Tier(Tier),
    NetworkSet(NetworkSet),
    /// A host endpoint, or a workload endpoint of Calico.
    Endpoint(Box<Endpoint>),
    Profile(Box<ProfileRecord>),
    /// Nothing for an object that Calico never looks at.
    Felix(Option<FelixSettings>),
}

/// Something that makes pods.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WorkloadRecord {
    pub(crate) kind: WorkloadKind,
    pub(crate) pod: PodRecord,
    pub(crate) count: PodCount,
}

/// A profile, and the namespace or service account whose labels it carries.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProfileRecord {
    pub(crate) profile: Profile,
    pub(crate) carrier: Option<Carrier>,
}

/// Whose labels a profile carries.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Carrier {
    Namespace(Namespace),
    ServiceAccount(ServiceAccount),
}

impl Form {
    /// The parts of the model that the object is by itself, for kinds that are not merged with others.
    pub(crate) fn into_updates(self) -> Vec<Update> {
        match self {
            Self::Namespace(o) => vec![Update::Namespace(o)],
            Self::ServiceAccount(o) => vec![Update::ServiceAccount(o)],
            Self::Node(o) => vec![Update::Node(o)],
            Self::Policies(policies) => policies.into_iter().map(Update::Policy).collect(),
            Self::Tier(o) => vec![Update::Tier(o)],
            Self::NetworkSet(o) => vec![Update::NetworkSet(o)],
            Self::Endpoint(o) => vec![Update::Endpoint(*o)],
            Self::Profile(o) => {
                let profile = core::iter::once(Update::Profile(o.profile));
                profile.chain(o.carrier.map(Carrier::into_update)).collect()
            }
            Self::Pod(_)
            | Self::Workload(_)
            | Self::Autoscaler(_)
            | Self::Service(_)
            | Self::EndpointSlice(_)
            | Self::Endpoints(_)
            | Self::Felix(_) => Vec::new(),
        }
    }
}

impl Carrier {
    pub(crate) fn into_update(self) -> Update {
        match self {
            Self::Namespace(namespace) => Update::Namespace(namespace),
            Self::ServiceAccount(account) => Update::ServiceAccount(account),
        }
    }
}
