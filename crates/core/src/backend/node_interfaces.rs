//! The interfaces and addresses that the node itself has.

use alloc::collections::BTreeMap;
use core::net::IpAddr;

use crate::label::Name;
use crate::net::canonical;

/// The interfaces of the node and its own addresses, as the machine has them now.
///
/// Where they are not known, more flows count as forwarded ones than are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInterfaces {
    indexes: BTreeMap<Name, u32>,
    /// The interface of each address; `None` where several have it.
    addresses: BTreeMap<IpAddr, Option<Name>>,
}

impl NodeInterfaces {
    /// No interfaces.
    #[must_use]
    pub const fn new() -> Self {
        Self { indexes: BTreeMap::new(), addresses: BTreeMap::new() }
    }

    /// Adds an interface by the kernel's name and index.
    #[must_use]
    pub fn with_interface(mut self, name: &str, index: u32) -> Self {
        self.indexes.insert(name.into(), index);
        self
    }

    /// Adds an address of the node on the interface called `name`.
    #[must_use]
    pub fn with_address(mut self, name: &str, address: IpAddr) -> Self {
        self.addresses
            .entry(canonical(address))
            .and_modify(|interface| *interface = interface.take().filter(|other| other.as_str() == name))
            .or_insert_with(|| Some(name.into()));
        self
    }

    /// The kernel's index of the interface called `name`.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<u32> {
        self.indexes.get(name).copied()
    }

    /// Whether `address` is the node's own. Loopback addresses always are.
    #[must_use]
    pub fn has(&self, address: &IpAddr) -> bool {
        address.is_loopback() || self.addresses.contains_key(address)
    }

    /// The one interface that has `address`.
    #[must_use]
    pub fn interface_of(&self, address: &IpAddr) -> Option<&str> {
        self.addresses.get(address)?.as_ref().map(Name::as_str)
    }
}
