//! What a load or an update brought in force.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::backend::Interface;
use crate::model::EndpointId;

/// The desired state is in force, but for the endpoints named here.
///
/// They are tried again with every further update, and by [`Dataplane::maintain`](crate::backend::Dataplane::maintain).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "endpoints that were not reached are only told here"]
pub struct Applied {
    /// Interfaces that could not be guarded, in order.
    pub unreached: Vec<Unreached>,
    /// What an operator should know of the way there though everything is in force, one line each: for example that the flows of an
    /// earlier process could not be taken over. Told once.
    pub warnings: Vec<String>,
}

impl Applied {
    /// Everything is in force.
    pub const COMPLETE: Self = Self { unreached: Vec::new(), warnings: Vec::new() };

    /// Everything is in force but for these.
    pub const fn but_for(unreached: Vec<Unreached>) -> Self {
        Self { unreached, warnings: Vec::new() }
    }

    /// Whether every endpoint was reached.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.unreached.is_empty()
    }
}

/// An interface that could not be guarded; mostly it is gone, because its workload is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unreached {
    /// The endpoint that is bound to it; `None` for a closed interface or an uplink.
    pub endpoint: Option<EndpointId>,
    /// The interface.
    pub interface: Interface,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Some(endpoint) => write!(f, "{endpoint}: interface {}: {}", self.interface, self.reason),
            None => write!(f, "interface {}: {}", self.interface, self.reason),
        }
    }
}
