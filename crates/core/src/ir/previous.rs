//! The state before a change.

use core::borrow::Borrow;

use crate::evaluate::Evaluate;
use crate::ir::before::ProjectionBefore;
use crate::ir::images::Images;
use crate::ir::{
    BeforeImages, ClassId, DecisionEntry, DecisionId, DeltaError, EndpointEntry, IdentityNamespace,
    Interpreter, L4Table, L4TableId, L7Context, L7Program, L7ProgramId, Lookup, Program, ProgramId,
    ProjectionId, Snapshot,
};
use crate::model::EndpointId;
use crate::net::Cidr;
use crate::packet::Packet;
use crate::verdict::{self, Hook};

/// The state before a change, seen through the snapshot after it and the [`BeforeImages`] of what changed. It answers
/// as a clone of the old snapshot would, and costs nothing to make.
#[derive(Clone, Copy, Debug)]
pub struct Previous<'a> {
    current: &'a Snapshot,
    /// `None` where nothing changed.
    before: Option<&'a BeforeImages>,
}

impl<'a> Previous<'a> {
    /// The state that `before` remembers beside `current`.
    ///
    /// # Errors
    /// When `before` belongs to a snapshot of another generation.
    pub const fn new(current: &'a Snapshot, before: &'a BeforeImages) -> Result<Self, DeltaError> {
        if current.generation != before.to_generation() {
            return Err(DeltaError { found: current.generation, expected: before.to_generation() });
        }
        Ok(Self { current, before: Some(before) })
    }

    /// What `hook` of `endpoint` said to `packet`. An endpoint that was not there denied it.
    #[must_use]
    pub fn decide(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> verdict::Decision {
        self.interpreter().decide(endpoint, hook, packet)
    }

    /// An interpreter of what was enforced.
    #[must_use]
    pub const fn interpreter(&self) -> Interpreter<'_, Self> {
        Interpreter::over(self)
    }

    /// The generation of the snapshot before.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        match self.before {
            Some(before) => before.from_generation(),
            None => self.current.generation,
        }
    }

    /// The image of an entry, else the entry as it is now.
    fn look<'i, K: Ord + Borrow<Q> + 'i, Q: Ord + ?Sized, T>(
        &'i self,
        images: impl FnOnce(&'i BeforeImages) -> &'i Images<K, Option<T>>,
        key: &Q,
        now: impl FnOnce(&'i Snapshot) -> Option<&'i T>,
    ) -> Option<&'i T> {
        let Some(before) = self.before else { return now(self.current) };
        match images(before).get(key) {
            Some(image) => image.as_ref(),
            None if before.is_complete => None,
            None => now(self.current),
        }
    }
}

/// A snapshot that nothing happened to.
impl<'a> From<&'a Snapshot> for Previous<'a> {
    fn from(current: &'a Snapshot) -> Self {
        Self { current, before: None }
    }
}

impl Evaluate for Previous<'_> {
    fn evaluate(&self, endpoint: &EndpointId, hook: Hook, packet: &Packet) -> verdict::Decision {
        self.decide(endpoint, hook, packet)
    }
}

impl Lookup for Previous<'_> {
    fn endpoint(&self, endpoint: &EndpointId) -> Option<&EndpointEntry> {
        self.look(|before| &before.endpoints, endpoint, |now| now.endpoint(endpoint))
    }

    fn program(&self, id: ProgramId) -> Option<&Program> {
        self.look(|before| &before.programs, &id, |now| now.program(id))
    }

    fn row(&self, id: ProjectionId, class: ClassId) -> Option<u32> {
        let Some(before) = self.before else { return self.current.row(id, class) };
        match before.projections.get(&id) {
            Some(ProjectionBefore::Absent) => None,
            Some(ProjectionBefore::Whole(projection)) => Some(projection.row(class)),
            Some(ProjectionBefore::Patch { set, .. }) => {
                set.get(&class).copied().or_else(|| self.current.row(id, class))
            }
            None if before.is_complete => None,
            None => self.current.row(id, class),
        }
    }

    fn l4_table(&self, id: L4TableId) -> Option<&L4Table> {
        self.look(|before| &before.tables, &id, |now| now.l4_table(id))
    }

    fn l7_program(&self, id: L7ProgramId) -> Option<&L7Program> {
        self.look(|before| &before.l7, &id, |now| now.l7_program(id))
    }

    fn prefix(&self, net: &Cidr) -> Option<ClassId> {
        self.look(|before| &before.addresses, net, |now| now.addresses.get(net)).copied()
    }
}

impl L7Context for Previous<'_> {
    fn l7_decision(&self, id: DecisionId) -> Option<&DecisionEntry> {
        self.look(|before| &before.decisions, &id, |now| now.l7_decision(id))
    }

    fn l7_identity(&self, name: &str) -> Option<&IdentityNamespace> {
        self.look(|before| &before.identities, name, |now| now.l7_identity(name))
    }
}
