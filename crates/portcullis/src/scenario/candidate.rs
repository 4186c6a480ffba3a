//! An end that a peer may stand for.

use core::net::IpAddr;

use portcullis_core::model::{Endpoint, EndpointId};
use portcullis_core::net::IpVersion;
use portcullis_core::path::End;

/// An end with the addresses to choose from. Without an end, the owner of the chosen address is meant.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) end: Option<End>,
    pub(super) addresses: Vec<IpAddr>,
    /// Other pods of the same workload that policy cannot tell from this one.
    pub(super) twins: Vec<EndpointId>,
    pub(super) standing: Standing,
}

/// What an end is in its workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was named itself.
    Itself,
    /// It is one of several known pods of the workload that was named.
    OneOfSeveral,
    /// It is the only known pod of the workload that was named, or stands for its pods, and there may be more.
    OneForMore,
}

impl Candidate {
    pub(super) fn of(end: Option<End>, addresses: Vec<IpAddr>) -> Self {
        Self { end, addresses, twins: Vec::new(), standing: Standing::Itself }
    }

    pub(super) fn endpoint(endpoint: &Endpoint) -> Self {
        Self::of(Some(End::Endpoint(endpoint.id.clone())), endpoint.addresses.clone())
    }

    pub(super) fn address(&self, version: IpVersion) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| IpVersion::of(address) == version)
    }
}
