//! Which endpoint has an address.

use alloc::vec::Vec;
use core::net::IpAddr;

use portcullis_core::net::canonical;

use crate::address_map::AddressMap;
use crate::endpoints::EndpointHandle;
use crate::packet::{Addresses, PacketKey};

/// The addresses of endpoints, for callers that do not know the endpoint of a packet yet. The IR does not hold them,
/// so the caller keeps it: [`Directory::set`] for each address that comes or goes.
///
/// An entry of an endpoint that is gone is denied everything, as its handle is.
#[derive(Clone, Debug)]
pub struct Directory {
    v4: AddressMap<u32, 8>,
    v6: AddressMap<u128, 6>,
    handles: Vec<EndpointHandle>,
    free: Vec<u32>,
}

impl Default for Directory {
    fn default() -> Self {
        Self { v4: AddressMap::new(), v6: AddressMap::new(), handles: Vec::new(), free: Vec::new() }
    }
}

impl Directory {
    /// A directory without addresses.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that `address` is that of `endpoint`, or of none. An IPv4-mapped address counts as its IPv4 address.
    pub fn set(&mut self, address: IpAddr, endpoint: Option<EndpointHandle>) {
        let known = match canonical(address) {
            IpAddr::V4(address) => self.v4.find(address.to_bits()),
            IpAddr::V6(address) => self.v6.find(address.to_bits()),
        };
        let place = match (known, endpoint) {
            (Some(place), Some(endpoint)) => {
                self.put(place, endpoint);
                return;
            }
            (None, Some(endpoint)) => {
                let next = u32::try_from(self.handles.len()).unwrap_or(u32::MAX);
                let place = self.free.pop().unwrap_or(next);
                self.put(place, endpoint);
                Some(place)
            }
            (Some(place), None) => {
                self.free.push(place);
                None
            }
            (None, None) => return,
        };
        match canonical(address) {
            IpAddr::V4(address) => self.v4.set(address.to_bits(), place),
            IpAddr::V6(address) => self.v6.set(address.to_bits(), place),
        }
    }

    fn put(&mut self, place: u32, endpoint: EndpointHandle) {
        let slot = usize::try_from(place).ok().and_then(|at| self.handles.get_mut(at));
        match slot {
            Some(slot) => *slot = endpoint,
            None => self.handles.push(endpoint),
        }
    }

    /// The endpoints at the source and the destination of a packet; `None` for an address that is not listed.
    #[inline]
    #[must_use]
    pub fn ends(&self, packet: &PacketKey) -> (Option<EndpointHandle>, Option<EndpointHandle>) {
        let (source, destination) = match packet.addresses {
            Addresses::V4 { source, destination } => (self.v4.find(source), self.v4.find(destination)),
            Addresses::V6 { source, destination } => (self.v6.find(source), self.v6.find(destination)),
        };
        let handle = |place: Option<u32>| self.handles.get(usize::try_from(place?).ok()?).copied();
        (handle(source), handle(destination))
    }
}
