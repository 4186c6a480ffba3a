//! Why something cannot be lowered.

use core::fmt;

/// Why a snapshot or delta could not be lowered. Nothing was written anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowerError(pub(crate) Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Generation { found: u64, expected: u64 },
    Invalid,
    Limit { map: &'static str, limit: u32, needed: usize },
    BoundTwice { interface: u32 },
    TwoForAll,
    Addresses { interface: u32 },
    Mark { bits: u32, values: u32 },
}

impl LowerError {
    pub(crate) const fn invalid() -> Self {
        Self(Kind::Invalid)
    }

    pub(crate) const fn limit_of(map: &'static str, limit: u32, needed: usize) -> Self {
        Self(Kind::Limit { map, limit, needed })
    }

    /// The field of [`Capacity`](crate::Capacity) that is too small, its value, and how much is needed at least.
    #[must_use]
    pub const fn limit(&self) -> Option<(&'static str, u32, usize)> {
        match self.0 {
            Kind::Limit { map, limit, needed } => Some((map, limit, needed)),
            _ => None,
        }
    }
}

impl fmt::Display for LowerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Generation { found, expected } => {
                write!(f, "the delta starts from generation {expected}, the maps are at {found}")
            }
            Kind::Invalid => f.write_str("the snapshot breaks an invariant, see `Snapshot::verify`"),
            Kind::Limit { map, limit, needed } => {
                write!(f, "the policy does not fit: `{map}` holds {limit}, {needed} are needed")
            }
            Kind::BoundTwice { interface } => write!(f, "interface {interface} is bound to two endpoints"),
            Kind::TwoForAll => f.write_str("two host endpoints are bound to all interfaces"),
            Kind::Addresses { interface } => {
                write!(f, "the workload at interface {interface} has more than four addresses of one family")
            }
            Kind::Mark { bits, values } => {
                write!(
                    f,
                    "the mark bits {bits:#010x} cannot carry {values} classes and two bits more in one piece"
                )
            }
        }
    }
}

impl core::error::Error for LowerError {}
