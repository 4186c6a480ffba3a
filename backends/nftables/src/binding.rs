//! Which interface and addresses an endpoint has on this node.

use alloc::collections::BTreeMap;
use core::fmt;
use core::net::IpAddr;

use portcullis_core::label::Name;
use portcullis_core::model::EndpointId;
use portcullis_core::net::canonical;

/// The name of a network interface, or the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interface(Name);

impl Interface {
    /// Longest name in bytes; the kernel's `IFNAMSIZ` less the final zero.
    pub const MAX_LEN: usize = 15;

    /// A checked name.
    ///
    /// # Errors
    /// When it is empty, longer than [`Interface::MAX_LEN`], or holds what the kernel or the nft language does not
    /// take: space, control characters, `/`, `:`, `"`, `*`, or bytes beyond ASCII.
    pub fn new(name: &str) -> Result<Self, InterfaceError> {
        let bad = |c: char| !c.is_ascii_graphic() || matches!(c, '/' | ':' | '"' | '*' | '\\');
        if name.is_empty() || name.len() > Self::MAX_LEN || name.contains(bad) || matches!(name, "." | "..") {
            return Err(InterfaceError(name.into()));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) const fn name(&self) -> &Name {
        &self.0
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is no interface name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceError(String);

impl fmt::Display for InterfaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no interface name: 1 to {} printable ASCII characters without `/`, `:`, `*`, `\"` and `\\`",
            self.0,
            Interface::MAX_LEN
        )
    }
}

impl core::error::Error for InterfaceError {}

/// Where the packets of one endpoint pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// A workload behind one host-side interface. Only packets with one of these addresses are its own: others that
    /// pass the interface are unknown, and unknown is dropped. IPv4-mapped addresses stand for their IPv4 address.
    Workload {
        /// The host's end of its interface.
        interface: Interface,
        /// Its addresses.
        addresses: Vec<IpAddr>,
    },
    /// A workload behind one host-side interface, whatever the addresses. For networks that keep sources honest
    /// themselves.
    WorkloadAnyAddress {
        /// The host's end of its interface.
        interface: Interface,
    },
    /// A host endpoint on one interface, which is no workload's.
    Host {
        /// The interface.
        interface: Interface,
    },
    /// A host endpoint for all interfaces of the host but the loopback, as far as they have no host endpoint of their
    /// own; at most one a node. It guards those of workloads, too (decision D24): packets that come from a workload meet
    /// its pre-DNAT policy and, when they are forwarded, its forward ingress policy; those forwarded to a workload meet its
    /// forward egress policy; those from a workload to the host meet its host ingress policy where
    /// [`crate::Options::with_workload_to_host`] says so. What the host itself sends to a workload meets none of it (decision
    /// D11). Its untracked policy is ignored (decision D25). While it is bound but not in the snapshot, there are no rules for
    /// it, and packets pass as if it were not bound.
    AllInterfaces,
}

/// The endpoints of this node.
pub type Bindings = BTreeMap<EndpointId, Binding>;

impl Binding {
    /// A workload with these addresses.
    #[must_use]
    pub fn workload(interface: Interface, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self::Workload { interface, addresses: addresses.into_iter().map(canonical).collect() }
    }
}
