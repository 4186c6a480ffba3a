//! How much the compiler keeps, for metrics and for tests that nothing is kept for ever.

use alloc::vec::Vec;

use super::Compiler;

/// One of the tables inside a [`Compiler`]: how many entries are in use, and how many there is room for.
///
/// Room grows with the most that was ever in use at once (and in the two commits around a change), not with the number of
/// changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slots {
    /// What an entry is, in the plural: a word of the glossary.
    pub name: &'static str,
    /// Entries in use.
    pub used: usize,
    /// Entries there is a number for, free ones included.
    pub numbered: usize,
}

impl Compiler {
    /// The tables of the compiler, always in the same order. Their names are for people and may change.
    #[must_use]
    pub fn slots(&self) -> Vec<Slots> {
        let interned = |name, (used, numbered): (usize, u32)| Slots {
            name,
            used,
            numbered: usize::try_from(numbered).unwrap_or(usize::MAX),
        };
        let [policies, profiles] = self.policies.slots();
        let (groups, owners) = (self.groups.slots(), self.owners.slots());
        let prefixes = self.addresses.prefix_count();
        alloc::vec![
            interned("policies", policies),
            interned("profiles", profiles),
            interned("groups", groups),
            interned("address owners", owners),
            Slots { name: "prefixes", used: prefixes, numbered: prefixes },
            interned("predicates", self.predicates.plain.slots()),
            interned("port predicates", self.predicates.ports.slots()),
            interned("classes", self.addresses.classes.slots()),
            interned("projections", self.programs.projections.sets.slots()),
            interned("programs", self.programs.keys.slots()),
            interned("L4 tables", self.tables.tables.slots()),
            interned("decisions", self.tables.decisions.slots()),
            interned("L7 programs", self.tables.l7.slots()),
        ]
    }
}
