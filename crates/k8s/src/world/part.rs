//! Parts of the model: what an event may change.

use portcullis_core::label::Name;
use portcullis_core::model::{EndpointId, NetworkSetId, PolicyId, ServiceId, Update};

/// The identity of one object of the model.
///
/// INVARIANT: those that depend on what others refer to, and on nothing that depends on them, come last: see
/// [`Part::depends_on_use`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Policy(PolicyId),
    Endpoint(EndpointId),
    NetworkSet(NetworkSetId),
    ServiceAccount(Name, Name),
    Node(Name),
    Service(ServiceId),
    Namespace(Name),
    Profile(Name),
    Tier(Name),
}

impl Part {
    /// Whether it may exist because another part refers to it.
    pub(super) const fn depends_on_use(&self) -> bool {
        matches!(self, Self::Namespace(_) | Self::Profile(_) | Self::Tier(_))
    }

    /// The change that takes it away.
    pub(super) fn removal(self) -> Update {
        match self {
            Self::Policy(id) => Update::RemovePolicy(id),
            Self::Endpoint(id) => Update::RemoveEndpoint(id),
            Self::NetworkSet(id) => Update::RemoveNetworkSet(id),
            Self::ServiceAccount(namespace, name) => Update::RemoveServiceAccount(namespace, name),
            Self::Node(name) => Update::RemoveNode(name),
            Self::Service(id) => Update::RemoveService(id),
            Self::Namespace(name) => Update::RemoveNamespace(name),
            Self::Profile(name) => Update::RemoveProfile(name),
            Self::Tier(name) => Update::RemoveTier(name),
        }
    }
}
