//! A whole state of the tables.

use alloc::collections::BTreeMap;
use core::net::IpAddr;

use crate::ir::{
    Arena, ClassId, DecisionEntry, DecisionId, L4Table, L4TableId, L7Program, L7ProgramId, Program,
    ProgramId, Projection, ProjectionId,
};
use crate::label::{Labels, Name};
use crate::model::EndpointId;
use crate::net::Cidr;
use crate::verdict::Hook;

/// Everything that is needed to answer any packet at any hook of the endpoints in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Counts commits; a snapshot without any has 0.
    pub generation: u64,
    /// Prefixes and the class of the addresses whose longest prefix they are.
    pub addresses: BTreeMap<Cidr, ClassId>,
    /// The projections.
    pub projections: Arena<ProjectionId, Projection>,
    /// The programs.
    pub programs: Arena<ProgramId, Program>,
    /// The L4 tables.
    pub tables: Arena<L4TableId, L4Table>,
    /// The decisions.
    pub decisions: Arena<DecisionId, DecisionEntry>,
    /// The L7 programs.
    pub l7: Arena<L7ProgramId, L7Program>,
    /// The endpoints that programs were compiled for.
    pub endpoints: BTreeMap<EndpointId, EndpointEntry>,
    /// Labels of namespaces and service accounts, for [identities](crate::ir::Guard::identities). Empty while no L7
    /// program looks at an identity.
    pub identities: BTreeMap<Name, IdentityNamespace>,
}

/// Labels of one namespace and of the service accounts in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct IdentityNamespace {
    /// The namespace's labels.
    pub labels: Labels,
    /// The service accounts' labels.
    pub service_accounts: BTreeMap<Name, Labels>,
}

/// The programs of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct EndpointEntry {
    /// What is enforced.
    pub enforced: HookPrograms,
    /// What would be if staged policies were enforced; `None` when none applies to the endpoint.
    pub staged: Option<HookPrograms>,
}

/// A program for each hook the endpoint has: the two workload hooks, or the seven of a host endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct HookPrograms(pub BTreeMap<Hook, ProgramId>);

impl Snapshot {
    /// A snapshot without endpoints.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The class of `address`: that of the longest prefix that contains it.
    #[must_use]
    pub fn class_of(&self, address: IpAddr) -> ClassId {
        Cidr::containing(address)
            .find_map(|net| self.addresses.get(&net).copied())
            .unwrap_or(ClassId::UNKNOWN)
    }

    /// Whether there is no entry at all.
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
            && self.projections.is_empty()
            && self.programs.is_empty()
            && self.tables.is_empty()
            && self.decisions.is_empty()
            && self.l7.is_empty()
            && self.endpoints.is_empty()
            && self.identities.is_empty()
    }
}
