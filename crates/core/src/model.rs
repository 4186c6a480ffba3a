//! The dialect-free model: what policies, endpoints and sets are, whichever API they came from.
//!
//! A conversion into this model keeps the exact meaning of the source object or refuses it. The types are plain
//! data; what they mean together is defined by [`crate::reference`].

mod build;
mod cluster;
mod endpoint;
mod policy;
mod rule;

pub use build::RuleBuilder;
pub use cluster::{Cluster, Update};
pub use endpoint::{
    Endpoint, EndpointId, EndpointKind, NamedPort, Namespace, NetworkSet, NetworkSetId, Node, ServiceAccount,
    ServiceBackend, ServiceEndpoints, ServiceId, WILDCARD_INTERFACE,
};
pub(crate) use policy::cmp_order;
pub use policy::{
    DefaultAction, Directions, Enforcement, Order, Placement, Policy, PolicyId, Profile, ProfileOrigin,
    TieBreak, Tier,
};
pub use rule::{
    Action, EntityKinds, EntityMatch, EntitySelector, HttpMatch, IcmpMatch, IdentityMatch, L4Match,
    PathMatch, PortMatch, PortRange, PortRangeError, Rule,
};
