//! Ids of what the compiler keeps: indices that never leave it.

use crate::ir::Id;

macro_rules! compiler_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(super) struct $name(u32);

        impl Id for $name {
            fn new(number: u32) -> Self {
                Self(number)
            }
            fn number(self) -> u32 {
                self.0
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

compiler_id!(
    /// What nodes have in common before the programs of their endpoints: failsafe ports of hosts, tunnels of workloads.
    PreludeIx
);
compiler_id!(
    /// A [`Group`](super::groups::Group).
    GroupId
);
compiler_id!(
    /// An [`AddressOwner`](super::owners::AddressOwner).
    AddressOwnerIx
);
compiler_id!(
    /// One version of a policy: a changed policy gets a new one, so everything that refers to it changes too.
    PolicyIx
);
compiler_id!(
    /// One version of a profile, or of its absence.
    ProfileIx
);
compiler_id!(
    /// A [`Predicate`](super::signature::Predicate).
    PredicateId
);
compiler_id!(
    /// A [`PortPredicate`](super::signature::PortPredicate).
    PortPredicateId
);

impl PreludeIx {
    /// Those of nodes without settings of their own.
    pub(super) const EVERY_NODE: Self = Self(0);
}
