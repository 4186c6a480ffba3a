//! One direction of an interface, as the kernel names both.

use aya::programs::TcAttachType;
use nix::errno::Errno;

use crate::error::{Context as _, LoadError};

/// Which packets of an interface, as the host sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub(crate) const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    pub(crate) const fn attach_type(self) -> TcAttachType {
        match self {
            Self::Ingress => TcAttachType::Ingress,
            Self::Egress => TcAttachType::Egress,
        }
    }
}

/// The name of an interface, for calls that take no number.
pub(crate) fn interface_name(interface: u32) -> Result<String, LoadError> {
    let name = nix::net::if_::if_indextoname(interface).context("no such interface")?;
    let name = name.to_str().context("no such interface")?;
    // What nix 0.31 answers for a number that no interface has.
    if name.is_empty() {
        return Err(LoadError::new("no such interface", Errno::ENODEV));
    }
    Ok(name.to_owned())
}
