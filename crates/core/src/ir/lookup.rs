//! Where the interpreter looks entries up.

use core::net::IpAddr;

use crate::ir::{
    ClassId, DecisionEntry, DecisionId, EndpointEntry, IdentityNamespace, L4Table, L4TableId, L7Program,
    L7ProgramId, Program, ProgramId, ProjectionId, Snapshot,
};
use crate::model::EndpointId;
use crate::net::Cidr;

/// What a run of an [`L7Program`] looks up. A [`Snapshot`] is one; a backend with tables of its own can be another.
pub trait L7Context {
    /// The decision of `id`.
    fn l7_decision(&self, id: DecisionId) -> Option<&DecisionEntry>;
    /// The labels of the namespace called `name` and of the service accounts in it.
    fn l7_identity(&self, name: &str) -> Option<&IdentityNamespace>;
}

/// A whole state of the tables, as the [interpreter](super::Interpreter) asks for it: a [`Snapshot`], or the one
/// [before a change](super::Previous).
pub trait Lookup: L7Context {
    /// The programs of `endpoint`.
    fn endpoint(&self, endpoint: &EndpointId) -> Option<&EndpointEntry>;
    /// The program of `id`.
    fn program(&self, id: ProgramId) -> Option<&Program>;
    /// The row of `class` in the projection of `id`.
    fn row(&self, id: ProjectionId, class: ClassId) -> Option<u32>;
    /// The L4 table of `id`.
    fn l4_table(&self, id: L4TableId) -> Option<&L4Table>;
    /// The L7 program of `id`.
    fn l7_program(&self, id: L7ProgramId) -> Option<&L7Program>;
    /// The class of the addresses whose longest prefix is `net`, when it is listed.
    fn prefix(&self, net: &Cidr) -> Option<ClassId>;

    /// The class of `address`: that of the longest listed prefix that contains it.
    fn class_of(&self, address: IpAddr) -> ClassId {
        Cidr::containing(address).find_map(|net| self.prefix(&net)).unwrap_or(ClassId::UNKNOWN)
    }
}

impl Lookup for Snapshot {
    fn endpoint(&self, endpoint: &EndpointId) -> Option<&EndpointEntry> {
        self.endpoints.get(endpoint)
    }

    fn program(&self, id: ProgramId) -> Option<&Program> {
        self.programs.lookup(id)
    }

    fn row(&self, id: ProjectionId, class: ClassId) -> Option<u32> {
        Some(self.projections.lookup(id)?.row(class))
    }

    fn l4_table(&self, id: L4TableId) -> Option<&L4Table> {
        self.tables.lookup(id)
    }

    fn l7_program(&self, id: L7ProgramId) -> Option<&L7Program> {
        self.l7.lookup(id)
    }

    fn prefix(&self, net: &Cidr) -> Option<ClassId> {
        self.addresses.get(net).copied()
    }
}

impl L7Context for Snapshot {
    fn l7_decision(&self, id: DecisionId) -> Option<&DecisionEntry> {
        self.decisions.lookup(id)
    }

    fn l7_identity(&self, name: &str) -> Option<&IdentityNamespace> {
        self.identities.get(name)
    }
}
